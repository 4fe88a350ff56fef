//! What the processor is not asked about: requests by method and path, bodies by their type.
//!
//! To skip is to let pass unseen, so a client must not be able to dress another request up as one
//! that is skipped. The upstream may read a path otherwise than it stands there, so a path is skipped only
//! when every reading of it is.

use callout_common::api::matching::StringMatcher;
use callout_common::filter::headers::Headers;
use callout_common::http::rules::valid_name;

/// Rounds of escapes in escapes that are read.
const MOST_ROUNDS: usize = 4;

/// Which requests the processor is not asked about.
#[derive(Debug, Default)]
pub(crate) struct Skip {
    pub(crate) methods: Vec<String>,
    pub(crate) paths: Vec<StringMatcher>,
}

impl Skip {
    /// Whether a request is covered. The query does not belong to the path.
    pub(crate) fn covers(&self, method: &[u8], path: &[u8]) -> bool {
        if self.methods.iter().any(|skipped| skipped.as_bytes() == method) {
            return true;
        }
        if self.paths.is_empty() {
            return false;
        }
        let path = path.split(|byte| *byte == b'?').next().unwrap_or(path);
        let covered = |path: &[u8]| self.paths.iter().any(|matcher| matcher.matches(path));
        readings(path).is_some_and(|readings| readings.iter().all(|path| covered(path)))
    }
}

/// Whether a message of this `content-type` is one of `types`: in lower case, without parameters. What
/// is not one well-formed type is none of them.
pub(crate) fn has_type(headers: Headers<'_>, types: &[StringMatcher]) -> bool {
    if types.is_empty() {
        return false;
    }
    let mut lines = headers.get_all("content-type");
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    essence(line).is_some_and(|essence| types.iter().any(|of| of.matches(essence.as_bytes())))
}

fn essence(line: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(line).ok()?;
    let essence = line.split(';').next()?.trim().to_ascii_lowercase();
    let (kind, subtype) = essence.split_once('/')?;
    (valid_name(kind) && valid_name(subtype)).then_some(essence)
}

/// The path as it stands, and as upstreams may read it: without escapes, dot segments, empty segments and
/// parameters of segments, backslashes being slashes. `None` where it can't be told how it will be
/// read.
fn readings(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut readings = vec![path.to_vec(), resolved(path)];
    let mut escaped = path.to_vec();
    for _ in 0..MOST_ROUNDS {
        if !escaped.contains(&b'%') {
            return plain(&escaped).then_some(readings);
        }
        escaped = unescaped(&escaped)?;
        readings.extend([escaped.clone(), resolved(&escaped)]);
    }
    None
}

/// Whether all readers agree on its characters.
fn plain(path: &[u8]) -> bool {
    std::str::from_utf8(path).is_ok() && !path.iter().any(|b| b.is_ascii_control() || *b == b'#')
}

/// Every escape decoded once; `None` where one is not well-formed.
fn unescaped(path: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let [high, low, after @ ..] = after else { return None };
            out.push(digit(high)? << 4 | digit(low)?);
            rest = after;
        } else {
            out.push(*first);
            rest = after;
        }
    }
    Some(out)
}

/// The path with its segments resolved (RFC 3986 section 5.2.4), empty ones and parameters left out.
fn resolved(path: &[u8]) -> Vec<u8> {
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut open = false;
    for segment in path.split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or(segment);
        open = matches!(name, b"" | b"." | b"..");
        match name {
            b"" | b"." => {}
            b".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    let mut out: Vec<u8> = segments.iter().flat_map(|name| [b"/", *name].concat()).collect();
    if open || out.is_empty() {
        out.push(b'/');
    }
    out
}

#[cfg(test)]
mod tests {
    use callout_common::api::matching::StringMatcher;
    use proptest::prelude::*;

    use super::*;

    fn skip() -> Skip {
        let matcher =
            |json: &str| StringMatcher::configure(&serde_json::from_str(json).unwrap()).unwrap();
        let paths =
            [r#"{"prefix": "/assets/"}"#, r#"{"exact": "/health"}"#, r#"{"suffix": ".css"}"#];
        Skip { methods: vec!["OPTIONS".to_owned()], paths: paths.map(matcher).into() }
    }

    #[test]
    fn methods_and_paths_are_skipped_whatever_the_query_says() {
        let skip = skip();
        assert!(skip.covers(b"OPTIONS", b"/") && skip.covers(b"GET", b"/assets/x?y"));
        assert!(!skip.covers(b"GET", b"/?p=/assets/") && !skip.covers(b"options", b"/"));
    }

    #[test]
    fn a_path_is_skipped_only_when_every_reading_of_it_is() {
        let skip = skip();
        for path in [
            "/assets/",
            "/assets/a/b.js",
            "/assets//a",
            "/assets/./a",
            "/assets/a/../b",
            "/assets/%41%c3%a4",
            "/assets/a%2fb",
            "/assets/a;v=1/b",
            "/assets/%2e/a",
            "/health",
            "/a/b.css",
            "/assets/a%20b",
        ] {
            assert!(skip.covers(b"GET", path.as_bytes()), "{path}");
        }
        for path in [
            "/assets/../admin",
            "/assets/%2e%2e/admin",
            "/assets/.%2E/admin",
            "/assets/..%2fadmin",
            "/assets/..%5cadmin",
            "/assets/..\\admin",
            "/assets/..;/admin",
            "/assets/..;x=1/admin",
            "/assets/%252e%252e/admin",
            "/assets/%2525252e%2525252e/",
            "/admin/../assets/a",
            "//assets/../admin",
            "/assets/%zz",
            "/assets/%2",
            "/assets/%00/../admin",
            "/assets/%",
            "/assets/%c0%ae%c0%ae/admin",
            "/assets/#/../admin",
            "/assets/a/../../admin",
            "/admin;a.css",
            "/admin/;a.css",
            "/admin/x.css/..",
            "/admin/x.css/..;/y.css/../..",
            "/healt%68/../admin",
            "/%2e%2e/assets/..",
            "/assets\\..\\admin",
            "/ASSETS/a",
            "*",
            "",
        ] {
            assert!(!skip.covers(b"GET", path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn what_is_not_one_well_formed_type_is_not_skipped() {
        let of = |line: &str| essence(line.as_bytes());
        assert_eq!(of("Image/PNG; a=b").as_deref(), Some("image/png"));
        for line in ["image/png,application/json", "image", "image/", "image/a b", ""] {
            assert_eq!(of(line), None, "{line}");
        }
    }

    proptest! {
        /// No path that resolves to another place than the skipped one is skipped, however it is
        /// dressed up.
        #[test]
        fn no_dress_makes_another_path_a_skipped_one(
            parts in proptest::collection::vec(
                prop_oneof![
                    Just("/"), Just("\\"), Just("%2f"), Just("%5C"), Just(".."), Just("."),
                    Just("%2e"), Just("%252e"), Just("assets"), Just("admin"), Just(";"),
                    Just("%"), Just("%25"),
                ],
                0..12,
            ),
        ) {
            let path = format!("/{}", parts.concat());
            if skip().covers(b"GET", path.as_bytes()) {
                // Decoded and resolved as far as can be, it lies in the place that is skipped.
                let mut plain = path.into_bytes();
                while plain.contains(&b'%') {
                    plain = unescaped(&plain).unwrap();
                }
                prop_assert!(resolved(&plain).starts_with(b"/assets/"));
            }
        }
    }
}
