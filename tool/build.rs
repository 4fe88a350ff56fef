//! Links three filters into one program: each brings the entry by which Envoy knows its library, which
//! nobody calls here.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg=-Wl,--allow-multiple-definition");
}
