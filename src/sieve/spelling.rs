//! Written variants of a pattern, for a matcher that knows the case of ASCII letters only.
//!
//! Our own matching folds both sides ([`crate::mail::fold`]). Sieve's comparators do not, so an
//! entry is written in each form in which mail commonly carries it.

use std::collections::HashMap;
use std::sync::LazyLock;

use unicode_normalization::UnicodeNormalization;

use crate::mail::fold::{fold, fold_address};

/// The forms of a Subject entry: as written, folded, in upper case, in full-width letters (small,
/// capital, capitalized), in half-width kana.
pub(super) fn of_subject(text: &str) -> Vec<String> {
    let folded = fold(text).as_str().to_owned();
    let written = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let upper = folded.to_uppercase();
    let mut forms = vec![written, folded.clone()];
    if upper.to_lowercase() == folded {
        forms.push(upper.clone());
    }
    if folded.chars().any(|c| c.is_ascii_graphic()) {
        forms.extend([wide(&folded), wide(&upper), wide(&capitalized(&folded))]);
    }
    forms.push(half_width(&folded));
    distinct(forms)
}

/// The forms of an address or the end of one, or why there is no exact one: internationalized
/// labels as U-labels and as A-labels.
pub(super) fn of_address(text: &str) -> (Vec<String>, Option<&'static str>) {
    let folded = fold_address(text).as_str().to_owned();
    let (local, domain) = match folded.rfind('@') {
        Some(at) => folded.split_at(at + 1),
        None => ("", folded.as_str()),
    };
    let mut doubt = None;
    if !local.is_ascii() {
        doubt = Some("case and width count in a local part that is not ASCII");
    }
    let mut labels = domain.split('.');
    if local.is_empty() && !labels.next().unwrap_or_default().is_ascii() {
        doubt = Some("a piece of a label that is not ASCII is found in its Unicode form only");
    }
    let encoded: Vec<String> = domain.split('.').map(a_label).collect();
    let forms = vec![folded.clone(), format!("{local}{}", encoded.join("."))];
    (distinct(forms), doubt)
}

fn a_label(label: &str) -> String {
    if label.is_ascii() {
        return label.to_owned();
    }
    idna::domain_to_ascii(label).unwrap_or_else(|_| label.to_owned())
}

/// The first of those that a matcher takes for equal.
fn distinct(forms: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    let mut kept = Vec::new();
    for form in forms {
        if seen.insert(form.to_ascii_lowercase()) {
            kept.push(form);
        }
    }
    kept
}

fn capitalized(text: &str) -> String {
    let mut inside = false;
    let upper = |c: char| {
        let first = !std::mem::replace(&mut inside, c.is_alphanumeric());
        if first { c.to_ascii_uppercase() } else { c }
    };
    text.chars().map(upper).collect()
}

/// ASCII as its full-width forms (U+FF01..U+FF5E), the space as U+3000.
fn wide(text: &str) -> String {
    let wide = |c: char| match c {
        ' ' => '\u{3000}',
        '!'..='~' => char::from_u32(u32::from(c) + 0xFEE0).unwrap_or(c),
        _ => c,
    };
    text.chars().map(wide).collect()
}

/// Katakana as their half-width forms, a voiced one as two.
fn half_width(text: &str) -> String {
    let mut half = String::with_capacity(text.len());
    for c in text.chars() {
        match HALF_WIDTH.get(&c) {
            Some(form) => half.push_str(form),
            None => half.push(c),
        }
    }
    half
}

/// From each katakana and its punctuation to the half-width form that NFKC makes it of.
static HALF_WIDTH: LazyLock<HashMap<char, String>> = LazyLock::new(|| {
    let mut forms = HashMap::new();
    for base in '\u{FF61}'..='\u{FF9D}' {
        for mark in ["", "\u{FF9E}", "\u{FF9F}"] {
            let half = format!("{base}{mark}");
            let mut full = half.nfkc();
            if let (Some(c), None) = (full.next(), full.next()) {
                forms.entry(c).or_insert(half);
            }
        }
    }
    forms
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects() {
        let check =
            |text: &str, expected: &[&str]| assert_eq!(of_subject(text), expected, "{text}");
        check("未承諾広告", &["未承諾広告"]);
        check("アダルト", &["アダルト", "ｱﾀﾞﾙﾄ"]);
        check("ｱﾀﾞﾙﾄ", &["ｱﾀﾞﾙﾄ", "アダルト"]);
        check(
            "#1 Offer",
            &[
                "#1 Offer",
                "＃１　ｏｆｆｅｒ",
                "＃１　ＯＦＦＥＲ",
                "＃１　Ｏｆｆｅｒ",
            ],
        );
        check("[広告]", &["[広告]", "［広告］"]);
        check("é  É", &["é É", "é é", "É É"]);
        check("ß", &["ß", "ss", "ｓｓ", "ＳＳ", "Ｓｓ"]);
    }

    #[test]
    fn addresses() {
        let check = |text: &str, expected: &[&str], doubtful: bool| {
            let (forms, doubt) = of_address(text);
            assert_eq!(forms, expected, "{text}");
            assert_eq!(doubt.is_some(), doubtful, "{text}");
        };
        check("@Spam.Example", &["@spam.example"], false);
        check(".bulk.example", &[".bulk.example"], false);
        check(
            "@日本.example",
            &["@日本.example", "@xn--wgv71a.example"],
            false,
        );
        check(
            "@xn--wgv71a.example",
            &["@日本.example", "@xn--wgv71a.example"],
            false,
        );
        check("本.example", &["本.example", "xn--8pv.example"], true);
        check("太郎@x.example", &["太郎@x.example"], true);
    }
}
