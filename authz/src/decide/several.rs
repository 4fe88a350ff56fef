//! `callout.services`: what the answers of several services about one request come to.

use std::time::Duration;

use crate::config::extensions::Quorum;
use crate::decide::edits::Edits;
use crate::decide::verdict::{Decision, Verdict};

impl Quorum {
    /// Whether the verdict of one service decides, whatever the others say.
    pub(crate) const fn is_decided_by(self, verdict: &Verdict) -> bool {
        match (self, verdict) {
            (Self::Any, Verdict::Allow(_)) => true,
            (Self::Any, _) | (Self::All, Verdict::Allow(_) | Verdict::Pass) => false,
            (
                Self::All,
                Verdict::Deny { .. } | Verdict::Refuse { .. } | Verdict::Invalid { .. },
            ) => true,
        }
    }

    /// What the decisions of all services, in their order, come to when none of them decided alone. `None`
    /// of none.
    pub(crate) fn combine(self, decisions: Vec<Decision>) -> Option<Decision> {
        match self {
            Self::All => decisions.into_iter().reduce(both),
            // Nobody allowed. A denial weighs more than a failure, also one that lets requests pass.
            Self::Any => decisions.into_iter().min_by_key(|decision| match decision.verdict {
                Verdict::Allow(_) => 0,
                Verdict::Deny { .. } => 1,
                Verdict::Invalid { .. } => 2,
                Verdict::Refuse { .. } => 3,
                Verdict::Pass => 4,
            }),
        }
    }
}

/// Two decisions that let the request pass, the second after the first.
fn both(first: Decision, second: Decision) -> Decision {
    let failed_open = first.verdict == Verdict::Pass || second.verdict == Verdict::Pass;
    let passed_over = first.passed_over + second.passed_over;
    let verdict = match (first.verdict, second.verdict) {
        (Verdict::Allow(first), Verdict::Allow(second)) => Verdict::Allow(then(first, second)),
        (Verdict::Allow(edits), _) | (_, Verdict::Allow(edits)) => Verdict::Allow(edits),
        (_, other) => other,
    };
    let metadata = match (first.metadata, second.metadata) {
        (Some(mut first), Some(second)) => {
            first.fields.extend(second.fields);
            Some(first)
        }
        (first, second) => first.or(second),
    };
    Decision {
        passed_over: passed_over + u64::from(failed_open && matches!(verdict, Verdict::Allow(_))),
        verdict,
        metadata,
        cause: first.cause.or(second.cause),
        silence: first.silence && second.silence,
        // What a failure let pass is not kept.
        max_age: if failed_open {
            Some(Duration::ZERO)
        } else {
            [first.max_age, second.max_age].into_iter().flatten().min()
        },
        tag: first.tag.or(second.tag),
    }
}

/// The changes of `first`, and after them those of `second`, as one.
fn then(mut first: Edits, second: Edits) -> Edits {
    let Edits { request, query, response, clear_route_cache, dropped } = second;
    first.request.extend(request);
    // Of a query removals come last, so that what is set again must not be removed.
    first.query.remove.retain(|key| !query.set.iter().any(|(one, _)| one == key));
    first.query.set.extend(query.set);
    first.query.remove.extend(query.remove);
    first.response.extend(response);
    first.clear_route_cache |= clear_route_cache;
    first.dropped += dropped;
    first
}

#[cfg(test)]
mod tests {
    use callout_common::Reply;
    use callout_common::http::mutation::{Mutation, Op};
    use proptest::prelude::*;

    use super::*;
    use crate::decide::query::QueryEdits;

    fn decision(verdict: Verdict) -> Decision {
        Decision::new(verdict, None)
    }

    fn allow(lines: &[(&str, &str)]) -> Decision {
        let set = |(name, value): &(&str, &str)| Mutation {
            op: Op::Set,
            name: (*name).to_owned(),
            value: (*value).into(),
        };
        let request = lines.iter().map(set).collect();
        decision(Verdict::Allow(Edits { request, ..Edits::default() }))
    }

    fn deny(status: u16) -> Decision {
        decision(Verdict::Deny { reply: Reply::new(status), dropped: 0 })
    }

    fn refuse() -> Decision {
        let verdict = Verdict::Refuse { reply: Reply::new(503), dropped: 0 };
        Decision { cause: Some("timeout"), silence: true, ..decision(verdict) }
    }

    fn pass() -> Decision {
        Decision { cause: Some("timeout"), silence: true, ..decision(Verdict::Pass) }
    }

    #[test]
    fn one_that_does_not_allow_decides_for_all_and_one_that_does_for_any() {
        for (decision, all, any) in [
            (allow(&[]), false, true),
            (pass(), false, false),
            (deny(403), true, false),
            (refuse(), true, false),
            (decision(Verdict::Invalid { denied: false }), true, false),
        ] {
            let verdict = decision.verdict;
            assert_eq!(Quorum::All.is_decided_by(&verdict), all, "{verdict:?}");
            assert_eq!(Quorum::Any.is_decided_by(&verdict), any, "{verdict:?}");
        }
    }

    #[test]
    fn the_changes_of_all_are_made_in_order() {
        let metadata = |json: &str| Some(serde_json::from_str(json).unwrap());
        let first = Decision {
            metadata: metadata(r#"{"a": 1, "b": 1}"#),
            max_age: Some(Duration::from_secs(9)),
            ..allow(&[("x-a", "1"), ("x-b", "1")])
        };
        let second =
            Decision { metadata: metadata(r#"{"b": 2}"#), ..allow(&[("x-b", "2"), ("x-c", "2")]) };
        let both = Quorum::All.combine(vec![first, second]).unwrap();
        let Verdict::Allow(edits) = both.verdict else { panic!("not allowed") };
        let last = |name: &str| {
            let change = edits.request.iter().rfind(|change| change.name == name);
            change.map(|change| change.value.as_slice())
        };
        assert_eq!(last("x-a"), Some(&b"1"[..]));
        assert_eq!(last("x-b"), Some(&b"2"[..]));
        assert_eq!(both.metadata, metadata(r#"{"a": 1, "b": 2}"#));
        assert_eq!((both.max_age, both.passed_over), (Some(Duration::from_secs(9)), 0));
    }

    #[test]
    fn a_failure_that_is_passed_over_leaves_the_changes_of_the_others_and_is_not_kept() {
        for decisions in
            [vec![pass(), allow(&[("x-a", "1")])], vec![allow(&[("x-a", "1")]), pass()]]
        {
            let both = Quorum::All.combine(decisions).unwrap();
            assert_eq!((both.passed_over, both.cause), (1, Some("timeout")));
            assert_eq!(both.max_age, Some(Duration::ZERO));
            assert!(
                !both.silence
                    && matches!(both.verdict, Verdict::Allow(edits) if edits.request.len() == 1)
            );
        }
        let none = Quorum::All.combine(vec![pass(), pass()]).unwrap();
        assert!(none.verdict == Verdict::Pass && none.silence && none.passed_over == 0);
    }

    #[test]
    fn where_nobody_allows_a_denial_weighs_most_and_a_failure_that_passes_least() {
        let status = |decisions| match Quorum::Any.combine(decisions).unwrap().verdict {
            Verdict::Deny { reply, .. } | Verdict::Refuse { reply, .. } => reply.status(),
            Verdict::Pass => 200,
            other => panic!("{other:?}"),
        };
        assert_eq!(status(vec![pass(), refuse(), deny(401), deny(402)]), 401);
        assert_eq!(status(vec![pass(), refuse()]), 503);
        assert_eq!(status(vec![pass(), pass()]), 200);
        assert!(Quorum::Any.combine(Vec::new()).is_none());
    }

    proptest! {
        #[test]
        fn two_changes_of_a_query_as_one_do_what_they_do_one_after_the_other(
            first in query(), second in query(),
        ) {
            let one_by_one = second.query.apply(&first.query.apply("/?a=0&b=0"));
            prop_assert_eq!(then(first, second).query.apply("/?a=0&b=0"), one_by_one);
        }
    }

    fn query() -> impl Strategy<Value = Edits> {
        let name = || prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned);
        let set = prop::collection::vec((name(), name()), 0..3);
        (set, prop::collection::vec(name(), 0..3)).prop_map(|(set, remove)| {
            let query = QueryEdits { set, remove };
            Edits { query, ..Edits::default() }
        })
    }
}
