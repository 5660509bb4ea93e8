//! Folding: one form of text for both sides of every match.
//!
//! Folding is NFKC, full case folding, zero-width characters removed, a separate (han)dakuten
//! joined to its kana, runs of white space one space, trimmed (CONTRACT section 2). It is
//! idempotent and linear in the length of the text.

use caseless::Caseless;
use unicode_normalization::UnicodeNormalization;

/// Text in the one form that is compared. Only the functions of this module make one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Folded(String);

impl Folded {
    /// The folded text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without its first and without its last character, as they stand: texts to search in.
    pub fn shortened(&self) -> [Self; 2] {
        let mut chars = self.0.chars();
        chars.next();
        let behind = chars.as_str().to_owned();
        let mut chars = self.0.chars();
        chars.next_back();
        [Self(behind), Self(chars.as_str().to_owned())]
    }

    /// True when nothing is left: as a pattern it would match every mail.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Folded> for String {
    fn from(folded: Folded) -> Self {
        folded.0
    }
}

/// Passes after which folding stops even if the text still changes; two or three are the rule
/// (case folding can undo a normal form).
const MAX_PASSES: usize = 8;

/// Folds text (a decoded Subject, a pattern).
pub fn fold(text: &str) -> Folded {
    if text.bytes().all(|octet| octet.is_ascii_graphic()) {
        return Folded(text.to_ascii_lowercase());
    }
    if let Some(plain) = fold_plain(text) {
        return Folded(plain);
    }
    let mut folded = pass(text);
    for _ in 1..MAX_PASSES {
        let next = pass(&folded);
        if next == folded {
            break;
        }
        folded = next;
    }
    Folded(folded)
}

/// Folds an address, or the end of one (`@shop.example`, `.shop.example`): [`fold`], and every
/// complete `xn--` label behind the last `@` (all labels when there is none) as its U-label; dots
/// at the end go (the root of the DNS).
pub fn fold_address(text: &str) -> Folded {
    let Folded(mut folded) = fold(text);
    folded.truncate(folded.trim_end_matches(['.', '\u{3002}', ' ']).len());
    let (local, domain) = match memchr::memrchr(b'@', folded.as_bytes()) {
        Some(at) => folded.split_at(at + 1),
        None => ("", folded.as_str()),
    };
    let has_a_label = domain.as_bytes().windows(4).any(|four| four == b"xn--");
    if !has_a_label && (domain.is_ascii() || !domain.contains('\u{3002}')) {
        return Folded(folded);
    }
    let labels: Vec<String> = domain.split(['.', '\u{3002}']).map(u_label).collect();
    Folded(format!("{local}{}", labels.join(".")))
}

/// [`fold`] of text that has nothing but [`plain`] characters, which is nearly all text; `None` of
/// any other. A tenth of the work of the normal forms.
fn fold_plain(text: &str) -> Option<String> {
    let mut all_plain = true;
    let chars = text.chars().map_while(|c| {
        let folded = plain(c);
        all_plain = folded.is_some();
        folded
    });
    let folded = squeeze(text.len(), chars);
    all_plain.then_some(folded)
}

/// What a character folds to that no other one beside it changes: ASCII, its full-width forms, the
/// ideographic space and brackets, kana that is whole, and kanji.
fn plain(c: char) -> Option<char> {
    match c {
        '\0'..='\x7f' => Some(c.to_ascii_lowercase()),
        '\u{3000}' => Some(' '),
        '\u{3001}'..='\u{3020}'
        | '\u{3041}'..='\u{3096}'
        | '\u{30A1}'..='\u{30FE}'
        | '\u{4E00}'..='\u{9FFF}' => Some(c),
        '\u{FF01}'..='\u{FF5E}' => {
            let ascii = u8::try_from(u32::from(c) - 0xFEE0).ok()?;
            Some(char::from(ascii.to_ascii_lowercase()))
        }
        _ => None,
    }
}

fn pass(text: &str) -> String {
    let visible = text.chars().filter(|&c| !is_zero_width(c));
    let lower = visible.nfkc().default_case_fold().nfkc();
    squeeze(
        text.len(),
        join_voice_marks(lower.filter(|&c| !is_zero_width(c))),
    )
    .nfkc()
    .collect()
}

/// A folded label as its U-label; a label that is no valid A-label, or whose U-label would not
/// stay one label, is left as it is.
fn u_label(label: &str) -> String {
    if !label.starts_with("xn--") {
        return label.to_owned();
    }
    match idna::domain_to_unicode(label) {
        (unicode, Ok(())) => match fold(&unicode) {
            Folded(folded) if folded.contains(['.', '@', ' ']) || folded.starts_with("xn--") => {
                label.to_owned()
            }
            Folded(folded) => folded,
        },
        (_, Err(_)) => label.to_owned(),
    }
}

pub(super) fn is_zero_width(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200D}' | '\u{2060}' | '\u{FEFF}')
}

fn is_kana(c: char) -> bool {
    matches!(c, '\u{3041}'..='\u{3096}' | '\u{309D}' | '\u{309E}' | '\u{30A1}'..='\u{30FE}')
}

/// Drops white space between a kana and a combining (han)dakuten: NFKC makes a space and a
/// combining mark of U+309B and U+309C.
fn join_voice_marks(chars: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    let mut joined = String::new();
    let mut spaces = 0;
    let mut after_kana = false;
    for c in chars {
        if c.is_whitespace() {
            spaces += c.len_utf8();
        } else {
            let mark = matches!(c, '\u{3099}' | '\u{309A}');
            if mark && after_kana {
                joined.truncate(joined.len() - spaces);
            }
            after_kana = is_kana(c) || (mark && after_kana);
            spaces = 0;
        }
        joined.push(c);
    }
    joined.chars().collect::<Vec<_>>().into_iter()
}

/// Runs of white space as one space, none at the ends. About so many octets are expected.
fn squeeze(octets: usize, chars: impl Iterator<Item = char>) -> String {
    let mut squeezed = String::with_capacity(octets);
    let mut gap = false;
    for c in chars {
        if c.is_whitespace() {
            gap = !squeezed.is_empty();
        } else {
            if gap {
                squeezed.push(' ');
                gap = false;
            }
            squeezed.push(c);
        }
    }
    squeezed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `config` takes such an entry for one that is not empty without folding it.
    #[test]
    fn a_letter_or_digit_never_folds_to_nothing() {
        let letters = ('\0'..=char::MAX).filter(|c| c.is_alphanumeric());
        let lost: Vec<char> = letters
            .filter(|c| fold(&c.to_string()).is_empty())
            .collect();
        assert!(lost.is_empty(), "{lost:?}");
    }

    /// The whole way, without the short one.
    fn fold_slowly(text: &str) -> String {
        let mut folded = pass(text);
        while pass(&folded) != folded {
            folded = pass(&folded);
        }
        folded
    }

    #[test]
    fn plain_characters_are_those_that_stand_alone() {
        let plain = ('\0'..=char::MAX).filter(|c| plain(*c).is_some());
        for c in plain {
            let text = format!("x{c}x{c}");
            assert_eq!(fold_plain(&text), Some(fold_slowly(&text)), "{c:?}");
        }
    }

    #[test]
    fn one_form() {
        let rows = [
            ("", ""),
            ("  SPAM \t offer ", "spam offer"),
            ("ＳＰＡＭ", "spam"),
            ("ｱﾀﾞﾙﾄ", "アダルト"),
            ("ｱﾀ゛ﾙﾄ", "アダルト"),
            ("アタ゛ルト", "アダルト"),
            ("アタ\u{3099}ルト", "アダルト"),
            ("アタﾞルト", "アダルト"),
            ("アタ\u{200B}゛ルト", "アダルト"),
            ("ハ゜ン", "パン"),
            ("ﾊﾟﾝ", "パン"),
            ("漢゛", "漢 \u{3099}"),
            ("Straße", "strasse"),
            ("STRASSE", "strasse"),
            ("STRAẞE", "strasse"),
            ("a\u{200B}b\u{200C}c\u{200D}d\u{2060}e\u{FEFF}f", "abcdef"),
            ("\u{FEFF}", ""),
            (
                "\u{3000}未承諾\u{3000}\u{3000}広告※\u{3000}",
                "未承諾 広告※",
            ),
            ("①㈱", "1(株)"),
            ("ΣΑΣ", "σασ"),
            ("K", "k"),
        ];
        for (text, expected) in rows {
            assert_eq!(fold(text).as_str(), expected, "{text:?}");
        }
    }

    #[test]
    fn addresses() {
        let rows = [
            ("User@EXAMPLE.jp", "user@example.jp"),
            ("@xn--r8jz45g.example", "@例え.example"),
            (".XN--R8JZ45G.example", ".例え.example"),
            ("xn--r8jz45g.jp", "例え.jp"),
            ("xn--r8jz45g@xn--r8jz45g.jp", "xn--r8jz45g@例え.jp"),
            ("a@例え。jp", "a@例え.jp"),
            ("a@ＳＨＯＰ．example", "a@shop.example"),
            ("a@xn--", "a@xn--"),
            ("@shop.example.", "@shop.example"),
            (".", ""),
            ("a@xn--\u{FFFD}.jp", "a@xn--\u{FFFD}.jp"),
        ];
        for (text, expected) in rows {
            assert_eq!(fold_address(text).as_str(), expected, "{text:?}");
        }
    }

    #[test]
    fn every_character_folds_to_its_fold() {
        for c in ('\0'..=char::MAX).filter(|c| !c.is_ascii_alphanumeric()) {
            let once = fold(c.encode_utf8(&mut [0; 4]));
            if once.as_str().chars().ne([c]) {
                assert_eq!(fold(once.as_str()), once, "{c:?}");
            }
        }
    }

    #[test]
    fn long_runs_of_marks_are_linear() {
        let marks = format!("か{}", "\u{0301}\u{0327}".repeat(200_000));
        assert!(!fold(&marks).is_empty());
        let spaced = "か ゛ ".repeat(100_000);
        assert!(fold(&spaced).as_str().starts_with("が が"));
    }

    proptest! {
        #[test]
        fn the_short_way_leads_to_the_same(
            text in "[\u{0}-\u{7f}\u{3000}-\u{3020}\u{3041}-\u{3096}\u{309d}-\u{30ff}一-龯\u{ff01}-\u{ff5e}]{0,16}",
        ) {
            if let Some(folded) = fold_plain(&text) {
                prop_assert_eq!(folded, fold_slowly(&text));
            }
        }

        #[test]
        fn idempotent(text in any::<String>()) {
            let once = fold(&text);
            prop_assert_eq!(fold(once.as_str()), once);
        }

        #[test]
        fn idempotent_on_kana(text in "[ア-ンか-ほｱ-ﾝ゛゜ﾞﾟ\u{3099}\u{309A} \u{3000}\u{200B}ßẞΐŉＡ]{0,12}") {
            let once = fold(&text);
            prop_assert_eq!(fold(once.as_str()), once);
        }

        #[test]
        fn addresses_idempotent(text in "[a-c@.。]{0,4}(xn--[a-z0-9-]{0,9})?[.@ßＡ例]{0,4}(xn--[a-z0-9]{1,8})?") {
            let once = fold_address(&text);
            prop_assert_eq!(fold_address(once.as_str()), once);
        }
    }
}
