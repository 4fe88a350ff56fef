//! The context of a trace, as a call carries it on: W3C `traceparent` and `tracestate`, and `b3`.

/// The span that a call belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanIds {
    /// Trace id, in hex digits.
    pub trace: String,
    /// Span id, in hex digits.
    pub span: String,
}

/// Headers of a request that carry a trace.
const CARRIERS: [&str; 7] = [
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
];

/// The lines by which a call carries on the trace of a request with these headers. Of the span where
/// Envoy traces the request, else as the request itself says.
///
/// Envoy does not tell a module whether a span is sampled: it counts as sampled unless the request belongs to
/// the same trace and says otherwise.
pub fn carried<'a>(
    span: Option<&SpanIds>,
    header: impl Fn(&str) -> Option<&'a [u8]>,
) -> Vec<(&'static str, Vec<u8>)> {
    let Some((trace, id)) = span.and_then(ids) else {
        let lines = CARRIERS.iter().filter_map(|name| Some((*name, header(name)?.to_vec())));
        return lines.collect();
    };
    let incoming = header("traceparent").and_then(Parent::parse).filter(|it| it.trace == trace);
    let sampled = match &incoming {
        Some(incoming) => incoming.sampled,
        None => b3_sampled(&header, trace).unwrap_or(true),
    };
    let mut lines = vec![(
        "traceparent",
        format!("00-{trace:0>32}-{id:0>16}-0{}", u8::from(sampled)).into_bytes(),
    )];
    if incoming.is_some()
        && let Some(state) = header("tracestate")
    {
        lines.push(("tracestate", state.to_vec()));
    }
    if header("b3").is_some() || header("x-b3-traceid").is_some() {
        lines.push(("b3", format!("{trace}-{id}-{}", u8::from(sampled)).into_bytes()));
    }
    lines
}

/// The ids of a span, where they are what the lines can hold.
fn ids(span: &SpanIds) -> Option<(&str, &str)> {
    let SpanIds { trace, span } = span;
    let is_hex = |text: &str, most: usize| {
        !text.is_empty()
            && text.len() <= most
            && text.bytes().all(|byte| byte.is_ascii_hexdigit())
            && text.bytes().any(|byte| byte != b'0')
    };
    (is_hex(trace, 32) && is_hex(span, 16)).then_some((trace, span))
}

/// What a `traceparent` says.
struct Parent<'a> {
    trace: &'a str,
    sampled: bool,
}

impl<'a> Parent<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(text).ok()?.split('-');
        let (_version, trace) = (parts.next()?, parts.next()?);
        let (_span, flags) = (parts.next()?, parts.next()?);
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(Self { trace, sampled: flags & 1 == 1 })
    }
}

/// What the `b3` headers of a request say, if they are about `trace`.
fn b3_sampled<'a>(header: &impl Fn(&str) -> Option<&'a [u8]>, trace: &str) -> Option<bool> {
    let text = |name: &str| std::str::from_utf8(header(name)?).ok();
    let (told, sampled) = match text("b3") {
        Some(single) => {
            let mut parts = single.split('-');
            (parts.next()?, parts.nth(1)?)
        }
        None => (text("x-b3-traceid")?, text("x-b3-sampled")?),
    };
    (told == trace).then_some(matches!(sampled, "1" | "d" | "true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn lines(span: Option<(&str, &str)>, headers: &[(&str, &str)]) -> Vec<(&'static str, String)> {
        let span = span.map(|(trace, span)| SpanIds { trace: trace.into(), span: span.into() });
        let header = |name: &str| {
            headers.iter().find(|(one, _)| *one == name).map(|(_, value)| value.as_bytes())
        };
        let text = |value: Vec<u8>| String::from_utf8(value).unwrap();
        carried(span.as_ref(), header)
            .into_iter()
            .map(|(name, value)| (name, text(value)))
            .collect()
    }

    fn line(name: &'static str, value: &str) -> (&'static str, String) {
        (name, value.to_owned())
    }

    #[test]
    fn without_a_span_the_requests_own_lines_go_on() {
        let headers = [("traceparent", "x"), ("b3", "y"), ("x-other", "z")];
        assert_eq!(lines(None, &headers), [line("traceparent", "x"), line("b3", "y")]);
        assert_eq!(lines(None, &[]), []);
    }

    #[test]
    fn the_span_is_the_parent_and_the_state_of_its_trace_goes_along() {
        let span = Some((TRACE, "b7ad6b7169203331"));
        let parent = |flags: &str| format!("00-{TRACE}-b7ad6b7169203331-{flags}");
        assert_eq!(lines(span, &[]), [line("traceparent", &parent("01"))]);
        let same = format!("00-{TRACE}-00f067aa0ba902b7-00");
        let headers = [("traceparent", same.as_str()), ("tracestate", "a=1")];
        let expected = [line("traceparent", &parent("00")), line("tracestate", "a=1")];
        assert_eq!(lines(span, &headers), expected);
        let other = "00-11111111111111111111111111111111-00f067aa0ba902b7-00";
        let headers = [("traceparent", other), ("tracestate", "a=1")];
        assert_eq!(lines(span, &headers), [line("traceparent", &parent("01"))]);
    }

    #[test]
    fn a_request_of_zipkin_gets_its_own_form_too() {
        let span = Some(("48485a3953bb6124", "b7ad6b7169203331"));
        let parent = "00-000000000000000048485a3953bb6124-b7ad6b7169203331-00";
        for headers in [
            vec![("b3", "48485a3953bb6124-00f067aa0ba902b7-0")],
            vec![("x-b3-traceid", "48485a3953bb6124"), ("x-b3-sampled", "0")],
        ] {
            let expected =
                [line("traceparent", parent), line("b3", "48485a3953bb6124-b7ad6b7169203331-0")];
            assert_eq!(lines(span, &headers), expected);
        }
    }

    #[test]
    fn ids_that_no_line_can_hold_are_no_span() {
        for (trace, span) in
            [("", "1"), ("1", ""), ("0", "1"), ("x", "1"), ("1", "11111111111111111")]
        {
            assert_eq!(lines(Some((trace, span)), &[("b3", "y")]), [line("b3", "y")]);
        }
    }
}
