//! Header changes of the processor: checked as a whole before any is made.

use callout_common::api::matching::{MutationRules, Operation, Rule};
use callout_common::http::mutation::{Mutation, Op};
use callout_common::http::rules::{
    MAX_LINES, is_framing, keeps_message_whole, valid_name, valid_value,
};
use callout_protos::envoy::config::core::v3::HeaderValueOption;
use callout_protos::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use callout_protos::envoy::service::ext_proc::v3::HeaderMutation;

/// What counts for an option without `append` where the action is not read.
const OVERWRITE: i32 = HeaderAppendAction::OverwriteIfExistsOrAdd as i32;

/// Which message the headers belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request {
        /// The method may be changed, whatever the rules say.
        method: bool,
    },
    Response,
    Trailers,
}

/// What a processor may do to `content-length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length<'a> {
    /// Set it: it is compared with the body before the headers go.
    Checked,
    /// Only say what it says already: the body is out of sight.
    Fixed(Option<&'a [u8]>),
    /// Nothing: it is taken off.
    Dropped,
}

/// Changes that may be made, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) ops: Vec<Mutation>,
    /// Changes that the rules, or what keeps a message whole, refused.
    pub(crate) rejected: u64,
}

/// Plans `mutation`; the error is the details of the reply. The built-in looks at `append` alone;
/// with `by_action` it is `append_action` that counts, where `append` is not set.
pub(crate) fn plan(
    mutation: HeaderMutation,
    rules: &MutationRules,
    kind: Kind,
    length: Length<'_>,
    by_action: bool,
) -> Result<Plan, &'static str> {
    let HeaderMutation { set_headers, remove_headers } = mutation;
    if set_headers.len() > MAX_LINES || remove_headers.len() > MAX_LINES {
        return Err("header_mutation_operation_count_exceeds_limit");
    }
    let mut plan = Plan::default();
    for name in remove_headers {
        let name = name.to_ascii_lowercase();
        if !well_named(&name) {
            return Err("header_mutation_remove_contains_invalid_character");
        }
        let framing = is_framing(&name) && name != "content-length";
        match rules.check(Operation::Remove, &name) {
            Rule::Allowed if !framing => plan.ops.push(Mutation::remove(name)),
            Rule::Allowed | Rule::Ignored => plan.rejected += 1,
            Rule::Error => return Err("header_mutation_remove_headers_failed"),
        }
    }
    for HeaderValueOption { header, append, append_action, keep_empty_value: _ } in set_headers {
        let Some(header) = header else { continue };
        let name = header.key.to_ascii_lowercase();
        // The built-in reads nothing but raw_value.
        let value = header.raw_value;
        if !well_named(&name) || !valid_value(&value) {
            return Err("header_mutation_set_contains_invalid_character");
        }
        if name.starts_with(':') && !pseudo(kind, &name) {
            continue;
        }
        if name == "content-length" {
            match length {
                Length::Checked => {}
                Length::Fixed(current) if current == Some(value.as_slice()) => {}
                Length::Fixed(_) | Length::Dropped => continue,
            }
        } else if is_framing(&name) {
            plan.rejected += 1;
            continue;
        }
        let exempt = name == ":method" && kind == (Kind::Request { method: true });
        let rule = if exempt { Rule::Allowed } else { rules.check(Operation::Set, &name) };
        match rule {
            Rule::Allowed if !keeps_message_whole(&name, &value) => plan.rejected += 1,
            Rule::Allowed => {
                let action = if by_action { append_action } else { OVERWRITE };
                let op =
                    Op::of_option(append, action).ok_or("header_mutation_set_headers_failed")?;
                // A pseudo header has one line, and so has the length.
                let single = name.starts_with(':') || name == "content-length";
                let op = if single { Op::Set } else { op };
                plan.ops.push(Mutation::new(op, name, value));
            }
            Rule::Ignored => plan.rejected += 1,
            Rule::Error => return Err("header_mutation_set_headers_failed"),
        }
    }
    Ok(plan)
}

fn well_named(name: &str) -> bool {
    valid_name(name.strip_prefix(':').unwrap_or(name))
}

/// Whether a message of this kind has the pseudo header `name`.
fn pseudo(kind: Kind, name: &str) -> bool {
    match kind {
        Kind::Request { .. } => matches!(name, ":path" | ":method" | ":authority" | ":scheme"),
        Kind::Response => name == ":status",
        Kind::Trailers => false,
    }
}

#[cfg(test)]
mod tests {
    use callout_protos::envoy::config::core::v3::HeaderValue;
    use callout_protos::pbjson_types::BoolValue;

    use super::*;

    fn set(entries: &[(&str, &str)]) -> HeaderMutation {
        let option = |(key, value): &(&str, &str)| HeaderValueOption {
            header: Some(HeaderValue {
                key: (*key).to_owned(),
                value: String::new(),
                raw_value: value.as_bytes().to_vec(),
            }),
            ..Default::default()
        };
        HeaderMutation {
            set_headers: entries.iter().map(option).collect(),
            remove_headers: Vec::new(),
        }
    }

    fn remove(names: &[&str]) -> HeaderMutation {
        HeaderMutation {
            set_headers: Vec::new(),
            remove_headers: names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn planned(mutation: HeaderMutation, kind: Kind) -> Result<Plan, &'static str> {
        plan(mutation, &MutationRules::default(), kind, Length::Fixed(Some(b"3")), false)
    }

    const REQUEST: Kind = Kind::Request { method: false };

    #[test]
    fn names_are_lowered_and_the_append_wrapper_alone_adds() {
        let mut mutation = set(&[("X-A", "1"), ("x-b", "2")]);
        mutation.set_headers[1].append = Some(BoolValue { value: true });
        let plan = planned(mutation, REQUEST).unwrap();
        let ops = [Mutation::new(Op::Set, "x-a", "1"), Mutation::new(Op::Add, "x-b", "2")];
        assert_eq!(plan, Plan { ops: ops.into(), rejected: 0 });
    }

    #[test]
    fn append_action_counts_where_asked_for_and_append_is_not_set() {
        let mut mutation = set(&[("x-a", "1"), ("x-b", "1"), ("x-c", "1"), ("x-d", "1")]);
        for (action, option) in mutation.set_headers.iter_mut().enumerate() {
            option.append_action = i32::try_from(action).unwrap();
        }
        mutation.set_headers.push(set(&[("x-e", "1")]).set_headers[0].clone());
        mutation.set_headers[4].append = Some(BoolValue { value: false });
        let plan = plan(mutation, &MutationRules::default(), REQUEST, Length::Dropped, true);
        let expected = [
            Mutation::new(Op::Add, "x-a", "1"),
            Mutation::new(Op::AddIfAbsent, "x-b", "1"),
            Mutation::new(Op::Set, "x-c", "1"),
            Mutation::new(Op::SetIfPresent, "x-d", "1"),
            Mutation::new(Op::Set, "x-e", "1"),
        ];
        assert_eq!(plan.unwrap().ops, expected);
    }

    #[test]
    fn invalid_characters_and_too_many_changes_fail_as_a_whole() {
        let invalid = "header_mutation_set_contains_invalid_character";
        assert_eq!(planned(set(&[("x a", "1")]), REQUEST), Err(invalid));
        assert_eq!(planned(set(&[("x-a", "1\n2")]), REQUEST), Err(invalid));
        assert_eq!(
            planned(remove(&["x a"]), REQUEST),
            Err("header_mutation_remove_contains_invalid_character")
        );
        let many: Vec<(&str, &str)> = vec![("x-a", "1"); 101];
        assert_eq!(
            planned(set(&many), REQUEST),
            Err("header_mutation_operation_count_exceeds_limit")
        );
    }

    #[test]
    fn routing_framing_and_malformed_pseudo_headers_are_refused_and_counted() {
        let mutation = set(&[
            ("host", "h"),
            (":method", "PUT"),
            ("x-envoy-a", "1"),
            ("transfer-encoding", "chunked"),
            (":path", "no slash"),
            (":path", "/ok"),
        ]);
        let plan = planned(mutation, REQUEST).unwrap();
        assert_eq!((plan.ops.len(), plan.rejected), (1, 5));
        let replacing = planned(set(&[(":method", "PUT")]), Kind::Request { method: true });
        assert_eq!(replacing.unwrap().ops.len(), 1);
    }

    #[test]
    fn a_status_has_to_be_one_and_foreign_pseudo_headers_vanish() {
        let mutation = set(&[(":status", "418"), (":status", "99"), (":path", "/")]);
        let plan = planned(mutation, Kind::Response).unwrap();
        assert_eq!((plan.ops.len(), plan.rejected), (1, 1));
    }

    #[test]
    fn content_length_is_set_only_where_it_can_be_checked() {
        let length = |policy, value: &str| {
            let mutation = set(&[("content-length", value)]);
            plan(mutation, &MutationRules::default(), REQUEST, policy, false).unwrap().ops.len()
        };
        assert_eq!((length(Length::Checked, "9"), length(Length::Dropped, "9")), (1, 0));
        assert_eq!(
            (length(Length::Fixed(Some(b"3")), "3"), length(Length::Fixed(Some(b"3")), "9")),
            (1, 0)
        );
    }
}
