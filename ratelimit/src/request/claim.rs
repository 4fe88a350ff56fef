//! A claim of a JSON Web Token that nobody verifies here: `rate_limit_descriptors.jwt_claim`.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// The algorithms of a token that counts as well-formed (RFC 7518 section 3.1, RFC 8037).
const ALGORITHMS: [&str; 14] = [
    "EdDSA", "ES256", "ES384", "ES512", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512",
    "PS256", "PS384", "PS512", "ES256K",
];

/// The text of the claim `name` in `token`; dots in the name lead into nested claims. `None` when
/// the token is not well-formed, or has no such claim that is a text.
pub(super) fn text(token: &str, name: &str) -> Option<String> {
    let mut parts = token.split('.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || BASE64_URL_SAFE_NO_PAD.decode(signature).is_err() {
        return None;
    }
    let header = object(header)?;
    let algorithm = header.get("alg").and_then(Value::as_str)?;
    if !ALGORITHMS.contains(&algorithm) || !header.get("kid").is_none_or(Value::is_string) {
        return None;
    }
    let payload = object(payload)?;
    if !registered_claims_fit(&payload) {
        return None;
    }
    let mut names = name.split('.');
    let first = payload.get(names.next()?)?;
    let claim = names.try_fold(first, |value, name| value.get(name))?;
    claim.as_str().map(str::to_owned)
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// Whether the claims that RFC 7519 section 4.1 names have its types.
fn registered_claims_fit(payload: &Map<String, Value>) -> bool {
    let all = |names: &[&str], fits: fn(&Value) -> bool| {
        names.iter().all(|name| payload.get(*name).is_none_or(fits))
    };
    all(&["iss", "sub", "jti"], Value::is_string)
        && all(&["iat", "nbf", "exp"], |time| time.as_f64().is_some_and(|time| time >= 0.0))
        && all(&["aud"], |audience| match audience {
            Value::Array(all) => all.iter().all(Value::is_string),
            one => one.is_string(),
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(header: &Value, payload: &Value) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2ln", part(header), part(payload))
    }

    fn claim(payload: &Value, name: &str) -> Option<String> {
        text(&token(&json!({"alg": "RS256"}), payload), name)
    }

    #[test]
    fn claims_that_are_texts_are_found_at_any_depth() {
        let payload = json!({"sub": "bob", "a": {"b": "deep"}, "n": 5, "empty": ""});
        assert_eq!(claim(&payload, "sub").as_deref(), Some("bob"));
        assert_eq!(claim(&payload, "a.b").as_deref(), Some("deep"));
        assert_eq!(claim(&payload, "empty").as_deref(), Some(""));
        for absent in ["n", "a", "a.c", "sub.x", "", "none"] {
            assert_eq!(claim(&payload, absent), None, "{absent}");
        }
    }

    #[test]
    fn a_token_that_is_not_well_formed_has_no_claims() {
        let good = json!({"sub": "bob"});
        let alg = json!({"alg": "RS256"});
        for bad in [
            token(&json!({}), &good),
            token(&json!({"alg": "none"}), &good),
            token(&json!({"alg": "RS256", "kid": 1}), &good),
            token(&alg, &json!({"sub": "bob", "exp": "soon"})),
            token(&alg, &json!({"sub": "bob", "aud": [1]})),
            token(&alg, &json!([])),
            format!("{}.x", token(&alg, &good)),
            token(&alg, &good).replace("c2ln", "%"),
            "x.y.z".to_owned(),
            String::new(),
        ] {
            assert_eq!(text(&bad, "sub"), None, "{bad}");
        }
    }
}
