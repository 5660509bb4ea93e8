//! Where in a text, as it was written, a folded piece of it stands: what a person is shown of a
//! Subject that an entry was found in.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::Folded;
use super::fold::{fold, is_zero_width};

/// Longer texts are not looked into, octets: no Subject that is meant to be read is.
const MOST: usize = 4096;

/// The stretch of `text` that folds to the first occurrence of `piece`; the whole text where folding
/// joined it across more than neighbouring characters. `None` when the piece is not in it or empty,
/// and for a text over 4 KiB.
pub fn stretch<'a>(text: &'a str, piece: &Folded) -> Option<&'a str> {
    if piece.is_empty() || text.len() > MOST {
        return None;
    }
    let whole = fold(text);
    let from = whole.as_str().find(piece.as_str())?;
    let to = from + piece.as_str().len();
    let (joined, clusters) = fold_by_clusters(text);
    if joined != whole.as_str() {
        return Some(text);
    }
    let first = clusters.iter().find(|cluster| cluster.folded_to > from)?;
    let last = clusters
        .iter()
        .rfind(|cluster| cluster.folded_from < to && cluster.folded_from < cluster.folded_to)?;
    let found = text.get(first.from..last.to)?;
    // A mark may have been joined to what stands before the stretch.
    let holds = fold(found).as_str().contains(piece.as_str());
    Some(if holds { found } else { text })
}

/// A character with what changes it: where it lies in the text and in the folded one.
struct Cluster {
    from: usize,
    to: usize,
    folded_from: usize,
    folded_to: usize,
}

/// The text folded piece by piece.
fn fold_by_clusters(text: &str) -> (String, Vec<Cluster>) {
    let mut starts: Vec<usize> = text
        .char_indices()
        .filter(|(at, c)| *at == 0 || !attaches(*c))
        .map(|(at, _)| at)
        .collect();
    starts.push(text.len());
    let mut joined = String::with_capacity(text.len());
    let mut clusters = Vec::with_capacity(starts.len());
    let mut gap = false;
    for (&from, &to) in starts.iter().zip(starts.iter().skip(1)) {
        let written = text.get(from..to).unwrap_or_default();
        let folded = fold(written);
        if folded.is_empty() {
            gap |= written.contains(char::is_whitespace);
        } else if std::mem::take(&mut gap) && !joined.is_empty() {
            joined.push(' ');
        }
        let folded_from = joined.len();
        joined.push_str(folded.as_str());
        clusters.push(Cluster {
            from,
            to,
            folded_from,
            folded_to: joined.len(),
        });
    }
    (joined, clusters)
}

/// Folds together with the character before it: marks, the separate (han)dakuten, Hangul vowels and
/// finals, the half-width forms of all these, zero-width characters.
fn attaches(c: char) -> bool {
    if c.is_ascii() {
        return false;
    }
    let wide = std::iter::once(c).nfkc().next().unwrap_or(c);
    is_zero_width(c)
        || is_combining_mark(wide)
        || matches!(c, '\u{309B}' | '\u{309C}')
        || matches!(wide, '\u{1160}'..='\u{11FF}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_piece_as_it_was_written() {
        let rows = [
            ("未承諾広告※ 特別価格", "未承諾広告", Some("未承諾広告")),
            ("今日のｱﾀﾞﾙﾄです", "アダルト", Some("ｱﾀﾞﾙﾄ")),
            ("今日のアタ゛ルトです", "ｱﾀﾞﾙﾄ", Some("アタ゛ルト")),
            ("Re: ＳＰＡＭ!", "spam", Some("ＳＰＡＭ")),
            (
                "a s\u{200B}p\u{200B}am b",
                "spam",
                Some("s\u{200B}p\u{200B}am"),
            ),
            ("The #1 \t OFFER now", "#1 offer", Some("#1 \t OFFER")),
            ("Die Straße", "strasse", Some("Straße")),
            ("Die Straße", "s", Some("S")),
            ("①㈱", "株", Some("㈱")),
            ("  spaced  ", "spaced", Some("spaced")),
            ("か\u{3099}く", "がく", Some("か\u{3099}く")),
            // What is joined across a space is shown whole.
            ("x か ゛ y", "が", Some("x か ゛ y")),
            ("ア ﾞ\u{3000}゛", "\u{3099}\u{3099}", Some("ア ﾞ\u{3000}゛")),
            // Of half-width Hangul a consonant begins a syllable, a vowel goes on with it.
            ("ﾡￂﾢￂﾤￂ", "까", Some("ﾢￂ")),
            ("anything", "other", None),
            ("anything", "", None),
            ("", "a", None),
        ];
        for (text, piece, expected) in rows {
            assert_eq!(stretch(text, &fold(piece)), expected, "{text:?} {piece:?}");
        }
        let long = "x".repeat(MOST) + "spam";
        assert_eq!(stretch(&long, &fold("spam")), None);
    }

    proptest! {
        #[test]
        fn what_is_shown_holds_the_piece(
            text in "[aAßｱﾀﾞ゛タ\u{3099}\u{200B} \u{3000}漢①가가ﾡￂİςﬃ\u{345}]{0,16}",
            at in 0_usize..16,
            length in 1_usize..6,
        ) {
            let whole = fold(&text);
            let piece: String = whole.as_str().chars().skip(at).take(length).collect();
            let piece = fold(&piece);
            let found = stretch(&text, &piece);
            let expected = !piece.is_empty() && whole.as_str().contains(piece.as_str());
            prop_assert_eq!(found.is_some(), expected);
            if let Some(found) = found {
                prop_assert!(text.contains(found));
                let holds = |text: &str| fold(text).as_str().contains(piece.as_str());
                prop_assert!(holds(found), "{:?}", found);
                // No character with its marks too many, but for the whole text.
                let starts = |(at, c): (usize, char)| (at > 0 && !attaches(c)).then_some(at);
                let second = found.char_indices().find_map(starts);
                let last = found.char_indices().rev().find_map(starts);
                let all_but_first = second.and_then(|at| found.get(at..)).unwrap_or_default();
                let all_but_last = last.and_then(|at| found.get(..at)).unwrap_or_default();
                prop_assert!(found == text || !holds(all_but_first), "{:?}", found);
                prop_assert!(found == text || !holds(all_but_last), "{:?}", found);
            }
        }
    }
}
