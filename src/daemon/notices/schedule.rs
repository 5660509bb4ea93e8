//! When the rounds of daily notices are: pure, with the time as an argument.

use jiff::{ToSpan, Zoned};

use crate::config::NoticeTime;
use crate::execute::letters::DAY;

/// The last and the next moment that is `daily_at`, unix milliseconds. A time that a change of the
/// clock leaves out comes an hour later, one that it repeats counts the first time.
pub(super) fn around(notice: &NoticeTime, now: i64) -> Option<(i64, i64)> {
    let today = crate::view::zoned(now, &notice.timezone).date();
    let of_day = |offset: i64| {
        let date = today.saturating_add(offset.days());
        let moment = date.to_datetime(notice.daily_at);
        let zoned: Zoned = moment.to_zoned(notice.timezone.clone()).ok()?;
        Some(zoned.timestamp().as_millisecond())
    };
    // A zone that leaves out a day has the same moment for two.
    let moments = || (-2..=2).filter_map(of_day);
    let last = moments().filter(|at| *at <= now).max()?;
    let next = moments().filter(|at| *at > now).min()?;
    Some((last, next))
}

/// What is to be done about the round of a moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Tell whom it has not told.
    Tell,
    /// It is over.
    Over,
    /// It counts as over: there was none before, or the clock was far ahead at the last one.
    Skip,
}

/// `last` is the last round that was over, `at` the moment that has come last.
pub(super) fn due(last: Option<i64>, at: i64, now: i64) -> Due {
    match last {
        None => Due::Skip,
        Some(last) if last > now.saturating_add(DAY) => Due::Skip,
        Some(last) if last >= at => Due::Over,
        Some(_) => Due::Tell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> i64 {
        text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn the_day_is_that_of_the_time_zone() {
        let tokyo = ("Asia/Tokyo", (7, 0));
        let berlin = ("Europe/Berlin", (2, 30));
        let rows = [
            (
                tokyo,
                "2026-11-21T21:59:59Z",
                "2026-11-20T22:00:00Z",
                "2026-11-21T22:00:00Z",
            ),
            (
                tokyo,
                "2026-11-21T22:00:00Z",
                "2026-11-21T22:00:00Z",
                "2026-11-22T22:00:00Z",
            ),
            (
                tokyo,
                "2026-11-22T12:00:00Z",
                "2026-11-21T22:00:00Z",
                "2026-11-22T22:00:00Z",
            ),
            // 02:30 is left out on 29 March: it comes at 03:30.
            (
                berlin,
                "2026-03-29T01:29:59Z",
                "2026-03-28T01:30:00Z",
                "2026-03-29T01:30:00Z",
            ),
            (
                berlin,
                "2026-03-29T01:30:00Z",
                "2026-03-29T01:30:00Z",
                "2026-03-30T00:30:00Z",
            ),
            // 02:30 comes twice on 25 October: the first counts.
            (
                berlin,
                "2026-10-25T00:30:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-26T01:30:00Z",
            ),
            (
                berlin,
                "2026-10-25T01:30:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-26T01:30:00Z",
            ),
            // A day that a zone left out: 30 December 2011.
            (
                ("Pacific/Apia", (7, 0)),
                "2011-12-30T16:00:00Z",
                "2011-12-29T17:00:00Z",
                "2011-12-30T17:00:00Z",
            ),
            (
                ("Pacific/Apia", (7, 0)),
                "2011-12-30T20:00:00Z",
                "2011-12-30T17:00:00Z",
                "2011-12-31T17:00:00Z",
            ),
        ];
        for ((zone, (hour, minute)), now, last, next) in rows {
            let notice = NoticeTime {
                daily_at: jiff::civil::time(hour, minute, 0, 0),
                timezone: jiff::tz::TimeZone::get(zone).unwrap(),
            };
            let expected = Some((millis(last), millis(next)));
            assert_eq!(around(&notice, millis(now)), expected, "{zone} {now}");
        }
    }

    #[test]
    fn each_moment_has_one_round() {
        let (yesterday, at, now) = (0, DAY, DAY + 5);
        for (last, expected) in [
            (None, Due::Skip),
            (Some(yesterday), Due::Tell),
            (Some(at - 1), Due::Tell),
            (Some(at), Due::Over),
            // `daily_at` was later before, or the clock was put back.
            (Some(at + 1), Due::Over),
            (Some(now + DAY), Due::Over),
            // Nobody waits for a year because the clock was ahead for a moment.
            (Some(now + DAY + 1), Due::Skip),
        ] {
            assert_eq!(due(last, at, now), expected, "{last:?}");
        }
    }
}
