//! The harness: a real Envoy, scriptable gRPC services, the built-in filters as oracle
