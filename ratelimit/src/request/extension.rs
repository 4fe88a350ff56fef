//! Actions that Envoy has as extensions.

use callout_common::ConfigError;
use callout_common::api::cel::Expression;
use callout_common::api::config::{message_of, refuse_if};
use callout_protos::envoy::config::core::v3::TypedExtensionConfig;
use callout_protos::envoy::extensions::rate_limit_descriptors::{expr, jwt_claim};
use callout_protos::envoy::r#type::matcher::v3::{
    HttpRequestHeaderMatchInput, HttpRequestQueryParamMatchInput,
};
use expr::v3::descriptor::ExprSpecifier;
use prost::{Message, Name};

use super::actions::{Action, Value};
use super::inputs::{Carrier, Claim, Input};

impl Action {
    pub(super) fn extension(config: &TypedExtensionConfig) -> Result<Self, ConfigError> {
        let TypedExtensionConfig { name, typed_config } = config;
        let any = typed_config
            .as_ref()
            .ok_or_else(|| ConfigError::field("typed_config", "is required"))?;
        let read = || {
            if let Some(HttpRequestHeaderMatchInput { header_name }) = of(any)? {
                refuse_if(header_name.is_empty(), "header_name", "is required")?;
                let input = Input::Header(header_name.to_ascii_lowercase());
                return Ok(Self::new(name, Value::Input(input)));
            }
            if let Some(HttpRequestQueryParamMatchInput { query_param }) = of(any)? {
                refuse_if(query_param.is_empty(), "query_param", "is required")?;
                return Ok(Self::new(name, Value::Input(Input::Query(query_param))));
            }
            if let Some(config) = of(any)? {
                return expression(config);
            }
            if let Some(config) = of(any)? {
                return claim(config);
            }
            Err(ConfigError::without_path(format!("the type {} is not supported", any.type_url)))
        };
        read().map_err(|error: ConfigError| error.in_field("typed_config"))
    }
}

fn of<M: Message + Name + Default>(
    any: &callout_protos::pbjson_types::Any,
) -> Result<Option<M>, ConfigError> {
    message_of(any).transpose()
}

fn expression(config: expr::v3::Descriptor) -> Result<Action, ConfigError> {
    let expr::v3::Descriptor { descriptor_key, skip_if_error, expr_specifier } = config;
    refuse_if(descriptor_key.is_empty(), "descriptor_key", "is required")?;
    let Some(ExprSpecifier::Text(text)) = expr_specifier else {
        return Err(ConfigError::field("text", "is required"));
    };
    let expression = Expression::parse(&text).map_err(|error| error.in_field("text"))?;
    Ok(Action {
        key: descriptor_key,
        value: Value::Expression { expression: expression.into(), skip: skip_if_error },
    })
}

fn claim(config: jwt_claim::v3::Descriptor) -> Result<Action, ConfigError> {
    let jwt_claim::v3::Descriptor {
        descriptor_key,
        header_name,
        value_prefix,
        claim_name,
        default_value,
        skip_if_absent,
        cookie,
    } = config;
    refuse_if(descriptor_key.is_empty(), "descriptor_key", "is required")?;
    refuse_if(claim_name.is_empty(), "claim_name", "is required")?;
    let carrier = match (header_name.is_empty(), cookie.is_empty()) {
        (false, true) => Carrier::Header(header_name.to_ascii_lowercase()),
        (true, false) => Carrier::Cookie(cookie),
        _ => return Err(ConfigError::field("header_name", "or cookie is required, and not both")),
    };
    let claim = Claim {
        carrier,
        prefix: value_prefix,
        name: claim_name,
        default: default_value,
        skip: skip_if_absent,
    };
    Ok(Action { key: descriptor_key, value: Value::Claim(claim) })
}

#[cfg(test)]
mod tests {
    use super::super::entry::DescriptorEntry;
    use super::super::tests::Fake;
    use super::*;

    fn made(message: &str, fields: &str, request: &Fake) -> DescriptorEntry {
        configured(message, fields).unwrap().entry(request)
    }

    /// As a configuration in JSON would have it.
    fn configured(message: &str, fields: &str) -> Result<Action, ConfigError> {
        let config = format!(
            r#"{{"domain": "d", "rate_limit_service": {{"grpc_service": {{"google_grpc": {{"target_uri": "127.0.0.1:1"}}}}}},
                "rate_limits": [{{"actions": [{{"extension": {{"name": "n", "typed_config": {{"@type": "type.googleapis.com/{message}", {fields}}}}}}}]}}]}}"#
        );
        let raw = callout_common::RawConfig::new(config.as_bytes());
        let parsed = raw
            .message::<callout_protos::envoy::extensions::filters::http::ratelimit::v3::RateLimit>(
        )?;
        Action::configure(&parsed.message.rate_limits[0].actions[0])
    }

    fn entry(key: &str, value: &str) -> DescriptorEntry {
        DescriptorEntry::Entry(key.to_owned(), value.to_owned())
    }

    const HEADER: &str = "envoy.type.matcher.v3.HttpRequestHeaderMatchInput";
    const CLAIM: &str = "envoy.extensions.rate_limit_descriptors.jwt_claim.v3.Descriptor";
    const EXPR: &str = "envoy.extensions.rate_limit_descriptors.expr.v3.Descriptor";
    /// `{"alg":"RS256"}` and `{"sub":"bob"}`.
    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2ln";

    fn with(name: &'static str, value: &'static str) -> Fake {
        Fake { headers: vec![(name, value)], ..Fake::default() }
    }

    #[test]
    fn a_matching_input_gives_the_extensions_name_and_leaves_an_empty_value_out() {
        let fields = r#""header_name": "X-A""#;
        assert_eq!(made(HEADER, fields, &with("x-a", "1")), entry("n", "1"));
        assert_eq!(made(HEADER, fields, &with("x-a", "")), DescriptorEntry::Nothing);
        assert_eq!(made(HEADER, fields, &Fake::default()), DescriptorEntry::Failed);
    }

    #[test]
    fn a_claim_is_read_from_a_header_or_a_cookie() {
        let header = r#""descriptor_key": "k", "claim_name": "sub", "header_name": "authorization", "value_prefix": "Bearer ""#;
        let bearer: &'static str = Box::leak(format!("Bearer {TOKEN}").into_boxed_str());
        assert_eq!(made(CLAIM, header, &with("authorization", bearer)), entry("k", "bob"));
        assert_eq!(made(CLAIM, header, &with("authorization", TOKEN)), DescriptorEntry::Failed);
        let skip = format!(r#"{header}, "skip_if_absent": true"#);
        assert_eq!(made(CLAIM, &skip, &Fake::default()), DescriptorEntry::Nothing);
        let default = format!(r#"{header}, "default_value": "d""#);
        assert_eq!(made(CLAIM, &default, &Fake::default()), entry("k", "d"));
        let cookie = r#""descriptor_key": "k", "claim_name": "sub", "cookie": "t""#;
        let cookies: &'static str = Box::leak(format!("a=b; t={TOKEN}").into_boxed_str());
        assert_eq!(made(CLAIM, cookie, &with("cookie", cookies)), entry("k", "bob"));
    }

    #[test]
    fn an_expression_is_printed_and_fails_as_it_says() {
        let of = |text: &str| format!(r#""descriptor_key": "k", "text": "{text}""#);
        assert_eq!(made(EXPR, &of("false"), &Fake::default()), entry("k", "false"));
        assert_eq!(made(EXPR, &of("1 + 1"), &Fake::default()), entry("k", "2"));
        let header = of("request.headers['x-a']");
        assert_eq!(made(EXPR, &header, &with("x-a", "1")), entry("k", "1"));
        assert_eq!(made(EXPR, &header, &Fake::default()), DescriptorEntry::Failed);
        let skip = format!(r#"{header}, "skip_if_error": true"#);
        assert_eq!(made(EXPR, &skip, &Fake::default()), DescriptorEntry::Nothing);
    }

    #[test]
    fn what_can_not_be_honoured_is_refused_by_name() {
        let path = |message, fields| configured(message, fields).unwrap_err().path().to_owned();
        let under = |field: &str| format!("extension.typed_config{field}");
        assert_eq!(path(HEADER, r#""header_name": """#), under(".header_name"));
        assert_eq!(path(EXPR, r#""descriptor_key": "k", "text": "1 +""#), under(".text"));
        assert_eq!(
            path(CLAIM, r#""descriptor_key": "k", "claim_name": "c""#),
            under(".header_name")
        );
        let unknown = configured("envoy.config.core.v3.HeaderValue", r#""key": "k""#);
        assert_eq!(unknown.unwrap_err().path(), under(""));
    }
}
