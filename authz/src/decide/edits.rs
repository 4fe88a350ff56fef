//! What an allowing answer changes: checked as a whole before any of it is done.

use callout_common::api::matching::{Operation, Rule};
use callout_common::http::rules::{is_framing, valid_name, valid_value};
use callout_protos::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use callout_protos::envoy::config::core::v3::{HeaderValueOption, QueryParameter};
use callout_protos::envoy::service::auth::v3::OkHttpResponse;

use crate::config::Config;
use crate::decide::query;
use crate::decide::query::QueryEdits;

/// The answer asks for something that can't be done, so the request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Invalid;

/// Changes to a request and to its response, in the order in which they are made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Edits {
    /// Replace every line of a name.
    pub(crate) set: Vec<(String, Vec<u8>)>,
    /// Join onto the first line of a name, if there is one.
    pub(crate) append: Vec<(String, Vec<u8>)>,
    /// Remove every line of a name.
    pub(crate) remove: Vec<String>,
    pub(crate) query: QueryEdits,
    /// Changes to the response, when it comes.
    pub(crate) response: Vec<(HeaderAppendAction, String, Vec<u8>)>,
    /// Envoy is to choose the route again.
    pub(crate) clear_route_cache: bool,
    /// Header lines that were left out.
    pub(crate) dropped: u64,
}

/// Plans what `ok` asks for.
pub(crate) fn plan(config: &Config, ok: OkHttpResponse) -> Result<Edits, Invalid> {
    let OkHttpResponse {
        headers,
        headers_to_remove,
        dynamic_metadata: _,
        response_headers_to_add,
        query_parameters_to_set,
        query_parameters_to_remove,
    } = ok;
    let mut edits = Edits {
        clear_route_cache: config.clear_route_cache
            && clears_route(
                config,
                &headers,
                &headers_to_remove,
                !(query_parameters_to_set.is_empty() && query_parameters_to_remove.is_empty()),
            ),
        ..Edits::default()
    };
    for option in headers {
        edits.request_header(config, option)?;
    }
    for name in headers_to_remove {
        let name = name.to_ascii_lowercase();
        if name.starts_with(':') || name == "host" || !valid_name(&name) || is_framing_only(&name) {
            continue;
        }
        match rule(config, Operation::Remove, &name) {
            Rule::Allowed => edits.remove.push(name),
            Rule::Ignored => {}
            Rule::Error => return Err(Invalid),
        }
    }
    for option in response_headers_to_add {
        edits.response_header(config, option)?;
    }
    for QueryParameter { key, value } in query_parameters_to_set {
        if config.validate_mutations && !(query::plain(&key) && query::plain(&value)) {
            return Err(Invalid);
        }
        edits.query.set.push((query::encode(&key), query::encode(&value)));
    }
    edits.query.remove = query_parameters_to_remove;
    edits.response.sort_by_key(|(action, ..)| group(*action));
    Ok(edits)
}

fn clears_route(
    config: &Config,
    headers: &[HeaderValueOption],
    remove: &[String],
    query: bool,
) -> bool {
    let mut names = headers
        .iter()
        .filter_map(|option| option.header.as_ref())
        .map(|header| header.key.as_str())
        .chain(remove.iter().map(String::as_str));
    query
        || if config.clear_route_cache_headers.is_empty() {
            names.next().is_some()
        } else {
            names.any(|name| {
                config
                    .clear_route_cache_headers
                    .iter()
                    .any(|listed| listed.eq_ignore_ascii_case(name))
            })
        }
}

fn rule(config: &Config, operation: Operation, name: &str) -> Rule {
    config.mutation_rules.as_ref().map_or(Rule::Allowed, |rules| rules.check(operation, name))
}

/// Envoy itself turns a removed content-length into chunks; the others keep the connection whole.
fn is_framing_only(name: &str) -> bool {
    is_framing(name) && name != "content-length"
}

/// The order in which the built-in makes response changes: adds, sets, adds where absent,
/// overwrites where present.
const fn group(action: HeaderAppendAction) -> u8 {
    match action {
        HeaderAppendAction::AppendIfExistsOrAdd => 0,
        HeaderAppendAction::OverwriteIfExistsOrAdd => 1,
        HeaderAppendAction::AddIfAbsent => 2,
        HeaderAppendAction::OverwriteIfExists => 3,
    }
}

impl Edits {
    /// Whether nothing of the request changes.
    pub(crate) fn leave_request_as_it_is(&self) -> bool {
        self.set.is_empty()
            && self.append.is_empty()
            && self.remove.is_empty()
            && self.query.is_empty()
    }

    /// Whether a cookie is set, on either side.
    pub(crate) fn sets_cookie(&self) -> bool {
        self.set
            .iter()
            .chain(&self.append)
            .map(|(name, _)| name)
            .chain(self.response.iter().map(|(_, name, _)| name))
            .any(|name| name == "set-cookie")
    }

    /// About how many bytes these edits take, with `line` for each beside its text.
    pub(crate) fn bytes(&self, line: usize) -> usize {
        let headers = self.set.iter().chain(&self.append).map(|(name, value)| (name, value.len()));
        let response = self.response.iter().map(|(_, name, value)| (name, value.len()));
        let query = self.query.set.iter().map(|(name, value)| (name, value.len()));
        let bare = self.remove.iter().chain(&self.query.remove).map(|name| (name, 0));
        let all = headers.chain(response).chain(query).chain(bare);
        all.map(|(name, value)| name.len() + value + line).sum()
    }

    /// One entry of `headers`. `append_action` has no effect here, as in the built-in.
    fn request_header(
        &mut self,
        config: &Config,
        option: HeaderValueOption,
    ) -> Result<(), Invalid> {
        let HeaderValueOption { header, append, append_action: _, keep_empty_value: _ } = option;
        let Some(header) = header else { return Ok(()) };
        let name = header.key.to_ascii_lowercase();
        let value = header.value.into_bytes();
        let append = append.is_some_and(|append| append.value);
        // A malformed identity header must not vanish: the client's own copy would stand instead.
        if !request_name(&name) || !valid_value(&value) || !pseudo_value(&name, &value) {
            return Err(Invalid);
        }
        if is_framing(&name) {
            self.dropped += 1;
            return Ok(());
        }
        match rule(config, Operation::Set, &name) {
            Rule::Allowed if append && config.mutation_rules.is_some() && name.starts_with(':') => {
            }
            Rule::Allowed if append => self.append.push((name, value)),
            Rule::Allowed => self.set.push((name, value)),
            Rule::Ignored => {}
            Rule::Error => return Err(Invalid),
        }
        Ok(())
    }

    /// One entry of `response_headers_to_add`.
    fn response_header(
        &mut self,
        config: &Config,
        option: HeaderValueOption,
    ) -> Result<(), Invalid> {
        let HeaderValueOption { header, append, append_action, keep_empty_value: _ } = option;
        let Some(header) = header else { return Ok(()) };
        let action = match append {
            Some(append) if append.value => Some(HeaderAppendAction::AppendIfExistsOrAdd),
            Some(_) => Some(HeaderAppendAction::OverwriteIfExistsOrAdd),
            None => HeaderAppendAction::try_from(append_action).ok(),
        };
        let name = header.key.to_ascii_lowercase();
        let value = header.value.into_bytes();
        let well_formed = if name == ":status" {
            matches!(value.as_slice(), [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9'])
        } else {
            valid_name(&name) && valid_value(&value)
        };
        let Some(action) = action.filter(|_| well_formed) else {
            self.dropped += 1;
            return if config.validate_mutations { Err(Invalid) } else { Ok(()) };
        };
        if is_framing(&name) {
            self.dropped += 1;
        } else if name == ":status" {
            // There is exactly one status.
            self.response.push((HeaderAppendAction::OverwriteIfExistsOrAdd, name, value));
        } else {
            self.response.push((action, name, value));
        }
        Ok(())
    }
}

fn request_name(name: &str) -> bool {
    matches!(name, ":path" | ":method" | ":authority" | ":scheme") || valid_name(name)
}

/// Whether a pseudo header's value keeps the request line whole.
fn pseudo_value(name: &str, value: &[u8]) -> bool {
    let whole = !value.is_empty() && !value.iter().any(|b| b.is_ascii_whitespace());
    match name {
        ":path" => whole && matches!(value.first(), Some(b'/' | b'*')),
        ":method" => std::str::from_utf8(value).is_ok_and(valid_name),
        ":authority" | "host" => !value.iter().any(|b| b.is_ascii_whitespace()),
        ":scheme" => matches!(value, b"http" | b"https"),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use callout_common::RawConfig;
    use callout_protos::envoy::config::core::v3::HeaderValue;
    use callout_protos::pbjson_types::BoolValue;
    use proptest::prelude::*;

    use super::*;

    fn planned(fields: &str, ok: &str) -> Result<Edits, Invalid> {
        let json = format!(
            r#"{{"grpc_service": {{"google_grpc": {{"target_uri": "127.0.0.1:1"}}}}{fields}}}"#
        );
        let config = Config::read(RawConfig::new(json.as_bytes())).unwrap();
        plan(&config, serde_json::from_str(ok).unwrap())
    }

    fn headers(entries: &[(&str, &str)]) -> String {
        let entries: Vec<String> = entries
            .iter()
            .map(|(key, value)| format!(r#"{{"header": {{"key": "{key}", "value": "{value}"}}}}"#))
            .collect();
        format!(r#"{{"headers": [{}]}}"#, entries.join(","))
    }

    #[test]
    fn append_action_has_no_effect_on_request_headers() {
        let json = r#"{"headers": [{"header": {"key": "X-A", "value": "1"}, "append_action": "ADD_IF_ABSENT"},
                                   {"header": {"key": "x-b", "value": "2"}, "append": true, "append_action": "OVERWRITE_IF_EXISTS"}]}"#;
        let edits = planned("", json).unwrap();
        assert_eq!(edits.set, [("x-a".to_owned(), b"1".to_vec())]);
        assert_eq!(edits.append, [("x-b".to_owned(), b"2".to_vec())]);
    }

    #[test]
    fn a_malformed_request_header_spoils_the_answer_and_framing_is_left_out() {
        assert_eq!(planned("", &headers(&[("x-user", "a\\nb")])), Err(Invalid));
        assert_eq!(planned("", &headers(&[("x user", "a")])), Err(Invalid));
        assert_eq!(planned("", &headers(&[(":path", "a b")])), Err(Invalid));
        assert_eq!(planned("", &headers(&[(":other", "a")])), Err(Invalid));
        let edits = planned("", &headers(&[("content-length", "3"), ("x-a", "1")])).unwrap();
        assert_eq!((edits.set.len(), edits.dropped), (1, 1));
    }

    #[test]
    fn removals_spare_pseudo_headers_host_and_framing() {
        let json = r#"{"headers_to_remove": ["X-A", ":path", "Host", "x y", "connection", "content-length"]}"#;
        assert_eq!(planned("", json).unwrap().remove, ["x-a", "content-length"]);
    }

    #[test]
    fn rules_pass_over_or_spoil() {
        let set = headers(&[("x-envoy-a", "1"), ("x-a", "1")]);
        let edits = planned(r#", "decoder_header_mutation_rules": {}"#, &set).unwrap();
        assert_eq!(edits.set, [("x-a".to_owned(), b"1".to_vec())]);
        let strict = r#", "decoder_header_mutation_rules": {"disallow_is_error": true}"#;
        assert_eq!(planned(strict, &set), Err(Invalid));
    }

    #[test]
    fn response_changes_are_grouped_by_their_action() {
        let json = r#"{"response_headers_to_add": [
            {"header": {"key": "a", "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS"},
            {"header": {"key": "b", "value": "1"}, "append": false},
            {"header": {"key": "c", "value": "1"}},
            {"header": {"key": "content-length", "value": "3"}},
            {"header": {"key": ":status", "value": "99"}}]}"#;
        let edits = planned("", json).unwrap();
        let order: Vec<&str> = edits.response.iter().map(|(_, name, _)| name.as_str()).collect();
        assert_eq!((order, edits.dropped), (vec!["c", "b", "a"], 2));
        assert_eq!(planned(r#", "validate_mutations": true"#, json), Err(Invalid));
    }

    proptest! {
        #[test]
        fn every_entry_for_the_request_is_made_left_out_and_counted_or_spoils_the_whole(
            entries in prop::collection::vec(
                ("(x-[ab]|host|te|:path|:method|Connection|a b|content-length)", "[ -~]{0,3}|/p|\n", any::<bool>()),
                0..6,
            ),
        ) {
            let option = |(key, value, append): &(String, String, bool)| HeaderValueOption {
                header: Some(HeaderValue {
                    key: key.clone(),
                    value: value.clone(),
                    raw_value: Vec::new(),
                }),
                append: Some(BoolValue { value: *append }),
                ..Default::default()
            };
            let headers = entries.iter().map(option).collect();
            let json = r#"{"grpc_service": {"google_grpc": {"target_uri": "127.0.0.1:1"}}}"#;
            let config = Config::read(RawConfig::new(json.as_bytes())).unwrap();
            if let Ok(edits) = plan(&config, OkHttpResponse { headers, ..Default::default() }) {
                let made = edits.set.len() + edits.append.len();
                prop_assert_eq!(made + usize::try_from(edits.dropped).unwrap(), entries.len());
                for (name, value) in edits.set.iter().chain(&edits.append) {
                    prop_assert!(request_name(name) && !is_framing(name) && valid_value(value));
                    let named = |(key, text, _): &(String, String, bool)| {
                        key.eq_ignore_ascii_case(name) && text.as_bytes() == value
                    };
                    prop_assert!(entries.iter().any(named));
                }
            } else {
                let malformed = |(key, value, _): &(String, String, bool)| {
                    let (name, value) = (key.to_ascii_lowercase(), value.as_bytes());
                    !request_name(&name) || !valid_value(value) || !pseudo_value(&name, value)
                };
                prop_assert!(entries.iter().any(malformed));
            }
        }
    }

    #[test]
    fn the_route_is_chosen_again_only_for_what_the_configuration_names() {
        let on = r#", "clear_route_cache": true"#;
        let listed = r#", "clear_route_cache": true, "clear_route_cache_headers": ["X-Vip"]"#;
        let plain = headers(&[("x-a", "1")]);
        assert!(planned(on, &plain).unwrap().clear_route_cache);
        assert!(!planned(on, "{}").unwrap().clear_route_cache);
        assert!(!planned("", &plain).unwrap().clear_route_cache);
        assert!(!planned(listed, &plain).unwrap().clear_route_cache);
        assert!(planned(listed, &headers(&[("x-vip", "1")])).unwrap().clear_route_cache);
        assert!(
            planned(listed, r#"{"query_parameters_to_remove": ["a"]}"#).unwrap().clear_route_cache
        );
    }
}
