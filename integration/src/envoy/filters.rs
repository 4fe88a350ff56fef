//! Envoy's own filters that stand beside ours in tests.

use serde_json::{Value, json};

/// A built-in HTTP filter: `message` is its configuration's type without the common prefix.
#[must_use]
pub fn builtin_filter(name: &str, message: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("type.googleapis.com/envoy.extensions.filters.http.{message}"));
    json!({"name": name, "typed_config": config})
}

/// The filter `lua` with this code.
#[must_use]
pub fn lua(code: &str) -> Value {
    builtin_filter("lua", "lua.v3.Lua", json!({"default_source_code": {"inline_string": code}}))
}

/// The filter `header_mutation` with these changes of the request.
#[must_use]
pub fn header_mutation(changes: &Value) -> Value {
    let config = json!({"mutations": {"request_mutations": changes}});
    builtin_filter("header_mutation", "header_mutation.v3.HeaderMutation", config)
}

/// Two users of [`jwt_authn`].
pub const TOKENS: [&str; 2] = [
    "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsifQ.eyJpc3MiOiJpIiwic3ViIjoiZ29vZCJ9.ySD4tkfFnM8i2FhnD_EE0zh2eMLnfekSy31Ix2Cr-_A",
    "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsifQ.eyJpc3MiOiJpIiwic3ViIjoiYmxvY2tlZCJ9.NwaETezw2C9kuxTs-oNE7YnlOHTkWSlHAvdZSABerAU",
];

/// The filter `jwt_authn`: a token's payload stands in its metadata, and the token itself goes on only
/// with `forward`.
#[must_use]
pub fn jwt_authn(forward: bool) -> Value {
    let key = json!({"keys": [{
        "kty": "oct", "alg": "HS256", "kid": "k", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY",
    }]});
    let provider = json!({
        "issuer": "i", "payload_in_metadata": "payload", "forward": forward,
        "local_jwks": {"inline_string": key.to_string()},
    });
    let config = json!({
        "providers": {"p": provider},
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "p"}}],
    });
    builtin_filter("jwt_authn", "jwt_authn.v3.JwtAuthentication", config)
}
