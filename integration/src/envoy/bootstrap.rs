//! Envoy's configuration, as JSON.

use serde_json::{Value, json};

const TYPE: &str = "type.googleapis.com/";
const DYNAMIC: &str = "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.";

/// One of the three filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// External authorization.
    Authz,
    /// Global rate limit.
    RateLimit,
    /// External processing.
    ExtProc,
}

/// The filter of an example: library and filter share their name.
#[must_use]
pub fn example(name: &str, config: Value) -> Value {
    json!({
        "name": name,
        "typed_config": {
            "@type": format!("{DYNAMIC}DynamicModuleFilter"),
            "dynamic_module_config": {"name": name, "do_not_close": true},
            "filter_name": name,
            "filter_config": {"@type": format!("{TYPE}google.protobuf.Struct"), "value": config},
        },
    })
}

/// The value of `typed_per_filter_config` for the filter of an example.
#[must_use]
pub fn example_route(name: &str, config: Value) -> Value {
    json!({
        "@type": format!("{DYNAMIC}DynamicModuleFilterPerRoute"),
        "dynamic_module_config": {"name": name, "do_not_close": true},
        "filter_name": name,
        "filter_config": {"@type": format!("{TYPE}google.protobuf.Struct"), "value": config},
    })
}

/// How a configuration reaches a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The built-in filter's own message.
    Message,
    /// A `google.protobuf.Struct` with the same fields.
    Struct,
    /// A `google.protobuf.StringValue` with the fields in JSON.
    Text,
    /// An `xds.type.v3.TypedStruct`.
    TypedStruct,
    /// An `udpa.type.v1.TypedStruct`.
    OldTypedStruct,
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Message, Self::Struct, Self::Text, Self::TypedStruct, Self::OldTypedStruct];
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Authz, Self::RateLimit, Self::ExtProc];

    /// `filter_name` of the module, and the filter's name in the chain.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authz => "authz",
            Self::RateLimit => "ratelimit",
            Self::ExtProc => "extproc",
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::Authz => "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
            Self::RateLimit => "envoy.extensions.filters.http.ratelimit.v3.RateLimit",
            Self::ExtProc => "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
        }
    }

    const fn route_message(self) -> &'static str {
        match self {
            Self::Authz => "envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
            Self::RateLimit => "envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute",
            Self::ExtProc => "envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute",
        }
    }

    /// The least configuration of this filter, with the service at `port`; `fields` go over it.
    #[must_use]
    pub fn config(self, fields: Value, port: u16) -> Value {
        let service = json!({
            "google_grpc": {"target_uri": format!("127.0.0.1:{port}"), "stat_prefix": "service"},
            "timeout": "2s",
        });
        let least = match self {
            Self::Authz => json!({"grpc_service": service, "transport_api_version": "V3"}),
            Self::ExtProc => json!({"grpc_service": service, "message_timeout": "2s"}),
            Self::RateLimit => json!({
                "domain": "d",
                "timeout": "2s",
                "rate_limit_service": {"grpc_service": service, "transport_api_version": "V3"},
                "rate_limits": [{"actions": [{"generic_key": {"descriptor_value": "all"}}]}],
            }),
        };
        merge(least, fields)
    }

    /// Fields by which Envoy itself carries the calls, to the cluster of [`Bootstrap::service`].
    #[must_use]
    pub fn by_cluster(self) -> Value {
        let service = json!({"grpc_service": {"envoy_grpc": {"cluster_name": "service"}, "google_grpc": null}});
        match self {
            Self::Authz | Self::ExtProc => service,
            Self::RateLimit => json!({"rate_limit_service": service}),
        }
    }

    /// Fields under which the filter waits half a minute for its service.
    #[must_use]
    pub fn patient(self) -> Value {
        match self {
            Self::Authz => json!({"grpc_service": {"timeout": "30s"}}),
            Self::RateLimit => json!({"timeout": "30s"}),
            Self::ExtProc => json!({"message_timeout": "30s"}),
        }
    }

    /// Our filter; see [`Kind::config`].
    #[must_use]
    pub fn module(self, fields: Value, port: u16) -> Value {
        if calls().is_some() {
            return self.module_with(json!({}), fields, port);
        }
        self.module_raw(Form::Message, self.config(fields, port))
    }

    /// Our filter with `callout` beside its fields; see [`Kind::config`].
    #[must_use]
    pub fn module_with(self, callout: Value, fields: Value, port: u16) -> Value {
        let callout = merge(calls().unwrap_or_else(|| json!({})), callout);
        let config = merge(self.config(fields, port), json!({"callout": callout}));
        self.module_raw(Form::Struct, config)
    }

    /// Our filter with exactly this configuration.
    #[must_use]
    pub fn module_raw(self, form: Form, config: Value) -> Value {
        self.module_any(self.any(form, self.message(), config))
    }

    /// Our filter with any `filter_config`.
    #[must_use]
    pub fn module_any(self, filter_config: Value) -> Value {
        let mut module = self.wrapped(filter_config);
        module["@type"] = json!(format!("{DYNAMIC}DynamicModuleFilter"));
        json!({"name": self.name(), "typed_config": module})
    }

    /// The built-in filter; see [`Kind::config`].
    #[must_use]
    pub fn builtin(self, fields: Value, port: u16) -> Value {
        let mut config = self.config(fields, port);
        config["@type"] = json!(format!("{TYPE}{}", self.message()));
        json!({"name": self.name(), "typed_config": config})
    }

    /// `typed_per_filter_config` for our filter.
    #[must_use]
    pub fn module_route(self, form: Form, config: Value) -> Value {
        let mut module = self.wrapped(self.any(form, self.route_message(), config));
        module["@type"] = json!(format!("{DYNAMIC}DynamicModuleFilterPerRoute"));
        json!({self.name(): module})
    }

    /// `typed_per_filter_config` for the built-in filter.
    #[must_use]
    pub fn builtin_route(self, mut config: Value) -> Value {
        config["@type"] = json!(format!("{TYPE}{}", self.route_message()));
        json!({self.name(): config})
    }

    /// The bootstrap extension that adds this module's paths to the admin interface.
    #[must_use]
    pub fn admin(self) -> Value {
        json!({"name": "envoy.bootstrap.dynamic_modules", "typed_config": {
            "@type": format!("{TYPE}envoy.extensions.bootstrap.dynamic_modules.v3.DynamicModuleBootstrapExtension"),
            "dynamic_module_config": {
                "name": format!("callout_{}", self.name()), "do_not_close": true,
            },
            "extension_name": "admin",
        }})
    }

    fn wrapped(self, filter_config: Value) -> Value {
        json!({
            "dynamic_module_config": {
                "name": format!("callout_{}", self.name()),
                "do_not_close": true,
            },
            "filter_name": self.name(),
            "filter_config": filter_config,
        })
    }

    fn any(self, form: Form, message: &str, mut config: Value) -> Value {
        match form {
            Form::Message => {
                config["@type"] = json!(format!("{TYPE}{message}"));
                config
            }
            Form::Struct => {
                json!({"@type": format!("{TYPE}google.protobuf.Struct"), "value": config})
            }
            Form::Text => json!({
                "@type": format!("{TYPE}google.protobuf.StringValue"),
                "value": config.to_string(),
            }),
            Form::TypedStruct => typed_struct("xds.type.v3", message, config),
            Form::OldTypedStruct => typed_struct("udpa.type.v1", message, config),
        }
    }
}

/// `callout.calls` of every filter that does not say otherwise: `CALLOUT_CALLS`, so that a whole test runs
/// either way.
fn calls() -> Option<Value> {
    Some(json!({"calls": std::env::var("CALLOUT_CALLS").ok()?}))
}

fn typed_struct(package: &str, message: &str, config: Value) -> Value {
    json!({
        "@type": format!("{TYPE}{package}.TypedStruct"),
        "type_url": format!("{TYPE}{message}"),
        "value": config,
    })
}

/// `over` laid over `base`: objects are merged, everything else replaced, `null` removes.
#[must_use]
pub fn merge(base: Value, over: Value) -> Value {
    match (base, over) {
        (Value::Object(mut base), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    base.remove(&key);
                    continue;
                }
                let merged = match base.remove(&key) {
                    Some(old) => merge(old, value),
                    None => value,
                };
                base.insert(key, merged);
            }
            Value::Object(base)
        }
        (_, over) => over,
    }
}

/// A whole configuration: one listener, one virtual host, one upstream.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// The filters before the router.
    pub filters: Vec<Value>,
    /// The routes; by default everything goes to the upstream.
    pub routes: Vec<Value>,
    /// Laid over the HTTP connection manager.
    pub hcm: Value,
    /// Laid over the listener.
    pub listener: Value,
    /// Laid over the upstream's cluster.
    pub cluster: Value,
    /// Port of a gRPC service that Envoy itself is to know, as the cluster `service`.
    pub service: Option<u16>,
    /// Whether Envoy speaks HTTP/2 to the upstream.
    pub http2_upstream: bool,
    /// Port of a collector of spans, as the cluster `collector`: every request is traced.
    pub collector: Option<u16>,
    /// Bootstrap extensions.
    pub extensions: Vec<Value>,
    /// Ports of further hosts of the upstream.
    pub more_hosts: Vec<u16>,
    upstream: u16,
}

impl Bootstrap {
    /// Everything through `filters` to the upstream at `port`.
    #[must_use]
    pub fn new(port: u16, filters: Vec<Value>) -> Self {
        let routes = vec![json!({"match": {"prefix": "/"}, "route": {"cluster": "upstream"}})];
        let (hcm, listener, cluster) = (json!({}), json!({}), json!({}));
        let (service, http2_upstream) = (None, false);
        let (more_hosts, extensions, collector) = (Vec::new(), Vec::new(), None);
        Self {
            filters,
            routes,
            hcm,
            listener,
            cluster,
            service,
            http2_upstream,
            collector,
            extensions,
            more_hosts,
            upstream: port,
        }
    }

    /// With `typed_per_filter_config` on the first route.
    #[must_use]
    pub fn per_route(mut self, config: Value) -> Self {
        if let Some(route) = self.routes.first_mut() {
            route["typed_per_filter_config"] = config;
        }
        self
    }

    /// The listener alone; `log` is the path of the access log.
    #[must_use]
    pub fn listener(&self, log: &str) -> Value {
        let mut filters = self.filters.clone();
        filters.push(json!({
            "name": "router",
            "typed_config": {"@type": format!("{TYPE}envoy.extensions.filters.http.router.v3.Router")},
        }));
        let manager = json!({
            "@type": format!("{TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "test",
            "codec_type": "AUTO",
            "http_protocol_options": {"enable_trailers": true},
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "access_log": [{"name": "file", "typed_config": {
                "@type": format!("{TYPE}envoy.extensions.access_loggers.file.v3.FileAccessLog"),
                "path": log,
                "log_format": {"json_format": {
                    "code": "%RESPONSE_CODE%", "flags": "%CUSTOM_FLAGS%", "details": "%RESPONSE_CODE_DETAILS%", "path": "%REQ(:path)%",
                    "authz": "%DYNAMIC_METADATA(callout.authz)%",
                    "ratelimit": "%DYNAMIC_METADATA(callout.ratelimit)%",
                    "extproc": "%DYNAMIC_METADATA(callout.extproc)%",
                    "extproc_state": "%FILTER_STATE(envoy.filters.http.ext_proc:PLAIN)%",
                }},
            }}],
            "route_config": {"name": "routes", "virtual_hosts": [
                {"name": "host", "domains": ["*"], "routes": self.routes},
            ]},
            "http_filters": filters,
        });
        let tracing = if self.collector.is_some() {
            json!({"tracing": {"random_sampling": {"value": 100}, "provider": {
                "name": "envoy.tracers.opentelemetry",
                "typed_config": {
                    "@type": format!("{TYPE}envoy.config.trace.v3.OpenTelemetryConfig"),
                    "grpc_service": {"envoy_grpc": {"cluster_name": "collector"}},
                    "service_name": "gateway",
                },
            }}})
        } else {
            json!({})
        };
        let manager = merge(manager, tracing);
        let listener = json!({
            "name": "main",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"filters": [
                {"name": "http", "typed_config": merge(manager, self.hcm.clone())},
            ]}],
        });
        merge(listener, self.listener.clone())
    }

    fn common(&self) -> Value {
        let protocol = if self.http2_upstream {
            json!({"http2_protocol_options": {}})
        } else {
            json!({"http_protocol_options": {"enable_trailers": true}})
        };
        let hosts = [&[self.upstream], self.more_hosts.as_slice()].concat();
        let upstream = cluster("upstream", &hosts, protocol);
        let mut clusters = vec![merge(upstream, self.cluster.clone())];
        if let Some(port) = self.service {
            clusters.push(cluster("service", &[port], json!({"http2_protocol_options": {}})));
        }
        if let Some(port) = self.collector {
            clusters.push(cluster("collector", &[port], json!({"http2_protocol_options": {}})));
        }
        json!({
            "bootstrap_extensions": self.extensions,
            // Spans go to the collector at once.
            "layered_runtime": {"layers": [{"name": "static", "static_layer": {
                "tracing.opentelemetry.flush_interval_ms": 50,
            }}, {"name": "admin", "admin_layer": {}}]},
            "node": {"id": "n", "cluster": "c", "metadata": {"labels": {"zone": "z", "number": 1}}},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
            "static_resources": {"clusters": clusters},
        })
    }

    /// The configuration with its listener inside.
    #[must_use]
    pub fn whole(&self, log: &str) -> Value {
        merge(self.common(), json!({"static_resources": {"listeners": [self.listener(log)]}}))
    }

    /// The configuration that reads its listener from the file `path`, and again when that changes.
    #[must_use]
    pub fn with_lds(&self, path: &str) -> Value {
        let source = json!({"path_config_source": {"path": path}, "resource_api_version": "V3"});
        merge(self.common(), json!({"dynamic_resources": {"lds_config": source}}))
    }

    /// The content of that file.
    #[must_use]
    pub fn lds(&self, log: &str, version: u32) -> Value {
        let mut listener = self.listener(log);
        listener["@type"] = json!(format!("{TYPE}envoy.config.listener.v3.Listener"));
        json!({"version_info": version.to_string(), "resources": [listener]})
    }
}

fn cluster(name: &str, ports: &[u16], protocol: Value) -> Value {
    let endpoint = |port: &u16| {
        json!({"endpoint": {"address": {"socket_address": {
            "address": "127.0.0.1", "port_value": port,
        }}}})
    };
    let endpoints: Vec<Value> = ports.iter().map(endpoint).collect();
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": format!("{TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": protocol,
            },
        },
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    })
}
