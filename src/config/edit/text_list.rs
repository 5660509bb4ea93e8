//! The text file of a long list (`<list>_file`), one entry a line: the same changes as to a YAML
//! list. All other lines stay octet for octet. No I/O.

use std::collections::BTreeSet;

/// The text with entries more at its end.
pub(super) fn add(text: &str, entries: &[String]) -> String {
    let first = text.split_inclusive('\n').next().unwrap_or_default();
    let eol = if first.ends_with("\r\n") {
        "\r\n"
    } else {
        "\n"
    };
    let ends = text.trim_start_matches('\u{feff}').is_empty() || text.ends_with('\n');
    let mut out = text.to_owned();
    for entry in entries {
        if ends {
            out = out + entry + eol;
        } else {
            out = out + eol + entry;
        }
    }
    out
}

/// The text without the lines of those numbers (from 1).
pub(super) fn without(text: &str, gone: &BTreeSet<u32>) -> String {
    let (bom, text) = match text.strip_prefix('\u{feff}') {
        Some(text) => ("\u{feff}", text),
        None => ("", text),
    };
    let lines = (1u32..).zip(text.split_inclusive('\n'));
    let kept = lines.filter(|(number, _)| !gone.contains(number));
    std::iter::once(bom)
        .chain(kept.map(|(_, line)| line))
        .collect()
}
