//! As what a request arrived, told by what it has become: earlier filters make gRPC of other requests,
//! and Envoy answers each as it arrived.

/// How a request stands to gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It is not a gRPC request.
    Plain,
    /// It is one. Envoy's local replies to it are gRPC statuses.
    Grpc,
    /// An earlier filter made one of it: gRPC-Web, or JSON that was transcoded. Envoy's local replies
    /// to it are plain.
    Converted,
}

impl Arrival {
    /// That of the request with these headers.
    ///
    /// What conversion leaves behind: `grpc_web` allows no compression, and its clients say that they
    /// are; the transcoder keeps the method that it replaces. A client that writes these lines itself
    /// gets a reply in another form, and no other verdict.
    pub fn of<'a>(header: impl Fn(&str) -> Option<&'a [u8]>) -> Self {
        let rest = header("content-type").and_then(|value| value.strip_prefix(b"application/grpc"));
        if !rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';'))) {
            return Self::Plain;
        }
        let is_web = header("x-grpc-web").is_some()
            && header("grpc-accept-encoding") == Some(b"identity")
            && header("content-length").is_none();
        let is_transcoded = header("x-envoy-original-method").is_some()
            && header("x-envoy-original-path").is_some();
        if is_web || is_transcoded { Self::Converted } else { Self::Grpc }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[(&str, &'static str)]) -> Arrival {
        Arrival::of(|name| {
            lines.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_bytes())
        })
    }

    #[test]
    fn a_content_type_of_grpc_is_grpc_unless_a_conversion_left_its_traces() {
        let grpc = ("content-type", "application/grpc");
        assert_eq!(of(&[]), Arrival::Plain);
        assert_eq!(of(&[("content-type", "application/json")]), Arrival::Plain);
        assert_eq!(of(&[("content-type", "application/grpc-web+proto")]), Arrival::Plain);
        assert_eq!(of(&[grpc]), Arrival::Grpc);
        assert_eq!(of(&[("content-type", "application/grpc+proto")]), Arrival::Grpc);
        assert_eq!(of(&[grpc, ("grpc-accept-encoding", "identity, deflate, gzip")]), Arrival::Grpc);
        assert_eq!(of(&[grpc, ("grpc-accept-encoding", "identity")]), Arrival::Grpc);
        assert_eq!(of(&[grpc, ("x-envoy-original-path", "/before")]), Arrival::Grpc);

        let web = [grpc, ("grpc-accept-encoding", "identity"), ("x-grpc-web", "1")];
        assert_eq!(of(&web), Arrival::Converted);
        let json = [grpc, ("x-envoy-original-method", "GET"), ("x-envoy-original-path", "/v1")];
        assert_eq!(of(&json), Arrival::Converted);
        let plain = [("content-type", "text/plain"), json[1], json[2]];
        assert_eq!(of(&plain), Arrival::Plain);
    }
}
