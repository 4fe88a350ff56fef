//! What a check may quote of a request, read from Envoy where it stands.

use std::time::SystemTime;

use callout_common::Direction;
use callout_common::api::config::since_epoch;
use callout_common::envoy::attributes::Attribute;
use callout_common::envoy::types::MetadataSource;
use callout_common::envoy::version::EnvoyVersion;
use callout_protos::envoy::config::core::v3::Metadata;

use crate::apply::state::Stream;
use crate::call::check_call::Context;
use crate::request::{Body, Peer, View};

impl Stream {
    pub(super) fn view<'a>(&'a self, cx: &'a Context<'_>, body: Option<Body>) -> View<'a> {
        let config = self.config();
        let attribute = |attribute| cx.attribute(attribute).unwrap_or_default();
        let contexts = |source, flat: &[String], typed: &[String]| {
            let mut context = Metadata::default();
            cx.metadata(source).collect(flat, typed, &mut context);
            context
        };
        View {
            headers: cx.request().all(),
            source: Peer {
                address: attribute(Attribute::SourceAddress),
                identities: [
                    attribute(Attribute::ConnectionUriSanPeerCertificate),
                    attribute(Attribute::ConnectionDnsSanPeerCertificate),
                    attribute(Attribute::ConnectionSubjectPeerCertificate),
                ],
            },
            certificate: config.include_peer_certificate.then(|| cx.peer_certificate()).flatten(),
            destination: Peer {
                address: attribute(Attribute::DestinationAddress),
                identities: [
                    attribute(Attribute::ConnectionUriSanLocalCertificate),
                    attribute(Attribute::ConnectionDnsSanLocalCertificate),
                    attribute(Attribute::ConnectionSubjectLocalCertificate),
                ],
            },
            protocol: attribute(Attribute::RequestProtocol),
            server_name: if config.include_tls_session {
                attribute(Attribute::ConnectionRequestedServerName)
            } else {
                b""
            },
            time: since_epoch(SystemTime::now()),
            id: rand::random(),
            size: body_size(cx).unwrap_or_else(|| {
                // What is held, which is less than what came where it was cut.
                let held = cx.body_so_far(Direction::Request);
                u64::try_from(held).unwrap_or(u64::MAX)
            }),
            body,
            context_extensions: self.settings().map(|settings| &settings.context_extensions),
            metadata: contexts(
                MetadataSource::Dynamic,
                &config.metadata_context_namespaces,
                &config.typed_metadata_context_namespaces,
            ),
            route_metadata: contexts(
                MetadataSource::Route,
                &config.route_metadata_context_namespaces,
                &config.route_typed_metadata_context_namespaces,
            ),
        }
    }
}

/// Bytes of the body so far, as Envoy tells them since 1.40; before, asking for them is an error in its log.
fn body_size(cx: &Context<'_>) -> Option<u64> {
    let told = EnvoyVersion::running() >= EnvoyVersion::V1_40;
    told.then(|| cx.attribute_int(Attribute::RequestSize)).flatten()
}
