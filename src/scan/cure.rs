//! What of an infected mail may be shown to its owner: the infected parts are found by scanning each
//! part alone, taken out, and what remains is scanned once more as a whole.
//!
//! The last scan decides. Finding the parts only makes what remains worth scanning: a virus that
//! hides where the walk of [`parts`] sees no part (a preamble, an unclosed multipart, a header
//! field) or that this scanner finds in the whole mail alone is still there then, and nothing but
//! the header is shown. That, too, is scanned before, and so are the names out of the mail that the report
//! quotes. Whatever cannot be scanned counts as infected.

use std::future::Future;

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::ScanError;
use crate::mail::{Bounds, Infected, Message, Part, Piece, cleaned, edit, parts};

/// Encoded parts up to this size are decoded where we stand.
const SMALL: usize = 64 * 1024;

/// What an infected mail comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cure {
    /// The parts in which a virus was found, in the order of the mail; at most
    /// [`Bounds::mime_parts`]. Without their file names where [`Remains::Nothing`] may be quoted.
    pub parts: Vec<Infected>,
    /// What may be shown.
    pub remains: Remains,
}

/// What of an infected mail was found clean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remains {
    /// The mail without its infected parts, in slices of it and notes of ours between them.
    Mail(Vec<Bytes>),
    /// The header block alone, and the texts in it.
    Header,
    /// Not even that: no octet and no text of the mail is quoted.
    Nothing,
}

/// Cures `raw`, a mail whose whole was found infected. `trace` is a header field with its CRLF that is
/// put before whatever is scanned as a mail: clamd takes a stream for one by its first field names.
///
/// `scan` scans the octets of its pieces, one after the other, and names the virus that it
/// finds. Its first error ends the search of the parts, so a deadline that has passed is its error.
/// It is called at most [`Bounds::mime_parts`] and three times, one call at a time; of the mail's
/// octets one decoded part is copied at a time.
pub async fn cure<S, F, E>(raw: &Bytes, trace: &Bytes, bounds: &Bounds, scan: S) -> Cure
where
    S: Fn(Vec<Bytes>) -> F,
    F: Future<Output = Result<Option<String>, E>>,
{
    let is_clean = async |pieces: Vec<Bytes>| matches!(scan(pieces).await, Ok(None));
    let (mail, limits) = (raw.clone(), *bounds);
    let read = spawn_blocking(move || Read::of(&mail, &limits)).await;
    // A panic of ours: nothing is known of the mail.
    let Ok(read) = read else {
        return nothing(Vec::new());
    };
    let Search { found, is_complete } = search(raw, trace, &read.parts, &scan).await;
    let infected = infected(&read.parts, &found);
    let quoted = read.quoted(&infected);
    if !quoted.is_empty() && !is_clean(vec![quoted]).await {
        return nothing(infected);
    }
    let as_mail = |pieces: Vec<Bytes>| {
        let divider = Bytes::from_static(edit::divider([raw.as_ref()]));
        [vec![trace.clone(), divider], pieces].concat()
    };
    let (mail, parts) = (raw.clone(), read.parts);
    let without = move || Some(slices(&mail, cleaned(&mail, &parts, &found)?));
    if is_complete
        && let Ok(Some(pieces)) = spawn_blocking(without).await
        && is_clean(as_mail(pieces.clone())).await
    {
        return Cure {
            parts: infected,
            remains: Remains::Mail(pieces),
        };
    }
    let header = raw.slice(..read.header_len.min(raw.len()));
    let line_end = Bytes::from_static(b"\r\n");
    if is_clean(as_mail(vec![header, line_end])).await {
        return Cure {
            parts: infected,
            remains: Remains::Header,
        };
    }
    nothing(infected)
}

/// Scans each part of a mail alone: the first virus that is found. For a mail that nests deeper than
/// the engine looks, which may call it clean.
///
/// # Errors
/// The first one of `scan`; [`ScanError::Ours`] where we cannot take the mail apart.
pub async fn in_parts<S, F>(
    raw: &Bytes,
    trace: &Bytes,
    bounds: &Bounds,
    scan: S,
) -> Result<Option<String>, ScanError>
where
    S: Fn(Vec<Bytes>) -> F,
    F: Future<Output = Result<Option<String>, ScanError>>,
{
    let (mail, limits) = (raw.clone(), *bounds);
    let read = spawn_blocking(move || parts(&mail, &limits)).await;
    for part in &read.map_err(|_| ScanError::Ours)? {
        let body = decoded(raw, part).await.ok_or(ScanError::Ours)?;
        if let Some(virus) = scan(alone(trace, part, body)).await? {
            return Ok(Some(virus));
        }
    }
    Ok(None)
}

/// What is read of the mail itself.
struct Read {
    parts: Vec<Part>,
    header_len: usize,
    /// From and Subject as a report shows them.
    texts: [String; 2],
}

impl Read {
    fn of(raw: &[u8], bounds: &Bounds) -> Self {
        let message = Message::parse(raw, bounds);
        Self {
            parts: parts(raw, bounds),
            header_len: message.body_start,
            texts: [message.from_text.clone(), message.subject_text().to_owned()],
        }
    }

    /// Every text that a report quotes, a line each.
    fn quoted(&self, infected: &[Infected]) -> Bytes {
        let of_parts = infected
            .iter()
            .flat_map(|part| [&part.name, &part.media_type, &part.virus]);
        let mut text = String::new();
        for line in self.texts.iter().chain(of_parts) {
            if !line.is_empty() {
                text.push_str(line);
                text.push_str("\r\n");
            }
        }
        text.into()
    }
}

/// Which parts are infected: their places and the viruses.
struct Search {
    found: Vec<(usize, String)>,
    /// Each part was scanned.
    is_complete: bool,
}

async fn search<S, F, E>(raw: &Bytes, trace: &Bytes, parts: &[Part], scan: &S) -> Search
where
    S: Fn(Vec<Bytes>) -> F,
    F: Future<Output = Result<Option<String>, E>>,
{
    let mut found = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let Some(body) = decoded(raw, part).await else {
            return Search {
                found,
                is_complete: false,
            };
        };
        if body.is_empty() {
            continue;
        }
        match scan(alone(trace, part, body)).await {
            Ok(None) => {}
            Ok(Some(virus)) => found.push((index, virus)),
            Err(_) => {
                return Search {
                    found,
                    is_complete: false,
                };
            }
        }
    }
    Search {
        found,
        is_complete: true,
    }
}

/// A part as it is scanned: a message as a mail.
fn alone(trace: &Bytes, part: &Part, body: Bytes) -> Vec<Bytes> {
    if part.is_message() {
        let divider = Bytes::from_static(edit::divider([body.as_ref()]));
        vec![trace.clone(), divider, body]
    } else {
        vec![body]
    }
}

/// A part's octets: a slice of the mail, or what they decode to. None when decoding panicked.
async fn decoded(raw: &Bytes, part: &Part) -> Option<Bytes> {
    let of = |raw: &Bytes, part: &Part| match part.decoded(raw) {
        std::borrow::Cow::Borrowed(octets) => raw.slice_ref(octets),
        std::borrow::Cow::Owned(octets) => octets.into(),
    };
    if part.body.len() <= SMALL {
        return Some(of(raw, part));
    }
    let (raw, part) = (raw.clone(), part.clone());
    spawn_blocking(move || of(&raw, &part)).await.ok()
}

fn infected(parts: &[Part], found: &[(usize, String)]) -> Vec<Infected> {
    let infected = found.iter().filter_map(|(index, virus)| {
        let part = parts.get(*index)?;
        Some(Infected {
            path: part.path.clone(),
            name: part.name.clone(),
            media_type: part.media_type.clone(),
            virus: virus.clone(),
        })
    });
    infected.collect()
}

fn slices(raw: &Bytes, pieces: Vec<Piece>) -> Vec<Bytes> {
    let slice = |piece| match piece {
        Piece::Original(place) => raw.slice(place),
        Piece::New(octets) => octets.into(),
    };
    pieces.into_iter().map(slice).collect()
}

/// Nothing of the mail is quoted: of its parts what it says itself goes, too.
fn nothing(mut parts: Vec<Infected>) -> Cure {
    for part in &mut parts {
        part.name.clear();
        part.media_type.clear();
    }
    Cure {
        parts,
        remains: Remains::Nothing,
    }
}
