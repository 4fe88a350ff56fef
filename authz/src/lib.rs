//! External authorization for Envoy as a dynamic module
