//! The wire: the messages of Envoy's API that the suite honours, with Envoy's package, message and
//! field names and numbers. Each has prost's binary form and proto3 JSON (through serde).
//!
//! The definitions in `proto/` are our own and hold only what is honoured or has to be refused by
//! name; `tests/equality.rs` proves that what they hold is what Envoy's own API says. Modules mirror
//! packages: `envoy.service.auth.v3` is [`envoy::service::auth::v3`].
#![allow(
    missing_docs,
    missing_debug_implementations,
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::use_self,
    clippy::unwrap_used,
    clippy::or_fun_call,
    clippy::manual_let_else,
    clippy::indexing_slicing,
    rustdoc::all,
    reason = "the modules below are generated"
)]

pub use pbjson_types;

/// The serialized `google.protobuf.FileDescriptorSet` of everything in this crate.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

macro_rules! include_package {
    ($package:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $package, ".rs"));
        include!(concat!(env!("OUT_DIR"), "/", $package, ".serde.rs"));
    };
}

pub mod envoy {
    pub mod config {
        pub mod common {
            pub mod mutation_rules {
                pub mod v3 {
                    include_package!("envoy.config.common.mutation_rules.v3");
                }
            }
        }
        pub mod core {
            pub mod v3 {
                include_package!("envoy.config.core.v3");
            }
        }
        pub mod ratelimit {
            pub mod v3 {
                include_package!("envoy.config.ratelimit.v3");
            }
        }
        pub mod route {
            pub mod v3 {
                include_package!("envoy.config.route.v3");
            }
        }
    }
    pub mod extensions {
        pub mod common {
            pub mod ratelimit {
                pub mod v3 {
                    include_package!("envoy.extensions.common.ratelimit.v3");
                }
            }
        }
        pub mod filters {
            pub mod http {
                pub mod ext_authz {
                    pub mod v3 {
                        include_package!("envoy.extensions.filters.http.ext_authz.v3");
                    }
                }
                pub mod ext_proc {
                    pub mod v3 {
                        include_package!("envoy.extensions.filters.http.ext_proc.v3");
                    }
                }
                pub mod ratelimit {
                    pub mod v3 {
                        include_package!("envoy.extensions.filters.http.ratelimit.v3");
                    }
                }
            }
        }
        pub mod rate_limit_descriptors {
            pub mod expr {
                pub mod v3 {
                    include_package!("envoy.extensions.rate_limit_descriptors.expr.v3");
                }
            }
            pub mod jwt_claim {
                pub mod v3 {
                    include_package!("envoy.extensions.rate_limit_descriptors.jwt_claim.v3");
                }
            }
        }
    }
    pub mod service {
        pub mod auth {
            pub mod v3 {
                include_package!("envoy.service.auth.v3");
            }
        }
        pub mod ext_proc {
            pub mod v3 {
                include_package!("envoy.service.ext_proc.v3");
            }
        }
        pub mod ratelimit {
            pub mod v3 {
                include_package!("envoy.service.ratelimit.v3");
            }
        }
    }
    pub mod r#type {
        pub mod matcher {
            pub mod v3 {
                include_package!("envoy.r#type.matcher.v3");
            }
        }
        pub mod metadata {
            pub mod v3 {
                include_package!("envoy.r#type.metadata.v3");
            }
        }
        pub mod v3 {
            include_package!("envoy.r#type.v3");
        }
    }
}
pub mod google {
    pub mod rpc {
        include_package!("google.rpc");
    }
}
pub mod xds {
    pub mod core {
        pub mod v3 {
            include_package!("xds.core.v3");
        }
    }
}
