//! Lists of patterns: endings that cover too much, or nothing; entries that others cover.

use psl::Type;

use super::super::lines::Line;
use super::super::source::Report;
use super::Ours;
use crate::mail::{Address, Folded};
use crate::policy::{AllowSet, Hit, Pattern, SubstringSet, SuffixSet};

/// An entry with its folded text.
pub(super) type Entry = (Line, Folded);

/// A bare domain whose first label is so short ends many other domains (`x.com`, `netflix.com`);
/// code points.
const SHORT_LABEL: usize = 2;

/// What the list is for: an ending that covers a whole country is a mistake in some only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Use {
    /// `reject.from_suffixes`.
    Reject,
    /// `allow`, `announcement_senders`: an entry with a local part means that address.
    Allow,
    /// A condition: any ending may be meant.
    Choose,
}

/// Each entry of a list of address endings for itself.
pub(super) fn endings(report: &mut Report, entries: &[Entry], usage: Use) {
    for (line, folded) in entries {
        let ending = folded.as_str();
        if let Some(why) = covers_nothing(ending) {
            let help = "write a whole address, `@shop.example` for a domain, or `.shop.example` for \
                        those below it";
            report.warning("no-address", line.place, why, help);
        } else if is_public_suffix(ending) && usage != Use::Choose {
            let message = format!(
                "`{}` covers everybody under that top-level domain",
                line.text
            );
            let help = "name the domains that you mean";
            report.warning("broad-suffix", line.place, message, help);
        } else if is_unanchored(ending) {
            let message = format!(
                "`{0}` also covers every other domain that ends so, such as `not{0}`",
                line.text
            );
            let help = format!(
                "write `@{0}` for that domain, `.{0}` for those below it",
                line.text
            );
            report.warning("unanchored-suffix", line.place, message, help);
        }
    }
}

/// Endings that hold the mail of the owner, or of the operator's own domains.
pub(super) fn own(report: &mut Report, entries: &[Entry], ours: &Ours, own: &[Address]) {
    let own: Vec<String> = own.iter().map(Address::key).collect();
    let help = "remove it: colleagues, and this server's own notices, would be held";
    for (line, folded) in entries {
        let ending = folded.as_str();
        if covers_nothing(ending).is_some() || is_public_suffix(ending) {
            continue;
        }
        let mine = own.iter().find(|key| key.ends_with(ending));
        let message = match (mine, ours.covered_by(ending)) {
            (Some(key), _) => format!("this covers the owner's own address {key}"),
            (None, Some(domain)) => format!("this covers {domain}, a domain of this server"),
            (None, None) => continue,
        };
        report.warning("own-domain", line.place, message, help);
    }
}

/// Endings that another ending of the list covers.
pub(super) fn covered_endings(report: &mut Report, entries: &[Entry], usage: Use) {
    let covering = entries
        .iter()
        .filter(|(_, folded)| usage != Use::Allow || !is_address(folded));
    let set = SuffixSet::build(patterns(report, covering));
    for (line, folded) in entries {
        let [behind, _] = folded.shortened();
        let hit = set.find(&behind);
        covered(report, line, hit);
    }
}

/// Texts that hold another text of the list, which is compiled in `set`.
pub(super) fn covered_texts(report: &mut Report, entries: &[Entry], set: &SubstringSet) {
    for (line, folded) in entries {
        let shorter = folded.shortened();
        covered(report, line, shorter.iter().find_map(|text| set.find(text)));
    }
}

fn covered(report: &mut Report, line: &Line, hit: Option<Hit>) {
    if let Some(hit) = hit {
        let message = format!("the entry {} covers this one", shown(&hit));
        report.warning("covered-entry", line.place, message, "remove one of them");
    }
}

/// Entries that need proof, of senders who need none.
pub(super) fn needless_proof(report: &mut Report, verified: &[Entry], senders: &[Entry]) {
    let set = AllowSet::build(patterns(report, senders));
    for (line, folded) in verified {
        covered(report, line, set.find(folded));
    }
}

/// Reject entries whose mail the allow list lets through first.
pub(super) fn moot_rejects(report: &mut Report, rejects: &[Entry], senders: &[Entry]) {
    // A rejected address is the end of longer ones, which its like does not allow.
    let endings = senders.iter().filter(|(_, folded)| !is_address(folded));
    let set = AllowSet::build(patterns(report, endings));
    for (line, folded) in rejects {
        let Some(hit) = set.find(folded) else {
            continue;
        };
        let message = format!(
            "it holds nothing: with `before_reject` the allow entry {} covers it",
            shown(&hit)
        );
        let help = "remove one of them";
        report.warning("moot-reject", line.place, message, help);
    }
}

/// An entry and its place, as a sentence names it.
pub(super) fn shown(hit: &Hit) -> String {
    let origin = hit.origin.as_ref().map(|origin| format!(" ({origin})"));
    format!("`{}`{}", hit.entry, origin.unwrap_or_default())
}

pub(super) fn patterns<'a>(
    report: &Report,
    entries: impl IntoIterator<Item = &'a Entry>,
) -> Vec<Pattern> {
    let pattern = |(line, _): &Entry| Pattern {
        text: line.text.clone(),
        origin: report.origin(line.place),
    };
    entries.into_iter().map(pattern).collect()
}

/// An allow entry with a local part means that address: it covers no other.
fn is_address(folded: &Folded) -> bool {
    folded.as_str().find('@').is_some_and(|at| at > 0)
}

/// Why no mail address ends so.
fn covers_nothing(ending: &str) -> Option<&'static str> {
    let (local, domain) = ending.rsplit_once('@').unwrap_or(("", ending));
    if ending.starts_with(['*', '/', '^']) || domain.contains(['*', '?']) {
        return Some("an entry is plain text: `*` and the like stand for themselves");
    }
    let odd = |text: &str| text.contains(|c: char| c == ' ' || "<>()[],;:\"\\/@".contains(c));
    let (literal, quoted) = (domain.starts_with('['), local.starts_with('"'));
    if odd(domain) && !literal || odd(local) && !quoted {
        return Some("no mail address ends like this");
    }
    if ending.contains('@') && local.is_empty() && is_public_suffix(domain) {
        return Some("nobody has an address directly under a top-level domain");
    }
    let is_word = !ending.contains(['@', '.']) && !is_public_suffix(ending);
    is_word.then_some("this is neither a domain nor an address")
}

/// A top-level domain, or one under which everybody can register (`co.jp`), with or without its dot.
fn is_public_suffix(ending: &str) -> bool {
    let name = ending.strip_prefix('.').unwrap_or(ending);
    let ascii = idna::domain_to_ascii(name).unwrap_or_default();
    let Some(suffix) = psl::suffix(ascii.as_bytes()) else {
        return false;
    };
    suffix.is_known() && suffix.typ() == Some(Type::Icann) && suffix.as_bytes() == ascii.as_bytes()
}

/// A bare registered domain with a very short name.
fn is_unanchored(ending: &str) -> bool {
    if ending.contains('@') || ending.starts_with('.') {
        return false;
    }
    let ascii = idna::domain_to_ascii(ending).unwrap_or_default();
    let registered = psl::domain(ascii.as_bytes());
    let label = ending.split('.').next().unwrap_or_default();
    label.chars().count() <= SHORT_LABEL
        && registered.is_some_and(|domain| domain.as_bytes() == ascii.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_under_which_everybody_can_register() {
        for (ending, public) in [
            ("jp", true),
            (".jp", true),
            (".co.jp", true),
            ("co.jp", true),
            ("com", true),
            ("みんな", true),
            (".tokyo.jp", true),
            ("example.jp", false),
            ("@co.jp", false),
            (".example", false),
            ("github.io", false),
            ("", false),
        ] {
            assert_eq!(is_public_suffix(ending), public, "{ending:?}");
        }
    }

    #[test]
    fn endings_that_no_address_has() {
        for (ending, nothing) in [
            ("*@spam.example", true),
            ("*.spam.example", true),
            ("@*.spam.example", true),
            ("taro <taro@spam.example>", true),
            ("@jp", true),
            ("@co.jp", true),
            ("newsletter", true),
            ("a b", true),
            ("@localhost", false),
            (".example", false),
            ("jp", false),
            ("spam.example", false),
            ("a@b.example", false),
            ("@[192.0.2.1]", false),
            ("日本.jp", false),
        ] {
            assert_eq!(covers_nothing(ending).is_some(), nothing, "{ending:?}");
        }
    }

    #[test]
    fn bare_domains_with_a_short_name() {
        for (ending, short) in [
            ("x.com", true),
            ("qq.com", true),
            ("hp.co.jp", true),
            ("ibm.com", false),
            ("@x.com", false),
            (".x.com", false),
            ("mail.x.com", false),
            ("ab.example.jp", false),
        ] {
            assert_eq!(is_unanchored(ending), short, "{ending:?}");
        }
    }
}
