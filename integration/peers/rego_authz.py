"""An authorization service around a third-party Rego engine, as policy agents for Envoy are: the
policy's input is the CheckRequest, its result says what the reply holds. Prints its port."""

import pathlib
from concurrent.futures import ThreadPoolExecutor

import grpc
from envoy.service.auth.v3 import external_auth_pb2 as auth
from envoy.service.auth.v3 import external_auth_pb2_grpc as service
from google.protobuf import json_format
from regopy import Interpreter

POLICY = pathlib.Path(__file__).with_name("authz.rego").read_text()


class Policy(service.AuthorizationServicer):
    def Check(self, request, context):
        engine = Interpreter()
        engine.add_module("gateway", POLICY)
        engine.set_input(json_format.MessageToDict(request))
        answer = engine.query("data.gateway.reply").results[0].expressions[0]
        return json_format.ParseDict(answer, auth.CheckResponse())


server = grpc.server(ThreadPoolExecutor(max_workers=2))
service.add_AuthorizationServicer_to_server(Policy(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination()
