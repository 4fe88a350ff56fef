"""A processor on the third-party SDK envoy-extproc-sdk, which handles streams, phases and responses; the
callbacks are ours. Prints its port."""

import asyncio
import contextlib
import hashlib
import sys
import types

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def stand_in(name, **members):
    """A package that the SDK imports, and that is not needed for what it does here."""
    module = types.ModuleType(name)
    module.__dict__.update(members)
    module.__path__ = []
    sys.modules[name] = module


class Tracer:
    def trace(self, *_, **__):
        return contextlib.nullcontext()

    def configure(self, *_, **__):
        pass


stand_in("ddtrace", tracer=Tracer(), Span=object)
stand_in("ddtrace.filters", TraceFilter=object)
# Its name for another version of the health checks.
stand_in("grpc_health_check")
stand_in("grpc_health_check.v1", health_pb2=health_pb2, health_pb2_grpc=health_pb2_grpc)
sys.modules["grpc_health_check.v1.health_pb2"] = health_pb2
sys.modules["grpc_health_check.v1.health_pb2_grpc"] = health_pb2_grpc

from envoy.service.ext_proc.v3 import external_processor_pb2 as processor  # noqa: E402
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as service  # noqa: E402
from envoy_extproc_sdk import BaseExtProcService, StopRequestProcessing  # noqa: E402

sdk = BaseExtProcService(name="peer")


def set_header(response, name, value):
    # Envoy reads raw_value alone, which the SDK's own helper does not set.
    option = response.header_mutation.set_headers.add()
    option.header.key = name
    option.header.raw_value = value.encode()


def value_of(headers, name):
    return next((h.raw_value.decode() for h in headers.headers.headers if h.key == name), None)


@sdk.process("request_headers")
async def request_headers(headers, context, request, response):
    request["hash"] = hashlib.sha256()
    request["length"] = 0
    if value_of(headers, "x-deny"):
        answer = processor.ImmediateResponse(status={"code": 403}, body=b"denied", details="peer")
        raise StopRequestProcessing(response=answer, reason="x-deny")
    set_header(response, "x-path", value_of(headers, ":path"))
    return response


@sdk.process("request_body")
async def request_body(body, context, request, response):
    request["hash"].update(body.body)
    request["length"] += len(body.body)
    if body.end_of_stream:
        set_header(response, "x-hash", request["hash"].hexdigest())
    return response


@sdk.process("response_headers")
async def response_headers(headers, context, request, response):
    set_header(response, "x-length", str(request["length"]))
    return response


async def main():
    server = grpc.aio.server()
    service.add_ExternalProcessorServicer_to_server(sdk, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


asyncio.run(main())
