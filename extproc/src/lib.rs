//! External processing for Envoy as a dynamic module
