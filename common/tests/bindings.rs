//! The checked-in bindings are what bindgen makes of the C headers beside them. Needs libclang, so
//! it runs on request: `cargo test -p callout-common --test bindings -- --ignored`;
//! with `UPDATE_BINDINGS=1` it rewrites them instead.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail loudly"
)]

use std::path::Path;
use std::process::Command;

use bindgen::{Builder, EnumVariation, Formatter, RustEdition, RustTarget};

fn builder(header: &Path) -> Builder {
    // A bare libclang lacks the compiler's own headers (stdbool.h); gcc has them.
    let include = Command::new("gcc").arg("-print-file-name=include").output().expect("gcc runs");
    bindgen::builder()
        .header(header.to_str().unwrap())
        .clang_arg(format!("-isystem{}", String::from_utf8(include.stdout).unwrap().trim()))
        .rust_target(RustTarget::stable(85, 0).ok().unwrap())
        .rust_edition(RustEdition::Edition2024)
        .default_enum_style(EnumVariation::Consts)
        .prepend_enum_name(false)
        .generate_comments(false)
        .layout_tests(true)
        .wrap_unsafe_ops(true)
        .formatter(Formatter::Prettyplease)
        .disable_header_comment()
        .raw_line("// Made by bindgen from the C header of the same name: see tests/bindings.rs.")
}

fn compare(dir: &Path, name: &str, builder: Builder) {
    let made = builder.generate().expect("bindgen reads the header").to_string();
    let file = dir.join(format!("{name}.rs"));
    if std::env::var_os("UPDATE_BINDINGS").is_some() {
        std::fs::write(&file, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(
        kept == made,
        "{} differs from what bindgen makes; run with UPDATE_BINDINGS=1",
        file.display()
    );
}

#[test]
#[ignore = "needs libclang; .ci/run installs it and runs this"]
fn the_checked_in_bindings_are_what_bindgen_makes_of_the_headers() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/abi/bindings");
    let types = builder(&dir.join("types.h"))
        .allowlist_type("envoy_dynamic_module_.*")
        .allowlist_var("envoy_dynamic_module_.*");
    compare(&dir, "types", types);
    for (name, library, all) in [("required", "Required", true), ("newer", "Newer", false)] {
        let header = dir.join(format!("{name}.h"));
        let builder = builder(&header)
            .dynamic_library_name(library)
            .dynamic_link_require_all(all)
            .allowlist_function("envoy_dynamic_module_callback_.*")
            .allowlist_recursively(false)
            .raw_line("use super::types::*;");
        compare(&dir, name, builder);
    }
}
