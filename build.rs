//! How the program is linked, and what jemalloc is told.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/malloc.c");
    // Nothing refers to it but jemalloc, to whose own value it is preferred.
    let mut malloc = cc::Build::new();
    malloc
        .file("src/malloc.c")
        .link_lib_modifier("+whole-archive");
    malloc.compile("malloc");
    let linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    let glibc = std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu");
    if linux && glibc {
        // Relocations in a hundredth of their size: read at each start, they stay resident. Needs
        // glibc 2.36.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
