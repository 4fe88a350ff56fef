//! Typed views of the header maps, and what makes a header line well-formed.

use crate::envoy::host::Host;
use crate::envoy::types::{Header, Map};
use crate::http::mutation::HeaderLines;
use crate::http::rules::Size;

/// Reads one header map. Values are bytes: HTTP does not promise UTF-8.
#[derive(Clone, Copy)]
pub struct Headers<'a> {
    host: &'a dyn Host,
    map: Map,
}

impl std::fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Headers").field("map", &self.map).finish_non_exhaustive()
    }
}

impl<'a> Headers<'a> {
    pub(crate) const fn new(host: &'a dyn Host, map: Map) -> Self {
        Self { host, map }
    }

    /// The first value of `name` (lower-case; pseudo headers such as `:path` included).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.host.header(self.map, name, 0)
    }

    /// The first value of `name`, if it is UTF-8.
    #[must_use]
    pub fn get_str(&self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Every value of `name`, in order.
    pub fn get_all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let (host, map) = (self.host, self.map);
        (0..).map_while(move |index| host.header(map, name, index))
    }

    /// Every line, in order.
    #[must_use]
    pub fn all(&self) -> Vec<Header<'a>> {
        self.host.headers(self.map)
    }

    /// How large the map is.
    #[must_use]
    pub fn size(&self) -> Size {
        let lines = self.all();
        Size {
            lines: lines.len(),
            bytes: lines.iter().map(|line| line.name.len() + line.value.len()).sum(),
        }
    }
}

/// Changes one header map. Every change returns `false` when the map does not exist (yet).
pub struct HeadersMut<'a> {
    host: &'a mut dyn Host,
    map: Map,
}

impl std::fmt::Debug for HeadersMut<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeadersMut").field("map", &self.map).finish_non_exhaustive()
    }
}

impl<'a> HeadersMut<'a> {
    pub(crate) const fn new(host: &'a mut dyn Host, map: Map) -> Self {
        Self { host, map }
    }

    /// The lines as they stand.
    #[must_use]
    pub fn view(&self) -> Headers<'_> {
        Headers::new(self.host, self.map)
    }

    /// Replaces every line of `name` by one. The ABI can't hold an empty value: it removes the name.
    pub fn set(&mut self, name: &str, value: &[u8]) -> bool {
        self.host.set_header(self.map, name, value)
    }

    /// Adds one more line of `name`; `false` for an empty value, which the ABI can't hold.
    pub fn add(&mut self, name: &str, value: &[u8]) -> bool {
        self.host.add_header(self.map, name, value)
    }

    /// Joins `value` onto the first line of `name` with a comma (RFC 9110 section 5.3), or adds it
    /// when there is none. Further lines stay as they are.
    pub fn append(&mut self, name: &str, value: &[u8]) -> bool {
        let mut lines: Vec<Vec<u8>> = self.view().get_all(name).map(<[u8]>::to_vec).collect();
        let Some(first) = lines.first_mut() else {
            return self.add(name, value);
        };
        first.push(b',');
        first.extend_from_slice(value);
        let mut lines = lines.into_iter();
        let set = lines.next().is_some_and(|first| self.set(name, &first));
        lines.fold(set, |done, line| self.add(name, &line) && done)
    }

    /// Removes every line of `name`.
    pub fn remove(&mut self, name: &str) -> bool {
        self.host.remove_header(self.map, name)
    }
}

impl HeaderLines for HeadersMut<'_> {
    fn has(&self, name: &str) -> bool {
        self.view().get(name).is_some()
    }

    fn add(&mut self, name: &str, value: &[u8]) {
        HeadersMut::add(self, name, value);
    }

    fn set(&mut self, name: &str, value: &[u8]) {
        HeadersMut::set(self, name, value);
    }

    fn join(&mut self, name: &str, value: &[u8]) {
        self.append(name, value);
    }

    fn remove(&mut self, name: &str) {
        HeadersMut::remove(self, name);
    }
}

#[cfg(test)]
mod tests {
    use crate::http::rules::Size;
    use crate::http::rules::is_framing;
    use crate::http::rules::valid_name;
    use crate::http::rules::valid_value;

    #[test]
    fn a_name_is_a_token_and_a_value_has_no_control_bytes() {
        assert!(valid_name("x-a_b.c"));
        assert!(
            !valid_name("") && !valid_name("x a") && !valid_name(":path") && !valid_name("x\n")
        );
        assert!(valid_value(b"a\tb \xff") && valid_value(b""));
        assert!(!valid_value(b"a\r\nb") && !valid_value(b"\0") && !valid_value(b"\x7f"));
    }

    #[test]
    fn a_map_may_be_as_large_as_envoy_allows_or_as_it_was() {
        let (limits, before) = (Size { lines: 20, bytes: 1000 }, Size { lines: 10, bytes: 100 });
        assert!(limits.is_within(limits, before));
        assert!(!Size { lines: 21, bytes: 100 }.is_within(limits, before));
        assert!(!Size { lines: 10, bytes: 1001 }.is_within(limits, before));
        let large = Size { lines: 120, bytes: 100 };
        assert!(large.is_within(limits, large));
    }

    #[test]
    fn framing_and_hop_by_hop_names_are_told_apart_from_ordinary_ones() {
        assert!(is_framing("content-length") && is_framing("upgrade"));
        assert!(!is_framing("content-type") && !is_framing("x-te"));
    }
}
