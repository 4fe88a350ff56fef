//! Global rate limiting for Envoy as a dynamic module
