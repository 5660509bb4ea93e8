//! Time and memory of compiling a long list, in a process that does nothing else.

use std::time::Instant;

use crate::inputs::lists;
use crate::policy::{Pattern, SubstringSet, SuffixSet};

/// Compiles `count` entries of a `kind` and prints milliseconds, and mebioctets of text, of what the
/// process has grown by, and of what it had grown by at most. The entries are made one after the
/// other meanwhile, as by a reader.
pub fn report(kind: &str, count: u32) {
    match kind {
        "suffixes" => measure(count, lists::suffixes, SuffixSet::build),
        "substrings" => measure(count, lists::substrings, SubstringSet::build),
        other => panic!("no list of {other}"),
    }
}

fn measure<I: Iterator<Item = Pattern>, T>(
    count: u32,
    list: impl Fn(u32) -> I,
    build: impl Fn(I) -> T,
) {
    let octets: usize = list(count).map(|pattern| pattern.text.len() + 1).sum();
    let making = Instant::now();
    list(count).for_each(drop);
    let making = making.elapsed();
    let (before, _) = resident();
    let begun = Instant::now();
    let set = build(list(count));
    let took = begun.elapsed().saturating_sub(making);
    let (after, peak) = resident();
    drop(set);
    let mebioctets = |octets: usize| octets as f64 / f64::from(1 << 20);
    println!(
        "{count} {:.0} {:.1} {:.1} {:.1}",
        took.as_secs_f64() * 1e3,
        mebioctets(octets),
        mebioctets(after.saturating_sub(before)),
        mebioctets(peak.saturating_sub(before)),
    );
}

/// Octets of this process in memory, now and at most so far (Linux).
fn resident() -> (usize, usize) {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let kibioctets = |name: &str| -> usize {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.expect("a figure").parse().expect("a number")
    };
    (kibioctets("VmRSS:") << 10, kibioctets("VmHWM:") << 10)
}
