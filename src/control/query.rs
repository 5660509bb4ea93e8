//! What the queries of several resources have in common.

use axum::http::StatusCode;
use jiff::{Span, Timestamp, civil, tz::TimeZone};

use super::Problem;
use crate::mail::Address;
use crate::policy::{Stage, Verdict};

pub(super) fn bad(message: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, message)
}

/// An address; a bare local part gets the default domain.
pub(super) fn address(text: &str, default_domain: &str) -> Result<Address, Problem> {
    let whole = match text.contains('@') {
        true => text.to_owned(),
        false => format!("{text}@{default_domain}"),
    };
    Address::parse(&whole)
        .map_err(|error| bad(format!("mailbox {}: {error}", whole.escape_debug())))
}

/// The id of a stage.
pub(super) fn stage(id: &str) -> Result<Stage, Problem> {
    Stage::named(id).ok_or_else(|| unknown("stage", id, &Stage::ALL.map(Stage::as_str)))
}

/// The word of a verdict.
pub(super) fn verdict(word: &str) -> Result<Verdict, Problem> {
    Verdict::named(word).ok_or_else(|| unknown("verdict", word, &Verdict::ALL.map(Verdict::as_str)))
}

fn unknown(what: &str, given: &str, known: &[&str]) -> Problem {
    let shown = given.escape_debug();
    bad(format!(
        "no such {what}: {shown} (one of {})",
        known.join(", ")
    ))
}

/// RFC 3339, a date (its midnight in the system's time zone), or a span back from now (`12h`,
/// `2d`), as unix milliseconds.
pub(super) fn since(text: &str) -> Result<i64, Problem> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_millisecond());
    }
    if let Ok(time) = text
        .parse::<civil::Date>()
        .and_then(|date| date.to_zoned(TimeZone::system()))
    {
        return Ok(time.timestamp().as_millisecond());
    }
    let back = text
        .parse::<Span>()
        .and_then(|span| jiff::Zoned::now().checked_sub(span));
    back.map(|time| time.timestamp().as_millisecond())
        .map_err(|_| {
            let shown = text.escape_debug();
            bad(format!(
                "since: not a time: {shown} (RFC 3339, a date, 12h or 2d)"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::since;

    #[test]
    fn three_ways_to_say_since() {
        assert_eq!(since("1970-01-01T00:00:01Z").ok(), Some(1000));
        assert!(since("2026-11-22").is_ok());
        let now = jiff::Timestamp::now().as_millisecond();
        assert!(since("2d").is_ok_and(|time| (now - time - 172_800_000).abs() < 7_300_000));
        for bad in ["", "yesterday", "12", "d2"] {
            assert!(since(bad).is_err(), "{bad:?}");
        }
    }
}
