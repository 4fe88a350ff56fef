//! Changes of headers and metadata that a gate asks for.

use crate::envoy::types::Map;
use crate::filter::context::StreamContext;
use crate::http::mutation::{Mutation, Op};
use crate::http::rules::{is_framing, valid_name, valid_value};

/// Changes to headers, made in the order in which they are given. Lines that are not well-formed or
/// belong to the framing are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    mutations: Vec<Mutation>,
    response: Vec<Mutation>,
    metadata: Vec<(String, String, String)>,
    new_route: bool,
}

impl Edits {
    /// Sets a header, replacing every line of that name.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.mutations.extend(line(name, value.into()));
        self
    }

    /// Removes a header.
    #[must_use]
    pub fn remove(mut self, name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        if valid_name(&name) && !is_framing(&name) && name != "host" {
            self.mutations.push(Mutation::remove(name));
        }
        self
    }

    /// Sets a header of the response, when it comes.
    #[must_use]
    pub fn set_on_response(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.response.extend(line(name, value.into()));
        self
    }

    /// Sets a text in the dynamic metadata, for later filters and the access log.
    #[must_use]
    pub fn metadata(mut self, namespace: &str, key: &str, value: impl Into<String>) -> Self {
        self.metadata.push((namespace.to_owned(), key.to_owned(), value.into()));
        self
    }

    /// Has Envoy choose the route anew, by the changed headers.
    #[must_use]
    pub const fn choose_route_anew(mut self) -> Self {
        self.new_route = true;
        self
    }

    /// What is for the response, as changes of it.
    pub(super) fn take_response(&mut self) -> Self {
        Self { mutations: std::mem::take(&mut self.response), ..Self::default() }
    }

    pub(super) fn apply<E: Send + 'static>(self, cx: &mut StreamContext<'_, E>, map: Map) {
        let mut headers = cx.headers_mut(map);
        for mutation in &self.mutations {
            mutation.apply(&mut headers);
        }
        for (namespace, key, value) in &self.metadata {
            cx.metadata_mut().set_str(namespace, key, value);
        }
        if self.new_route && map == Map::Request {
            cx.clear_route_cache();
        }
    }
}

fn line(name: &str, value: Vec<u8>) -> Option<Mutation> {
    let name = name.to_ascii_lowercase();
    let fits = valid_name(&name) && valid_value(&value) && !is_framing(&name);
    fits.then(|| Mutation::new(Op::Set, name, value))
}
