//! The filters that stand before ours or behind it.

use std::sync::Arc;

use callout_integration::envoy::{builtin_filter, jwt_authn, lua};
use callout_integration::oracle::Beside;
use callout_integration::prelude::*;

/// The service `t.Echo`, whose method `Say` takes and gives a message with one text.
const ECHO: &str = "Ck4KB3QucHJvdG8SAXQiFQoFV29yZHMSDAoEdGV4dBgBIAEoCTIhCgRFY2hvEhkKA1NheRIILnQuV29yZHMaCC50LldvcmRzYgZwcm90bzM=";

/// A filter in a chain with the one under test.
pub(crate) struct Neighbour {
    pub(crate) name: &'static str,
    pub(crate) filter: Beside,
    pub(crate) bootstrap: fn(Bootstrap) -> Bootstrap,
}

fn plain(name: &'static str, filter: Value) -> Neighbour {
    asking(name, move |_| filter.clone())
}

fn asking(name: &'static str, filter: impl Fn(u16) -> Value + Send + Sync + 'static) -> Neighbour {
    Neighbour { name, filter: Arc::new(filter), bootstrap: |bootstrap| bootstrap }
}

/// `filter` under a name of its own: there may be another of its kind in the chain.
fn named(name: &str, mut filter: Value) -> Value {
    filter["name"] = json!(name);
    filter
}

pub(crate) fn all() -> Vec<Neighbour> {
    let gzip = |kind: &str| {
        json!({"name": "gzip", "typed_config": {
            "@type": format!("type.googleapis.com/envoy.extensions.compression.gzip.{kind}.v3.Gzip"),
        }})
    };
    let modes = json!({"request_body_mode": "BUFFERED", "response_body_mode": "BUFFERED"});
    vec![
        Neighbour {
            bootstrap: cors_policy,
            ..plain("cors", builtin_filter("cors", "cors.v3.Cors", json!({})))
        },
        plain(
            "compressor",
            builtin_filter(
                "compressor",
                "compressor.v3.Compressor",
                json!({
                    "compressor_library": gzip("compressor"),
                }),
            ),
        ),
        plain(
            "decompressor",
            builtin_filter(
                "decompressor",
                "decompressor.v3.Decompressor",
                json!({
                    "decompressor_library": gzip("decompressor"),
                    "request_direction_config": {"common_config": {
                        "enabled": {"default_value": true, "runtime_key": "decompress"},
                    }},
                }),
            ),
        ),
        plain(
            "buffer",
            builtin_filter("buffer", "buffer.v3.Buffer", json!({"max_request_bytes": 65536})),
        ),
        plain(
            "lua",
            lua("function envoy_on_request(h)
               local body = h:body()
               h:headers():add('x-lua', tostring(body and body:length() or -1))
             end
             function envoy_on_response(h) h:headers():add('x-lua', 'seen') end"),
        ),
        plain("jwt_authn", jwt_authn_on_its_path()),
        plain("grpc_web", builtin_filter("grpc_web", "grpc_web.v3.GrpcWeb", json!({}))),
        plain(
            "grpc_json_transcoder",
            builtin_filter(
                "transcoder",
                "grpc_json_transcoder.v3.GrpcJsonTranscoder",
                json!({"proto_descriptor_bin": ECHO, "services": ["t.Echo"], "auto_mapping": true}),
            ),
        ),
        plain(
            "rbac",
            builtin_filter(
                "rbac",
                "rbac.v3.RBAC",
                json!({"rules": {
                    "action": "DENY",
                    "policies": {"p": {
                        "permissions": [{"url_path": {"path": {"prefix": "/rbac"}}}],
                        "principals": [{"any": true}],
                    }},
                }}),
            ),
        ),
        plain("composite", composite()),
        asking("ext_authz (built-in)", |port| {
            named("neighbour", Kind::Authz.builtin(json!({}), port))
        }),
        asking("ext_proc (built-in)", |port| {
            named("neighbour", Kind::ExtProc.builtin(json!({}), port))
        }),
        asking("ratelimit (built-in)", |port| {
            named("neighbour", Kind::RateLimit.builtin(json!({}), port))
        }),
        asking("authz", |port| named("neighbour", Kind::Authz.module(json!({}), port))),
        asking("ratelimit", |port| named("neighbour", Kind::RateLimit.module(json!({}), port))),
        asking("extproc", |port| named("neighbour", Kind::ExtProc.module(json!({}), port))),
        asking("extproc BUFFERED", move |port| {
            named("neighbour", Kind::ExtProc.module(json!({"processing_mode": modes}), port))
        }),
    ]
}

fn cors_policy(bootstrap: Bootstrap) -> Bootstrap {
    bootstrap.per_route(json!({"cors": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"exact": "http://ok.test"}],
        "allow_methods": "GET,POST",
        "expose_headers": "x-e",
    }}))
}

fn jwt_authn_on_its_path() -> Value {
    let mut filter = jwt_authn(false);
    filter["typed_config"]["rules"][0]["match"]["prefix"] = json!("/jwt");
    filter
}

/// Sets a header of requests to `/composite`.
fn composite() -> Value {
    let prefix = "type.googleapis.com/envoy.extensions.filters";
    let mutation = json!({
        "@type": format!("{prefix}.http.header_mutation.v3.HeaderMutation"),
        "mutations": {"request_mutations": [
            {"append": {"header": {"key": "x-composite", "value": "1"}}},
        ]},
    });
    let action = json!({"name": "run", "typed_config": {
        "@type": format!("{prefix}.http.composite.v3.ExecuteFilterAction"),
        "typed_config": {"name": "mutation", "typed_config": mutation},
    }});
    let matcher = json!({"matcher_tree": {
        "input": {"name": "path", "typed_config": {
            "@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
            "header_name": ":path",
        }},
        "exact_match_map": {"map": {"/composite": {"action": action}}},
    }});
    json!({"name": "composite", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher",
        "extension_config": {"name": "composite", "typed_config": {
            "@type": format!("{prefix}.http.composite.v3.Composite"),
        }},
        "xds_matcher": matcher,
    }})
}
