//! Quarantine notices: once a day at `daily_at`, or at once.
//!
//! A day that passes is a `daily_at` that is put later, to a moment that has come already.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use mail_parser::{MessageParser, MimeHeaders};

use crate::harness::{Daemon, JIRO, Site, TARO, crlf, eventually, mail};
use crate::hop::Hop;

const DAILY: &str = "language: en\nspam: {scan: true, quarantine: true, notice: daily}\n";
const QUEUED: &str = "the daily notices are queued";

/// A daemon on which the rounds begin two hours ago.
struct Days {
    daemon: Daemon,
    quarantine: String,
    /// Rounds so far since the start of the process.
    rounds: usize,
    minutes_ago: i64,
}

impl Days {
    fn new(site: Site, retention: &str) -> Self {
        let minutes_ago = 120;
        let quarantine = quarantine(retention, minutes_ago);
        let daemon = site
            .with("quarantine: {retention: 7d}", &quarantine)
            .start();
        Self {
            daemon,
            quarantine,
            rounds: 0,
            minutes_ago,
        }
    }

    /// `daily_at` comes; all notices are delivered.
    fn next_day(&mut self) {
        self.put_later();
        self.daemon.cli(&["reload", "--wait"]).success();
        self.await_round();
    }

    /// The time counts from the next start on.
    fn put_later(&mut self) {
        self.minutes_ago -= 10;
        let next = quarantine(retention(&self.quarantine), self.minutes_ago);
        self.daemon.site.replace(&self.quarantine, &next);
        self.quarantine = next;
    }

    fn await_round(&mut self) {
        self.rounds += 1;
        eventually("the round is over", || {
            let log = self.daemon.log();
            (log.matches(QUEUED).count() == self.rounds).then_some(())
        });
        self.daemon.await_empty_queue();
    }

    fn restart(&mut self, kill: bool) {
        if kill {
            self.daemon.kill();
        } else {
            self.daemon.signal(rustix::process::Signal::TERM);
            assert!(self.daemon.await_end().success());
        }
        self.daemon.start_again();
        self.rounds = 0;
    }

    fn spam(&self, mailbox: &str, subject: &str) -> String {
        let raw = crlf(&format!(
            "X-Spam-Flag: YES\nFrom: a@friend.example\nSubject: {subject}\n\nx\n"
        ));
        let answer = self.daemon.give("a@friend.example", mailbox, &raw);
        assert_eq!(answer.verdict(), "quarantine/spam", "{subject}");
        answer.id()
    }

    /// Subject and text of each notice in a mailbox, in the order in which they came.
    fn notices(&self, mailbox: &str) -> Vec<(String, String)> {
        let mut mails: Vec<_> = self
            .daemon
            .mailbox(mailbox)
            .iter()
            .map(|raw| notice(raw))
            .collect();
        mails.sort();
        mails
            .into_iter()
            .map(|(_, subject, text)| (subject, text))
            .collect()
    }
}

fn retention(quarantine: &str) -> &str {
    let (_, rest) = quarantine.split_once("retention: ").unwrap();
    rest.split_once(',').unwrap().0
}

fn quarantine(retention: &str, minutes_ago: i64) -> String {
    let at = Timestamp::now() - minutes_ago.minutes();
    let at = at.to_zoned(TimeZone::UTC).strftime("%H:%M").to_string();
    format!("quarantine: {{retention: {retention}, notice: {{daily_at: \"{at}\", timezone: UTC}}}}")
}

/// Message-ID (which is in the order of time), Subject and text of a notice.
fn notice(raw: &[u8]) -> (String, String, String) {
    let mail = MessageParser::default().parse(raw).unwrap();
    let kinds: Vec<_> = mail
        .parts
        .iter()
        .map(|part| part.content_type().unwrap().subtype().unwrap())
        .collect();
    assert_eq!(kinds, ["alternative", "plain", "html"]);
    (
        mail.message_id().unwrap().to_owned(),
        mail.subject().unwrap().to_owned(),
        mail.body_text(0).unwrap().replace("\r\n", "\n"),
    )
}

#[test]
fn each_mail_is_new_in_one_daily_notice_over_restarts_and_kills() {
    let site = Site::new()
        .with_mailbox(TARO, DAILY)
        .with_mailbox(JIRO, "spam: {scan: true, quarantine: true}\n");
    let mut days = Days::new(site, "7d");
    days.spam(TARO, "one");
    days.spam(JIRO, "nobody asked");
    let gone = days.spam(TARO, "released");
    days.daemon.cli(&["quarantine", "release", &gone]).success();
    let gone = days.spam(TARO, "deleted");
    days.daemon.cli(&["quarantine", "delete", &gone]).success();
    days.daemon.await_empty_queue();
    let released = days.daemon.mailbox(TARO).len();
    assert_eq!(released, 1);
    for file in crate::harness::files_below(&days.daemon.path("mail/east.example.jp/taro")) {
        std::fs::remove_file(file).unwrap();
    }

    days.next_day();
    let told = days.notices(TARO);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0, "Quarantine report: 1 new");
    assert!(
        told[0].1.contains("Spam: new 1, held in all 1\n"),
        "{}",
        told[0].1
    );
    assert!(told[0].1.contains("1. Subject: one\n"));

    // Nothing new: no notice. A restart is no new day.
    days.next_day();
    days.spam(TARO, "two");
    for kill in [false, true] {
        days.restart(kill);
        days.spam(TARO, if kill { "four" } else { "three" });
    }
    days.next_day();
    let told = days.notices(TARO);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[1].0, "Quarantine report: 3 new");
    assert!(
        told[1].1.contains("Spam: new 3, held in all 4\n"),
        "{}",
        told[1].1
    );
    for (number, subject) in ["two", "three", "four"].iter().enumerate() {
        let line = format!("{}. Subject: {subject}\n", number + 1);
        assert!(told[1].1.contains(&line), "{}", told[1].1);
    }

    // A day that comes while the daemon is down is made up for, once.
    days.spam(TARO, "five");
    days.put_later();
    days.restart(true);
    days.await_round();
    days.restart(true);
    days.spam(TARO, "six");
    days.next_day();
    let subjects: Vec<_> = days.notices(TARO).into_iter().map(|(s, _)| s).collect();
    assert_eq!(
        subjects,
        [
            "Quarantine report: 1 new",
            "Quarantine report: 3 new",
            "Quarantine report: 1 new",
            "Quarantine report: 1 new",
        ]
    );
    assert!(days.daemon.mailbox(JIRO).is_empty());
}

#[test]
fn a_mailbox_with_a_new_name_hears_of_what_came_under_the_old_one() {
    let mut days = Days::new(Site::new().with_mailbox(TARO, DAILY), "7d");
    days.spam(TARO, "old");
    let settings = days.daemon.path("mailboxes/east.example.jp");
    std::fs::remove_file(settings.join("taro.yaml")).unwrap();
    let renamed = format!("{DAILY}aliases: [{TARO}]\n");
    days.daemon.site.set_mailbox(JIRO, &renamed);
    days.next_day();
    days.spam(JIRO, "young");
    days.next_day();
    let told = days.notices(JIRO);
    let found = |words: &str| told.iter().filter(|(_, text)| text.contains(words)).count();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!((found("Subject: old\n"), found("Subject: young\n")), (1, 1));
    assert!(days.daemon.mailbox(TARO).is_empty(), "nobody reads it");
}

#[test]
fn what_expires_within_a_day_is_told_of_again() {
    let site = Site::new().with_mailbox(
        TARO,
        "spam: {scan: true, quarantine: true, notice: daily}\n",
    );
    let mut days = Days::new(site, "20h");
    days.spam(TARO, "old");
    days.next_day();
    days.next_day();
    days.spam(TARO, "young");
    days.next_day();
    let told = days.notices(TARO);
    let subjects: Vec<&str> = told.iter().map(|(subject, _)| subject.as_str()).collect();
    assert_eq!(
        subjects,
        [
            "隔離レポート: 新着 1 通",
            "隔離レポート: 新着 0 通、期限間近 1 通",
            "隔離レポート: 新着 1 通、期限間近 1 通",
        ]
    );
    let text = &told[2].1;
    let young = text.find("1. 件名: young").unwrap();
    let old = text.find("2. 件名: old").unwrap();
    assert!(young < old);
    assert_eq!(
        text.matches(" (保存期限まで1日以内)\n").count(),
        2,
        "{text}"
    );
    for word in ["再配送", "受信許可"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn own_rules_are_told_of_where_asked_for_also_without_an_engine() {
    const RULES: &str = "language: en\nreject: {subject_contains: [offer]}\n";
    for (includes, engine, spam, rule) in [
        ("[spam]", true, true, false),
        ("[user_rule]", true, false, true),
        ("[spam, user_rule]", true, true, true),
        ("[spam, user_rule]", false, false, true),
    ] {
        let settings = format!(
            "{RULES}spam: {{scan: true, quarantine: true, notice: daily, notice_includes: {includes}}}\n"
        );
        let mut site = Site::new().with_mailbox(TARO, &settings);
        if !engine {
            site = site.with(
                "  spam:\n    engine: upstream\n    upstream: {header: X-Spam-Flag, spam: \"YES\"}\n",
                "",
            );
        }
        let mut days = Days::new(site, "7d");
        if engine {
            days.spam(TARO, "cheap");
        }
        let held = days.daemon.give(
            "a@friend.example",
            TARO,
            &mail("a@friend.example", "an offer"),
        );
        assert_eq!(held.verdict(), "quarantine/reject.subject_contains");
        days.next_day();
        let told = days.notices(TARO);
        assert_eq!(told.len(), 1, "{includes}");
        let text = &told[0].1;
        assert_eq!(text.contains("Subject: cheap"), spam, "{text}");
        assert_eq!(text.contains("Subject: an offer"), rule, "{text}");
        let reason = "Reason: your reject rule (subject contains \"offer\")";
        assert_eq!(text.contains(reason), rule, "{text}");
    }
}

#[test]
fn a_hold_of_an_own_rule_is_told_at_once_and_the_notice_of_it_is_not() {
    let store = Hop::lmtp();
    let daemon = Site::new()
        .with(
            "method: maildir\n",
            &format!(
                "method: lmtp\n  lmtp: {{address: \"127.0.0.1:{}\"}}\n",
                store.port
            ),
        )
        .with_mailbox(
            TARO,
            "spam: {notice: each, notice_includes: [user_rule]}\nreject: {subject_contains: [隔離, 広告]}\n",
        )
        .start();
    let raw = mail("a@friend.example", "未承諾広告");
    let held = daemon.give("a@friend.example", TARO, &raw);
    let told = eventually("the notice", || store.mails().first().cloned());
    assert_eq!(
        (told.sender.as_str(), &told.recipients),
        ("", &vec![TARO.to_owned()])
    );
    let (_, subject, text) = notice(&told.data);
    assert_eq!(subject, "メール隔離のお知らせ");
    for words in [
        "件名: 未承諾広告",
        "受信拒否の設定 (件名の「広告」)",
        &held.id(),
    ] {
        assert!(text.contains(words), "{text}");
    }
    let effects = daemon.one(&["why", &held.id()])["effects"].clone();
    let kinds: Vec<_> = effects
        .as_array()
        .unwrap()
        .iter()
        .map(|effect| effect["kind"].clone())
        .collect();
    assert_eq!(kinds, ["quarantine", "quarantine_notice"]);
    // It comes round, and its own Subject is one that is held.
    let back = daemon.give("", TARO, &told.data);
    assert_eq!(back.verdict(), "quarantine/reject.subject_contains");
    daemon.await_empty_queue();
    assert_eq!(store.mails().len(), 1);
}
