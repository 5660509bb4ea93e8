//! Any octets as what clamd, rspamd or spamd answers: a finding that is bounded, finite and
//! printable, or an error; what is whole or wrong is not undone by what follows; memory stays
//! within the length of the answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sekimori::mail::is_harmful;
use sekimori::scan::fuzzing::{Read, clamd, rspamd, rspamd_error, spamd, spamd_told};
use sekimori::scan::{MAX_NAME, MAX_SYMBOLS, SpamFinding};
use sekimori_fuzz::within;

fuzz_target!(|input: &[u8]| {
    let Some((&kind, said)) = input.split_first() else {
        return;
    };
    let most = 64 * 1024 + 64 * said.len();
    match kind % 3 {
        0 => of_clamd(most, u32::from(kind), said),
        1 => of_rspamd(most, said),
        _ => of_spamd(most, said),
    }
});

fn of_clamd(most: usize, first: u32, said: &[u8]) {
    let whole = within(most, || clamd(said, first));
    if let Ok(Some(finding)) = &whole {
        assert!(!finding.version.is_empty() && is_shown(&finding.version));
        let virus = finding.virus.as_deref();
        assert!(virus.is_none_or(|virus| !virus.is_empty() && is_shown(virus)));
        let clean = said.windows(11).any(|part| part == b"stream: OK\0");
        assert!(virus.is_some() || clean, "clean, and nobody said so");
    }
    for cut in cuts(said) {
        match clamd(cut, first) {
            Ok(None) => {}
            // It may go on behind its end.
            Ok(Some(finding)) => assert!(whole.is_err() || whole == Ok(Some(finding))),
            Err(_) => assert!(whole.is_err()),
        }
    }
}

fn of_rspamd(most: usize, said: &[u8]) {
    if let Ok(Some(finding)) = within(most, || rspamd(said)) {
        proper(&finding);
        assert!(finding.action.as_deref().is_some_and(is_shown));
    }
    within(most, || rspamd_error(said));
}

fn of_spamd(most: usize, said: &[u8]) {
    let whole = within(most, || spamd(said));
    if let Ok(Some(finding)) = &whole {
        proper(finding);
    }
    steady(said, &whole, spamd);
    let told = within(most, || spamd_told(said));
    steady(said, &told, spamd_told);
}

/// What is whole or wrong in a part is the same in the whole.
fn steady<T: PartialEq + std::fmt::Debug>(
    said: &[u8],
    whole: &Read<T>,
    parse: impl Fn(&[u8]) -> Read<T>,
) {
    for part in cuts(said).map(parse) {
        assert!(part == Ok(None) || part == *whole, "{part:?}, {whole:?}");
    }
}

fn cuts(said: &[u8]) -> impl Iterator<Item = &[u8]> {
    let step = said.len() / 32 + 1;
    (0..said.len()).step_by(step).map(|cut| &said[..cut])
}

fn proper(finding: &SpamFinding) {
    assert!(finding.score.is_finite() && finding.required.is_finite());
    assert!(finding.symbols.len() <= MAX_SYMBOLS);
    for symbol in &finding.symbols {
        assert!(is_shown(&symbol.name) && !symbol.name.contains(char::is_whitespace));
        assert!(!symbol.name.is_empty() && symbol.score.is_none_or(f64::is_finite));
    }
}

fn is_shown(name: &str) -> bool {
    name.chars().count() <= MAX_NAME && !name.contains(is_harmful)
}
