//! What an allowing answer changes: checked as a whole before any of it is done.

use callout_common::api::matching::{Operation, Rule};
use callout_common::http::mutation::{Mutation, Op};
use callout_common::http::rules::{is_framing, keeps_message_whole, valid_name, valid_value};
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
    /// Changes to the request: lines that are set, then those that are joined on, then removals.
    pub(crate) request: Vec<Mutation>,
    pub(crate) query: QueryEdits,
    /// Changes to the response, when it comes.
    pub(crate) response: Vec<Mutation>,
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
            Rule::Allowed => edits.request.push(Mutation::remove(name)),
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
    edits.request.sort_by_key(|mutation| group(mutation.op));
    edits.response.sort_by_key(|mutation| group(mutation.op));
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

/// The order in which the built-in makes changes. To a request: sets, joins, removals; to a response:
/// adds, sets, adds where absent, overwrites where present.
const fn group(op: Op) -> u8 {
    match op {
        Op::Add => 0,
        Op::Set => 1,
        Op::AddIfAbsent => 2,
        Op::SetIfPresent => 3,
        Op::JoinIfPresent => 4,
        Op::Remove => 5,
    }
}

impl Edits {
    /// Whether nothing of the request changes.
    pub(crate) fn leave_request_as_it_is(&self) -> bool {
        self.request.is_empty() && self.query.is_empty()
    }

    /// Whether a cookie is set, on either side.
    pub(crate) fn sets_cookie(&self) -> bool {
        let mut mutations = self.request.iter().chain(&self.response);
        mutations.any(|mutation| mutation.op != Op::Remove && mutation.name == "set-cookie")
    }

    /// About how many bytes these edits take, with `line` for each beside its text.
    pub(crate) fn bytes(&self, line: usize) -> usize {
        let headers = self.request.iter().chain(&self.response);
        let headers = headers.map(|mutation| (&mutation.name, mutation.value.len()));
        let query = self.query.set.iter().map(|(name, value)| (name, value.len()));
        let bare = self.query.remove.iter().map(|name| (name, 0));
        headers.chain(query).chain(bare).map(|(name, value)| name.len() + value + line).sum()
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
        if !request_name(&name) || !valid_value(&value) || !keeps_message_whole(&name, &value) {
            return Err(Invalid);
        }
        if is_framing(&name) {
            self.dropped += 1;
            return Ok(());
        }
        match rule(config, Operation::Set, &name) {
            Rule::Allowed if append && config.mutation_rules.is_some() && name.starts_with(':') => {
            }
            Rule::Allowed => {
                let op = if append { Op::JoinIfPresent } else { Op::Set };
                self.request.push(Mutation::new(op, name, value));
            }
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
        let op = Op::of_option(append, append_action);
        let name = header.key.to_ascii_lowercase();
        let value = header.value.into_bytes();
        let well_formed = (name == ":status" || valid_name(&name))
            && valid_value(&value)
            && keeps_message_whole(&name, &value);
        let Some(op) = op.filter(|_| well_formed) else {
            self.dropped += 1;
            return if config.validate_mutations { Err(Invalid) } else { Ok(()) };
        };
        if is_framing(&name) {
            self.dropped += 1;
        } else if name == ":status" {
            // There is exactly one status.
            self.response.push(Mutation::new(Op::Set, name, value));
        } else {
            self.response.push(Mutation::new(op, name, value));
        }
        Ok(())
    }
}

fn request_name(name: &str) -> bool {
    matches!(name, ":path" | ":method" | ":authority" | ":scheme") || valid_name(name)
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
        let expected =
            [Mutation::new(Op::Set, "x-a", "1"), Mutation::new(Op::JoinIfPresent, "x-b", "2")];
        assert_eq!(edits.request, expected);
    }

    #[test]
    fn a_malformed_request_header_spoils_the_answer_and_framing_is_left_out() {
        assert_eq!(planned("", &headers(&[("x-user", "a\\nb")])), Err(Invalid));
        assert_eq!(planned("", &headers(&[("x user", "a")])), Err(Invalid));
        assert_eq!(planned("", &headers(&[(":path", "a b")])), Err(Invalid));
        assert_eq!(planned("", &headers(&[(":other", "a")])), Err(Invalid));
        let edits = planned("", &headers(&[("content-length", "3"), ("x-a", "1")])).unwrap();
        assert_eq!((edits.request.len(), edits.dropped), (1, 1));
    }

    #[test]
    fn removals_spare_pseudo_headers_host_and_framing() {
        let json = r#"{"headers_to_remove": ["X-A", ":path", "Host", "x y", "connection", "content-length"]}"#;
        let removals = ["x-a", "content-length"].map(Mutation::remove);
        assert_eq!(planned("", json).unwrap().request, removals);
    }

    #[test]
    fn rules_pass_over_or_spoil() {
        let set = headers(&[("x-envoy-a", "1"), ("x-a", "1")]);
        let edits = planned(r#", "decoder_header_mutation_rules": {}"#, &set).unwrap();
        assert_eq!(edits.request, [Mutation::new(Op::Set, "x-a", "1")]);
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
        let order: Vec<&str> =
            edits.response.iter().map(|mutation| mutation.name.as_str()).collect();
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
                let made = edits.request.len();
                prop_assert_eq!(made + usize::try_from(edits.dropped).unwrap(), entries.len());
                for Mutation { name, value, .. } in &edits.request {
                    prop_assert!(request_name(name) && !is_framing(name) && valid_value(value));
                    let named = |(key, text, _): &(String, String, bool)| {
                        key.eq_ignore_ascii_case(name) && text.as_bytes() == value.as_slice()
                    };
                    prop_assert!(entries.iter().any(named));
                }
            } else {
                let malformed = |(key, value, _): &(String, String, bool)| {
                    let (name, value) = (key.to_ascii_lowercase(), value.as_bytes());
                    !request_name(&name)
                        || !valid_value(value)
                        || !keeps_message_whole(&name, value)
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
