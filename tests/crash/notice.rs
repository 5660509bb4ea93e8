//! Daily notices that a crash interrupts, step by step: each held mail is new in one of them.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use sekimori::failpoint::Point;

use crate::client::{self, Load};
use crate::letter::{DOMAIN, Kind, Letter, Recipient, Rng};
use crate::sink::Sink;
use crate::site::{Daemon, Method, Site, eventually};

/// Minutes ago, `daily_at` before the first day of a trial.
const BEGIN: i64 = 120;

fn quarantine(minutes_ago: i64) -> String {
    let at = Timestamp::now() - minutes_ago.minutes();
    let at = at.to_zoned(TimeZone::UTC).strftime("%H:%M").to_string();
    format!("7d, notice: {{daily_at: \"{at}\", timezone: UTC}}")
}

/// A site whose owner of held mail is told of it once a day.
fn site(method: Method) -> Site {
    let site = Site::new(method, 9, &quarantine(BEGIN));
    let settings = "version: 1\nlanguage: en\nreject: {subject_contains: [trial]}\n\
                    spam: {notice: daily, notice_includes: [user_rule]}\n";
    let file = site.path("mailboxes").join(DOMAIN);
    fs::write(file.join(format!("{}.yaml", Kind::Held.local())), settings).unwrap();
    site
}

fn started(site: &Site) -> Daemon {
    let mut daemon = site.start(None);
    daemon.await_ready();
    daemon
}

/// With so many held mails, and the next round comes with the next start.
fn holding(site: &Site, mails: u64) {
    let daemon = started(site);
    (0..mails).for_each(|number| hold(site, number));
    daemon.stop();
    next_day(site, 1);
}

/// A start that ends at its aim.
fn dies(site: &Site, point: Point, times: u64) {
    let aim = format!("{}:{times}", point.name());
    let mut daemon = site.start(Some(&aim));
    let status = eventually("it dies", || daemon.ended());
    assert_eq!(status.signal(), Some(9), "{aim}: {}", daemon.log());
}

fn hold(site: &Site, number: u64) {
    let load = Load::new(site.path("lmtp.sock"), Arc::default());
    let mut letter = Letter::new(number, 0, &mut Rng(1));
    letter.recipients = vec![Recipient {
        kind: Kind::Held,
        taken: None,
        late: false,
    }];
    assert!(client::give(&load, &mut letter));
}

/// `daily_at` is later from the next start on, and has come.
fn next_day(site: &Site, day: i64) {
    let path = site.path("sekimori.yaml");
    let settings = fs::read_to_string(&path).unwrap();
    let line = |day: i64| {
        format!(
            "quarantine: {{retention: {}}}",
            quarantine(BEGIN - 10 * day)
        )
    };
    let (begin, rest) = settings.split_once("quarantine: ").unwrap();
    let (_, end) = rest.split_once('\n').unwrap();
    fs::write(&path, format!("{begin}{}\n{end}", line(day))).unwrap();
}

/// Subjects of what the owner was told.
fn told(notices: &[Vec<u8>]) -> Vec<String> {
    let parser = mail_parser::MessageParser::default();
    let mut found: Vec<_> = notices
        .iter()
        .map(|raw| {
            let mail = parser.parse(raw.as_slice()).unwrap();
            let subject = mail.subject().unwrap().to_owned();
            (mail.message_id().unwrap().to_owned(), subject)
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, subject)| subject).collect()
}

#[test]
fn a_daily_notice_that_dies_at_any_step_tells_of_each_mail_once() {
    let aims = [
        (Point::MailFileSynced, 1),
        // The file is there, nothing names it.
        (Point::MailFileLinked, 1),
        // The notice and its mark, the end of the round, the steps of the courier.
        (Point::CommitApplied, 1),
        (Point::CommitFlushed, 1),
        (Point::Committed, 1),
        (Point::CommitApplied, 2),
        (Point::Committed, 2),
        (Point::CommitApplied, 3),
        (Point::Committed, 3),
        (Point::CourierDue, 1),
        (Point::CourierBegun, 1),
        (Point::MaildirWritten, 1),
        (Point::MaildirLinked, 1),
        (Point::CourierReplied, 1),
        (Point::OutgoingRemoved, 1),
    ];
    for (point, times) in aims {
        let aim = format!("{}:{times}", point.name());
        let site = site(Method::Maildir);
        holding(&site, 2);
        dies(&site, point, times);
        let daemon = started(&site);
        let maildir = || site.maildir(&Kind::Held.local());
        eventually("the notice", || (!maildir().is_empty()).then_some(()));
        hold(&site, 3);
        daemon.stop();
        next_day(&site, 2);
        let daemon = started(&site);
        eventually("the next notice", || (maildir().len() > 1).then_some(()));
        site.await_empty_queue();
        daemon.stop();
        let expected = ["Quarantine report: 2 new", "Quarantine report: 1 new"];
        assert_eq!(told(&maildir()), expected, "{aim}");
        let (clean, report) = site.json(&["store", "verify"]);
        assert!(clean && report["outgoing"] == 0, "{aim}: {report}");
    }
}

#[test]
fn a_notice_that_died_on_its_way_to_a_server_is_not_lost() {
    for (point, copies) in [
        (Point::CourierBegun, 1),
        // The server has it, which is not recorded: it is sent again, as a report of a virus is.
        (Point::CourierReplied, 2),
    ] {
        let hop = Sink::new(true, Arc::default());
        let site = site(Method::Lmtp(hop.port));
        hop.relent();
        holding(&site, 1);
        dies(&site, point, 1);
        let taken = || hop.taken().len() + hop.strange().len();
        let daemon = started(&site);
        eventually("the notice", || (taken() == copies).then_some(()));
        site.await_empty_queue();
        daemon.stop();
        assert_eq!(taken(), copies, "{point:?}");
    }
}
