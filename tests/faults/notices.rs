//! Daily notices while the clock is set and while the daemon is down.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use mail_parser::MessageParser;

use crate::harness::{Site, TARO, eventually, files};
use crate::process::{Running, faketime, run};
use crate::scenario::{log, queue};

const BEGIN: &str = "the daily notices begin";
const QUEUED: &str = "the daily notices are queued";

/// A site whose `daily_at` no real minute of the test comes to.
fn site() -> Site {
    let at = Timestamp::now() - 2.hours();
    let at = at.to_zoned(TimeZone::UTC).strftime("%H:%M").to_string();
    let quarantine =
        format!("quarantine: {{retention: 3650d, notice: {{daily_at: \"{at}\", timezone: UTC}}}}");
    let site = Site::new()
        .with("quarantine: {retention: 7d}", &quarantine)
        .with_mailbox(
            TARO,
            "language: en\nspam: {scan: true, quarantine: true, notice: daily}\n",
        );
    site.write("clock", "+0");
    site
}

fn start(site: &Site) -> Option<Running<'_>> {
    let mut command = run(site);
    faketime(&mut command, &site.path("clock")).then(|| Running::start(site, &mut command))
}

fn await_log(site: &Site, words: &str, times: usize) {
    eventually(words, || {
        (log(site).matches(words).count() == times).then_some(())
    });
    eventually("the queue is empty", || {
        (queue(site) == Some(0)).then_some(())
    });
}

fn spam(running: &Running<'_>, subject: &str) {
    let raw =
        format!("From: a@friend.example\r\nSubject: {subject}\r\nX-Spam-Flag: YES\r\n\r\nx\r\n");
    let mut session = running.session();
    let answers = session.hand_over("a@friend.example", &[TARO], raw.as_bytes());
    assert_eq!(answers[0].verdict(), "quarantine/spam");
}

/// The Subjects of the held mail that each notice lists, sorted.
fn told(site: &Site) -> Vec<Vec<String>> {
    let parser = MessageParser::default();
    let mut found = Vec::new();
    for file in files(&site.path("mail/east.example.jp/taro/new")) {
        let raw = std::fs::read(file).unwrap();
        let mail = parser.parse(&raw).unwrap();
        let text = mail.body_text(0).unwrap();
        let listed = text
            .lines()
            .filter_map(|line| line.split_once(". Subject: "));
        let mut subjects: Vec<_> = listed.map(|(_, subject)| subject.to_owned()).collect();
        subjects.sort();
        found.push(subjects);
    }
    found.sort();
    found
}

#[test]
fn a_clock_that_is_set_makes_no_mail_new_twice_or_never() {
    let site = site();
    let Some(running) = start(&site) else { return };
    spam(&running, "a");
    site.write("clock", "+1d");
    await_log(&site, QUEUED, 1);
    // A day back, and that day once more: its notices are out.
    site.write("clock", "+0");
    spam(&running, "b");
    site.write("clock", "+1d");
    spam(&running, "c");
    site.write("clock", "+2d");
    await_log(&site, QUEUED, 2);
    // A year ahead by mistake, and back: nobody waits for a year.
    site.write("clock", "+400d");
    await_log(&site, QUEUED, 3);
    spam(&running, "d");
    site.write("clock", "+2d");
    await_log(&site, BEGIN, 2);
    spam(&running, "e");
    site.write("clock", "+3d");
    await_log(&site, QUEUED, 4);
    assert_eq!(told(&site), [vec!["a"], vec!["b", "c"], vec!["d", "e"]]);
}

#[test]
fn a_day_that_the_clock_had_come_to_before_has_its_own_notices() {
    let site = site();
    let Some(running) = start(&site) else { return };
    await_log(&site, BEGIN, 1);
    spam(&running, "a");
    site.write("clock", "+3d");
    await_log(&site, QUEUED, 1);
    site.write("clock", "+0");
    await_log(&site, BEGIN, 2);
    for (day, queued) in [("+1d", 2), ("+2d", 3)] {
        site.write("clock", day);
        await_log(&site, QUEUED, queued);
    }
    spam(&running, "b");
    site.write("clock", "+3d");
    await_log(&site, QUEUED, 4);
    assert_eq!(told(&site), [["a"], ["b"]]);
}

#[test]
fn the_days_that_the_daemon_was_down_are_in_one_notice() {
    let site = site();
    let Some(running) = start(&site) else { return };
    spam(&running, "a");
    site.write("clock", "+1d");
    await_log(&site, QUEUED, 1);
    spam(&running, "b");
    drop(running);
    site.write("clock", "+5d");
    let running = start(&site).unwrap();
    await_log(&site, QUEUED, 1);
    spam(&running, "c");
    site.write("clock", "+6d");
    await_log(&site, QUEUED, 2);
    assert_eq!(told(&site), [["a"], ["b"], ["c"]]);
}
