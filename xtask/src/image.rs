//! The image: an OCI layout that holds the files of a release and nothing that runs, made without a
//! daemon. `skopeo copy oci:dist/image:0.1.0 docker://...` publishes it.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};

use crate::build::{Arch, library};
use crate::{FILTERS, VERSION, sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Writes `image`, with one manifest for each architecture.
pub(crate) fn write(out: &Path, archs: &[Arch]) -> Result<()> {
    let image = out.join("image");
    let blobs = image.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let manifests: Vec<Value> =
        archs.iter().map(|arch| manifest(out, &blobs, *arch)).collect::<Result<_>>()?;
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    let mut whole = blob(&blobs, INDEX, index.to_string().as_bytes())?;
    if let Some(fields) = whole.as_object_mut() {
        let name = json!({"org.opencontainers.image.ref.name": VERSION});
        fields.insert("annotations".to_owned(), name);
    }
    let top = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [whole]});
    fs::write(image.join("index.json"), top.to_string())?;
    fs::write(image.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
    Ok(())
}

/// The description of a blob, which is written under its sum.
fn blob(blobs: &Path, media: &str, bytes: &[u8]) -> Result<Value> {
    let sum = sha256(bytes);
    fs::write(blobs.join(&sum), bytes)?;
    Ok(json!({"mediaType": media, "digest": format!("sha256:{sum}"), "size": bytes.len()}))
}

fn manifest(out: &Path, blobs: &Path, arch: Arch) -> Result<Value> {
    let tar = layer(out, arch)?;
    let plain = sha256(&tar);
    let mut zipped = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    zipped.write_all(&tar)?;
    let layer = blob(blobs, LAYER, &zipped.finish()?)?;
    let labels = json!({
        "org.opencontainers.image.title": "Callouts for Envoy",
        "org.opencontainers.image.description":
            "ext_authz, ratelimit and ext_proc as dynamic modules for Envoy 1.38 to 1.40",
        "org.opencontainers.image.version": VERSION,
        "org.opencontainers.image.licenses": "Apache-2.0",
    });
    let config = json!({
        "architecture": arch.oci(),
        "os": "linux",
        "config": {"Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{plain}")]},
    });
    let config = blob(blobs, CONFIG, config.to_string().as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
        "annotations": labels,
    });
    let mut described = blob(blobs, MANIFEST, manifest.to_string().as_bytes())?;
    if let Some(fields) = described.as_object_mut() {
        let platform = json!({"architecture": arch.oci(), "os": "linux"});
        fields.insert("platform".to_owned(), platform);
    }
    Ok(described)
}

/// The files of the image: each library under its name with and without the version, the schemas, the
/// licences.
fn layer(out: &Path, arch: Arch) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut file = |name: &str, bytes: &[u8], mode: u32| -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(bytes.len())?);
        header.set_mode(mode);
        Ok(tar.append_data(&mut header, name, bytes)?)
    };
    let folder = out.join(arch.name());
    for filter in FILTERS {
        let name = library(filter);
        let bytes = fs::read(folder.join(&name)).with_context(|| format!("reading {name}"))?;
        file(&name, &bytes, 0o755)?;
        file(&format!("libcallout_{filter}.so"), &bytes, 0o755)?;
    }
    for name in ["envoy"].iter().chain(FILTERS.iter()) {
        let name = format!("schema/{name}.json");
        file(&name, &fs::read(out.join(&name))?, 0o644)?;
    }
    file("LICENSES.txt", &fs::read(out.join("LICENSES.txt"))?, 0o644)?;
    file("manifest.yaml", about().as_bytes(), 0o644)?;
    Ok(tar.into_inner()?)
}

/// What is in the image, for a catalogue.
fn about() -> String {
    let mut text = String::new();
    for (filter, what) in [
        ("authz", "External authorization, with kept and shared decisions"),
        ("ratelimit", "Global rate limits, with leases and limits for when the service is down"),
        ("extproc", "External processing, with skips, retries and a breaker"),
    ] {
        text.push_str(&format!(
            "---\nname: callout-{filter}\nversion: {VERSION}\ntype: rust\ndescription: {what}\nminEnvoyVersion: 1.38.0\nmaxEnvoyVersion: 1.40.x\nlicense: Apache-2.0\nfile: libcallout_{filter}.so\n"
        ));
    }
    text
}
