//! Envoy's dynamic-module ABI, made safe: filters, streams, work off the worker, gRPC
