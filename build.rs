//! How the program is linked, and glibc's malloc set.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    let glibc = std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu");
    if linux && glibc {
        // Relocations in a hundredth of their size: read at each start, they stay resident. Needs
        // glibc 2.36.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        println!("cargo::rerun-if-changed=src/arenas.c");
        // Nothing refers to it: it runs by itself.
        let mut arenas = cc::Build::new();
        arenas
            .file("src/arenas.c")
            .link_lib_modifier("+whole-archive");
        arenas.compile("arenas");
    }
}
