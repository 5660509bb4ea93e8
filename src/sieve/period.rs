//! The time in which a `vacation` answers.

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};

use super::rule::{Refusal, lower, refuse};
use super::script::{Argument, Node};

/// When replies are sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Period {
    pub(super) start: Option<String>,
    pub(super) end: Option<String>,
}

/// Fields of mail that nobody answers anyway.
const UNANSWERED: [&str; 13] = [
    "list-id",
    "list-help",
    "list-subscribe",
    "list-unsubscribe",
    "list-post",
    "list-owner",
    "list-archive",
    "mailing-list",
    "precedence",
    "auto-submitted",
    "x-auto-response-suppress",
    "x-loop",
    "x-autoreply",
];

/// Reads the test of a vacation: dates, and what leaves out lists and programs.
pub(super) fn period(test: &Node) -> Result<Period, Refusal> {
    let mut period = Period::default();
    dates(test, &mut period)?;
    if let (Some(start), Some(end)) = (&period.start, &period.end) {
        let (start, end) = (Moment::of(start), Moment::of(end));
        // Without an offset it may mean any place of the world.
        let doubt = i64::from(start.is_local != end.is_local) * 24 * 60 * 60;
        if start.seconds.saturating_add(doubt) >= end.seconds {
            return refuse(
                test,
                "the end of the time for replies is before its beginning",
            );
        }
    }
    Ok(period)
}

struct Moment {
    seconds: i64,
    is_local: bool,
}

impl Moment {
    fn of(text: &str) -> Self {
        let absolute = text.parse::<Timestamp>();
        let is_local = absolute.is_err();
        let moment = absolute.or_else(|_| format!("{text}Z").parse());
        Self {
            seconds: moment.map_or(0, Timestamp::as_second),
            is_local,
        }
    }
}

fn dates(test: &Node, period: &mut Period) -> Result<(), Refusal> {
    match test.name.as_str() {
        "true" => Ok(()),
        "false" => refuse(test, "the rule is switched off"),
        "allof" => test
            .inner()
            .iter()
            .try_for_each(|inner| dates(inner, period)),
        "anyof" if test.inner().len() == 1 => test
            .inner()
            .iter()
            .try_for_each(|inner| dates(inner, period)),
        "not" if test.inner().iter().all(is_of_robots) => Ok(()),
        "currentdate" => currentdate(test, period),
        name => refuse(
            test,
            format!("a reply depends on the time and the sender only, not on `{name}`"),
        ),
    }
}

fn is_of_robots(test: &Node) -> bool {
    let Some(Argument::Strings(fields)) = test.arguments.iter().find(
        |a| matches!(a, Argument::Strings(names) if !names.iter().any(|n| n.starts_with("i;"))),
    ) else {
        return false;
    };
    let fields = lower(fields);
    let to_many = |argument: &Argument| matches!(argument, Argument::Strings(texts) if texts.iter().all(|text| text.starts_with("Multiple recipients of")));
    match test.name.as_str() {
        "anyof" => test.inner().iter().all(is_of_robots),
        "exists" => fields
            .iter()
            .all(|field| UNANSWERED.contains(&field.as_str())),
        "header" => {
            fields
                .iter()
                .all(|field| UNANSWERED.contains(&field.as_str()))
                || fields == ["to"] && test.arguments.last().is_some_and(to_many)
        }
        _ => false,
    }
}

fn currentdate(test: &Node, period: &mut Period) -> Result<(), Refusal> {
    let (mut relation, mut zone) = (None, None);
    let mut texts = Vec::new();
    let mut arguments = test.arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument {
            Argument::Strings(list) => texts.extend(list.iter().map(String::as_str)),
            Argument::Number(_) => return refuse(test, "a number has no place here"),
            Argument::Tag(tag) => {
                let parameter = match (tag.as_str(), arguments.next()) {
                    ("value" | "zone" | "comparator", Some(Argument::Strings(list))) => {
                        list.first()
                    }
                    _ => return refuse(test, format!("`:{tag}` of a date has no counterpart")),
                };
                match tag.as_str() {
                    "value" => relation = parameter,
                    "zone" => zone = parameter,
                    _ => {}
                }
            }
        }
    }
    let (Some(relation), [part, moment]) = (relation, texts.as_slice()) else {
        return refuse(
            test,
            "a date is compared with `:value \"ge\"` or `:value \"le\"`",
        );
    };
    let offset = match zone.map(|zone| zone.split_at_checked(3)) {
        None => String::new(),
        Some(Some((hours, minutes))) => format!("{hours}:{minutes}"),
        Some(None) => return refuse(test, "a zone is written as `+0900`"),
    };
    let Some((is_start, moment)) = bound(
        &part.to_ascii_lowercase(),
        &relation.to_ascii_lowercase(),
        moment,
        &offset,
    ) else {
        return refuse(
            test,
            "only a beginning and an end of the time for replies have a counterpart",
        );
    };
    let side = if is_start {
        &mut period.start
    } else {
        &mut period.end
    };
    if side.replace(moment).is_some() {
        return refuse(test, "a second beginning or end");
    }
    Ok(())
}

/// Whether it is the beginning, and the first or last second that is meant.
fn bound(part: &str, relation: &str, moment: &str, offset: &str) -> Option<(bool, String)> {
    let day: Option<Date> = moment.parse().ok().filter(|_| moment.len() == 10);
    let years = 1970..=9000;
    let year = moment.get(..4).and_then(|year| year.parse().ok());
    if !year.is_some_and(|year: i16| years.contains(&year)) {
        return None;
    }
    match (part, day) {
        ("date", Some(day)) => {
            let (is_start, day) = match relation {
                "ge" => (true, day),
                "gt" => (true, day.tomorrow().ok()?),
                "le" => (false, day),
                "lt" => (false, day.yesterday().ok()?),
                _ => return None,
            };
            let time = if is_start { "00:00:00" } else { "23:59:59" };
            Some((is_start, format!("{day}T{time}{offset}")))
        }
        // As text every time of the day lies behind the bare day.
        ("iso8601", Some(day)) => match relation {
            "ge" | "gt" => Some((true, format!("{day}T00:00:00{offset}"))),
            "le" | "lt" => Some((false, format!("{}T23:59:59{offset}", day.yesterday().ok()?))),
            _ => None,
        },
        ("iso8601", None) => {
            let moment: Timestamp = moment
                .parse()
                .or_else(|_| format!("{moment}{offset}").parse())
                .ok()?;
            let (is_start, moment) = match relation {
                "ge" => (true, moment),
                "gt" => (true, moment.checked_add(1.second()).ok()?),
                "le" => (false, moment),
                "lt" => (false, moment.checked_sub(1.second()).ok()?),
                _ => return None,
            };
            Some((is_start, moment.to_string()))
        }
        _ => None,
    }
}
