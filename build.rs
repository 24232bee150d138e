//! Linker flags of the extension's shared library.

fn main() {
    // The SQL that CREATE EXTENSION runs is generated from a section of the library that nothing
    // refers to: the linker must not drop it. cargo-pgrx can pass this flag itself, but only to
    // every dependency too, which would then be compiled twice: for it and for `cargo test`.
    println!("cargo::rustc-cdylib-link-arg=-Wl,--no-gc-sections");
    println!("cargo::rerun-if-changed=build.rs");
}
