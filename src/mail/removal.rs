//! A mail without its infected parts: each is replaced by a small text that names it, everything
//! else stays byte for byte. The mail is not copied: what remains is places in it, and a few octets
//! of our own between them.

use std::collections::BTreeMap;
use std::ops::Range;

use super::letter::{base64_lines, clean};
use super::{Part, header};

/// Pieces that remain at most. A part that is removed makes a few, one whose header changes between
/// `Content-` fields and others a million times would make as many.
const MOST_PIECES: usize = 10_000;
/// What a removed part's own fields make way for; the empty line included.
const FIELDS: &str = "Content-Type: text/plain; charset=UTF-8\r\n\
                      Content-Transfer-Encoding: base64\r\n\
                      Content-Disposition: inline\r\n\r\n";

/// A piece of what remains of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These octets of the mail.
    Original(Range<usize>),
    /// These octets of ours.
    New(Vec<u8>),
}

/// What remains of `raw` without the parts at these places of `parts`, each with the virus that was
/// found in it. `None` where nothing is left that could be called safe: no part is named, there is
/// no other, there are none (the mail is beyond the bounds), or it would be in over 10,000 pieces.
///
/// Of a removed part its body and its `Content-` fields go; any other field stays, as those of a
/// message whose only body it was.
pub fn cleaned(raw: &[u8], parts: &[Part], removed: &[(usize, String)]) -> Option<Vec<Piece>> {
    let removed: BTreeMap<usize, &str> = removed
        .iter()
        .filter(|(index, _)| *index < parts.len())
        .map(|(index, virus)| (*index, virus.as_str()))
        .collect();
    if removed.is_empty() || removed.len() == parts.len() {
        return None;
    }
    let mut pieces = Pieces::default();
    let mut at = 0;
    for (index, virus) in removed {
        let part = parts.get(index)?;
        pieces.original(at..part.head.start);
        let head = raw.get(part.head.clone())?;
        let start = part.head.start;
        let kept = header::without_content(head, |kept| {
            pieces.original(start + kept.start..start + kept.end);
            if pieces.0.len() > MOST_PIECES {
                return Err(());
            }
            Ok(())
        });
        kept.ok()?;
        let note = note(
            part,
            virus,
            pieces.ends_line(raw),
            is_line_end(raw, part.body.end),
        );
        pieces.0.push(Piece::New(note));
        at = part.body.end;
    }
    pieces.original(at..raw.len());
    Some(pieces.0)
}

#[derive(Default)]
struct Pieces(Vec<Piece>);

impl Pieces {
    /// Adds octets of the mail; those that follow the last ones make one piece with them.
    fn original(&mut self, place: Range<usize>) {
        if let Some(Piece::Original(last)) = self.0.last_mut()
            && last.end == place.start
        {
            last.end = place.end;
        } else if !place.is_empty() {
            self.0.push(Piece::Original(place));
        }
    }

    fn ends_line(&self, raw: &[u8]) -> bool {
        match self.0.last() {
            None => true,
            Some(Piece::Original(place)) => is_line_end(raw, place.end.saturating_sub(1)),
            Some(Piece::New(octets)) => is_line_end(octets, octets.len().saturating_sub(1)),
        }
    }
}

fn is_line_end(octets: &[u8], at: usize) -> bool {
    matches!(octets.get(at), Some(b'\r' | b'\n'))
}

/// What stands instead of a part, behind what is kept of its header; a line end goes before and
/// after it where there is none.
fn note(part: &Part, virus: &str, line_end_before: bool, line_end_after: bool) -> Vec<u8> {
    let (name, virus) = (clean(&part.name), clean(virus));
    let (ja, en) = match name.as_str() {
        "" => (String::new(), String::new()),
        name => (format!(" ({name}) "), format!(" ({name})")),
    };
    let text = format!(
        "ウイルス {virus} が見つかったため、この部分{ja}を取り除きました。\r\n\
         This part{en} was removed: the virus {virus} was found in it.\r\n"
    );
    let body = base64_lines(text.as_bytes());
    let body = if line_end_after {
        body.trim_end()
    } else {
        &body
    };
    let before = if line_end_before { "" } else { "\r\n" };
    [before, FIELDS, body].concat().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Bounds, Encoding, parts};
    use proptest::prelude::*;

    fn joined(raw: &[u8], pieces: &[Piece]) -> Vec<u8> {
        let octets = pieces.iter().map(|piece| match piece {
            Piece::Original(place) => &raw[place.clone()],
            Piece::New(octets) => octets,
        });
        octets.collect::<Vec<_>>().concat()
    }

    /// Without the parts at these places, if anything remains.
    fn without(raw: &[u8], places: &[usize]) -> Option<Vec<u8>> {
        let parts = parts(raw, &Bounds::default());
        let removed: Vec<_> = places.iter().map(|at| (*at, "Eicar".to_owned())).collect();
        Some(joined(raw, &cleaned(raw, &parts, &removed)?))
    }

    fn note_text(part: &Part, raw: &[u8]) -> String {
        assert_eq!(
            (part.media_type.as_str(), part.encoding),
            ("text/plain", Encoding::Base64)
        );
        String::from_utf8(part.decoded(raw).into_owned()).unwrap()
    }

    const MIXED: &str = "From: a@b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\n\r\nhello\r\n\
        --b\r\nX-A: kept\r\nContent-Type: application/zip;\r\n name=x.zip\r\nX-B: kept too\r\n\
        Content-Transfer-Encoding: base64\r\n\r\nRVZJTA==\r\n\
        --b--\r\nepilogue\r\n";

    #[test]
    fn one_part_makes_way_for_a_text_that_names_it() {
        let raw = MIXED.as_bytes();
        let new = without(raw, &[1]).unwrap();
        let text = String::from_utf8(new.clone()).unwrap();
        let (before, after) = text.split_once("Content-Type: text/plain").unwrap();
        let (head, _) = MIXED.split_once("Content-Type: application").unwrap();
        assert_eq!(before, format!("{head}X-B: kept too\r\n"));
        assert!(after.ends_with("=\r\n--b--\r\nepilogue\r\n"), "{after}");
        let rest = parts(&new, &Bounds::default());
        assert_eq!(
            note_text(&rest[1], &new),
            "ウイルス Eicar が見つかったため、この部分 (x.zip) を取り除きました。\r\n\
             This part (x.zip) was removed: the virus Eicar was found in it.\r\n"
        );
        assert_eq!(rest[0].decoded(&new), b"hello".as_slice());
    }

    #[test]
    fn nothing_remains_of_a_mail_without_a_safe_part() {
        let rows: &[(&str, &[usize])] = &[
            (MIXED, &[0, 1]),
            (MIXED, &[1, 0, 1]),
            (MIXED, &[]),
            (MIXED, &[2]),
            ("A: b\r\n\r\nEVIL", &[0]),
            ("", &[0]),
        ];
        for (raw, places) in rows {
            assert_eq!(without(raw.as_bytes(), places), None, "{raw:?} {places:?}");
        }
        assert_eq!(cleaned(b"x", &[], &[(0, "Eicar".to_owned())]), None);
    }

    #[test]
    fn a_header_in_a_million_pieces_is_not_kept() {
        let part = |times| {
            let head = "Content-A:\r\nB:\r\n".repeat(times);
            MIXED.replace("X-A: kept\r\n", &head)
        };
        assert!(without(part(1000).as_bytes(), &[1]).is_some());
        assert_eq!(without(part(500_000).as_bytes(), &[1]), None);
    }

    #[test]
    fn odd_ends() {
        let rows = [
            "--b\r\n\r\nEVIL",
            "--b\r\n\r\nEVIL\r\n",
            "--b\r\n\r\nEVIL\r\n--b--",
            "--b\r\nContent-Type: x/y\r\n--b--",
            "--b\r\nX-A: b",
            "--b\r\nX-A: b\r\n--b--",
            "--b\r\n--b--",
            "--b\r\nContent-Type: x/y",
            "--b",
            "--b\r\n\r\nEVIL\n--b--",
            "--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: kept\r\nContent-Type: x/y\r\n\r\nEVIL\r\n--b--",
        ];
        for row in rows {
            let raw =
                format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n{row}");
            let new = without(raw.as_bytes(), &[1]).unwrap();
            let parts = parts(&new, &Bounds::default());
            assert_eq!(parts.len(), 2, "{row:?}");
            assert!(note_text(&parts[1], &new).contains("Eicar"), "{row:?}");
            let text = String::from_utf8(new).unwrap();
            assert!(!text.contains("EVIL") && !text.contains("x/y"), "{text}");
            assert_eq!(text.ends_with("--b--"), row.ends_with("--b--"), "{text}");
            assert_eq!(text.contains("kept"), row.contains("kept"), "{text}");
        }
    }

    #[test]
    fn a_name_can_end_no_line() {
        let raw = MIXED.replace("name=x.zip", "name*=utf-8''a%0D%0A--b--%0D%0A%E2%80%AEb");
        let parts = parts(raw.as_bytes(), &Bounds::default());
        let virus = "V\r\n\r\n--b--".repeat(100);
        let pieces = cleaned(raw.as_bytes(), &parts, &[(1, virus)]).unwrap();
        let new = joined(raw.as_bytes(), &pieces);
        let after = super::super::parts(&new, &Bounds::default());
        assert_eq!(after.len(), 2);
        let note = note_text(&after[1], &new);
        assert_eq!(note.matches("\r\n").count(), 2, "{note}");
        assert!(note.contains("(a --b-- b)") && note.chars().count() < 700);
    }

    proptest! {
        #[test]
        fn what_was_removed_is_gone_and_the_rest_is_as_it_was(
            bodies in proptest::collection::vec("[A-Z]{0,20}(\r\n[A-Z]{0,9}){0,3}", 2..6),
            nested in any::<bool>(),
            bits in 1u8..32,
        ) {
            let head = "Content-Type: multipart/mixed; boundary=\"b+b\"\r\n\r\npre\r\n";
            let part = |body: &String| format!("--b+b\r\nX: y\r\nContent-Type: x/y\r\n\r\n{body}\r\n");
            let list: String = bodies.iter().map(part).collect();
            let start = if nested { "Content-Type: message/rfc822\r\n\r\n" } else { "" };
            let raw = format!("{start}{head}{list}--b+b--\r\nepi\r\n").into_bytes();
            let places: Vec<usize> = (0..bodies.len()).filter(|at| bits >> at & 1 == 1).collect();
            let Some(new) = without(&raw, &places) else {
                prop_assert!(places.is_empty() || places.len() == bodies.len());
                return Ok(());
            };
            let (old, parts) = (parts(&raw, &Bounds::default()), parts(&new, &Bounds::default()));
            prop_assert_eq!(old.len(), parts.len());
            for (at, (old, new_part)) in old.iter().zip(&parts).enumerate() {
                prop_assert_eq!(&old.path, &new_part.path);
                if places.contains(&at) {
                    prop_assert!(note_text(new_part, &new).contains("Eicar"));
                } else {
                    prop_assert_eq!(old.decoded(&raw), new_part.decoded(&new));
                }
            }
        }

        #[test]
        fn any_mail(
            raw in "((Content-Type|Content-Disposition|Content-Transfer-Encoding|X)[ ]?:[ ]?(multipart/mixed|message/rfc822|base64|[a-z/]{0,9})(; ?(boundary|name)=\"?[a-c]{0,2}\"?)?(\r\n|\n|\r|\r\n )|--[a-c]{1,2}(--)?\r\n|\r\n|[A-Z]{1,9}){0,40}",
            bits in any::<u16>(),
        ) {
            let places: Vec<usize> = (0..16).filter(|at| bits >> at & 1 == 1).collect();
            let parts = parts(raw.as_bytes(), &Bounds::default());
            let removed: Vec<_> = places.iter().map(|at| (*at, "V".to_owned())).collect();
            let Some(pieces) = cleaned(raw.as_bytes(), &parts, &removed) else {
                return Ok(());
            };
            let new = joined(raw.as_bytes(), &pieces);
            let mut end = 0;
            for piece in pieces {
                if let Piece::Original(place) = piece {
                    prop_assert!(end <= place.start && place.end <= raw.len());
                    for (at, _) in &removed {
                        let body = parts.get(*at).map_or(0..0, |part| part.body.clone());
                        prop_assert!(place.end <= body.start || body.end <= place.start || body.is_empty());
                    }
                    end = place.end;
                }
            }
            let after = super::super::parts(&new, &Bounds::default());
            prop_assert_eq!(parts.len(), after.len());
            for (at, (old, part)) in parts.iter().zip(&after).enumerate() {
                prop_assert_eq!(&old.path, &part.path);
                if !places.contains(&at) {
                    prop_assert_eq!(old.decoded(raw.as_bytes()), part.decoded(&new));
                }
            }
        }
    }
}
