//! Does pieces of work of the pure core, for `valgrind --tool=callgrind` to count their instructions:
//! `sekimori-counts [PIECE...]`, all pieces when none is named; with `--list` their names.
//! `sekimori-counts --compile suffixes|substrings COUNT`: time and memory of the compile of a list.
//! `benches/counts/run` calls it.

#[allow(dead_code, unused_imports)]
#[path = "../../../src/mail/mod.rs"]
mod mail;
#[allow(dead_code, unused_imports)]
#[path = "../../../src/policy/mod.rs"]
mod policy;
#[allow(dead_code, unused_imports)]
#[path = "../../../src/smtp/mod.rs"]
mod smtp;

#[path = "../../inputs/mod.rs"]
mod inputs;

mod compile;

use inputs::pieces::PIECES;

fn main() {
    let names: Vec<String> = std::env::args().skip(1).collect();
    if names == ["--list"] {
        PIECES.iter().for_each(|piece| println!("{}", piece.name));
        return;
    }
    if let [option, kind, count] = names.as_slice()
        && option == "--compile"
    {
        compile::report(kind, count.parse().expect("a count"));
        return;
    }
    for name in &names {
        assert!(
            PIECES.iter().any(|piece| piece.name == name),
            "no piece {name}"
        );
    }
    for piece in PIECES {
        if names.is_empty() || names.iter().any(|name| name == piece.name) {
            let mut work = (piece.prepare)();
            // What is done once a process is not counted.
            work();
            measured_work(&mut *work);
        }
    }
}

/// What callgrind counts; it writes a file at each return from here.
#[inline(never)]
fn measured_work(work: &mut dyn FnMut()) {
    work();
}
