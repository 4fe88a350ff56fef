//! The paths of this library on Envoy's admin interface: `GET /callout/<filter>/status` and
//! `POST /callout/<filter>/purge`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::build;
use crate::filter::admin::Purge;
use crate::runner::export::{AnyFilter, Exported};

/// The configurations that run, by the name of their filter, oldest first.
static RUNNING: Mutex<Vec<(String, Weak<dyn AnyFilter>)>> = Mutex::new(Vec::new());

/// A path, and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    /// The path itself, without a query.
    pub(crate) path: String,
    /// One line for `/help`.
    pub(crate) help: &'static str,
    /// It has to be a POST.
    pub(crate) changes: bool,
}

/// The paths of these filters.
pub(crate) fn paths(filters: &[Exported]) -> Vec<Path> {
    let of = |filter: &Exported| {
        let path = |what: &str| format!("/callout/{}/{what}", filter.name());
        let help = "how the configurations of this filter are";
        let status = Path { path: path("status"), help, changes: false };
        let help = "forget kept decisions: all, ?route=NAME, or ?tag=BEGINNING";
        let purge = Path { path: path("purge"), help, changes: true };
        [Some(status), filter.purges().then_some(purge)]
    };
    filters.iter().flat_map(of).flatten().collect()
}

/// A configuration begins to run.
pub(crate) fn register(name: &str, filter: &Arc<dyn AnyFilter>) {
    let mut running = running();
    running.retain(|(_, filter)| filter.strong_count() > 0);
    running.push((name.to_owned(), Arc::downgrade(filter)));
}

/// The answer to a request for one of the paths: status and JSON.
pub(crate) fn answer(method: &str, path_and_query: &str) -> (u32, String) {
    let filters: Vec<_> = running()
        .iter()
        .filter_map(|(name, filter)| Some((name.clone(), filter.upgrade()?)))
        .collect();
    let (status, body) = respond(&filters, method, path_and_query);
    (status, format!("{body:#}\n"))
}

fn respond(
    filters: &[(String, Arc<dyn AnyFilter>)],
    method: &str,
    path_and_query: &str,
) -> (u32, Value) {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let of = |name: &str| {
        let found: Vec<_> = filters.iter().filter(|(one, _)| one == name).collect();
        found.into_iter().map(|(_, filter)| filter)
    };
    match parts.as_slice() {
        ["callout", name, "status"] => {
            let all: Vec<Value> = of(name).map(|filter| filter.status()).collect();
            let version = build::version();
            (200, json!({"filter": name, "version": version, "configurations": all}))
        }
        ["callout", _, "purge"] if method != "POST" => {
            (405, json!({"error": "has to be a POST: it changes what is kept"}))
        }
        ["callout", name, "purge"] => match purge_of(query) {
            Ok(what) => {
                let purged: u64 = of(name).map(|filter| filter.purge(&what)).sum();
                (200, json!({"purged": purged}))
            }
            Err(error) => (400, json!({"error": error})),
        },
        _ => (404, json!({"error": "there is no such path"})),
    }
}

/// What a query asks for.
fn purge_of(query: &str) -> Result<Purge, String> {
    let mut what = Purge::All;
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = percent_decode_str(value).decode_utf8();
        let value = value.map_err(|_| format!("{key}: is not UTF-8"))?.into_owned();
        let more = match key {
            "route" => Purge::Route(value.clone()),
            "tag" => Purge::Tag(value.clone()),
            _ => return Err(format!("{key}: is neither `route` nor `tag`")),
        };
        if value.is_empty() {
            return Err(format!("{key}: is empty, which would be everything: leave it out"));
        }
        if what != Purge::All {
            return Err(format!("{key}: takes one of `route` and `tag`"));
        }
        what = more;
    }
    Ok(what)
}

fn running() -> MutexGuard<'static, Vec<(String, Weak<dyn AnyFilter>)>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::cluster_streams::ClusterStreamManager;
    use crate::runner::AnyStream;

    struct Keeps(Mutex<Vec<Purge>>);

    impl AnyFilter for Keeps {
        fn open(&self) -> Rc<dyn AnyStream> {
            panic!("no stream here")
        }
        fn cluster_streams(&self) -> Option<&ClusterStreamManager> {
            None
        }
        fn status(&self) -> Value {
            json!({"entries": 2})
        }
        fn purge(&self, what: &Purge) -> u64 {
            self.0.lock().unwrap().push(what.clone());
            2
        }
    }

    fn ask(method: &str, path: &str) -> (u32, Value) {
        let filter: Arc<dyn AnyFilter> = Arc::new(Keeps(Mutex::default()));
        let other: Arc<dyn AnyFilter> = Arc::new(Keeps(Mutex::default()));
        let filters = [
            ("a".to_owned(), Arc::clone(&filter)),
            ("a".to_owned(), filter),
            ("b".to_owned(), other),
        ];
        respond(&filters, method, path)
    }

    #[test]
    fn the_status_is_that_of_every_configuration_of_the_filter() {
        let (status, body) = ask("GET", "/callout/a/status");
        assert_eq!((status, &body["filter"]), (200, &json!("a")));
        assert_eq!(body["configurations"], json!([{"entries": 2}, {"entries": 2}]));
    }

    #[test]
    fn a_purge_is_a_post_and_counts_over_all_configurations() {
        assert_eq!(ask("POST", "/callout/a/purge"), (200, json!({"purged": 4})));
        assert_eq!(ask("POST", "/callout/none/purge"), (200, json!({"purged": 0})));
        assert_eq!(ask("GET", "/callout/a/purge").0, 405);
        assert_eq!(ask("POST", "/callout/a/other").0, 404);
    }

    #[test]
    fn what_is_purged_is_named_by_the_query() {
        assert_eq!(purge_of(""), Ok(Purge::All));
        assert_eq!(purge_of("route=a%20b"), Ok(Purge::Route("a b".to_owned())));
        assert_eq!(purge_of("tag=user-"), Ok(Purge::Tag("user-".to_owned())));
        for wrong in ["x=1", "tag=", "tag", "tag=a&route=b", "tag=a&tag=b", "tag=%ff"] {
            assert!(purge_of(wrong).is_err(), "{wrong}");
        }
    }
}
