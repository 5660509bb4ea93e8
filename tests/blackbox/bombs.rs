//! Mails that are made to cost more than they weigh: taken whole, decided, and the daemon lives.

use crate::bomb_mails::BOMBS;
use crate::harness::{Daemon, Site, TARO, mail};
use crate::hop::Hop;

/// Everything on that looks at a mail.
const SETTINGS: &str = "\
reject: {subject_contains: [offer], from_suffixes: [\"@spam.example\"], headers: [from_empty_address]}
allow: {senders: [\"@friend.example\"], before_reject: true}
spam: {scan: true, quarantine: false, mark_subject: \"[spam]\"}
virus: {scan: true}
forwarding:
  mode: rules
  rules:
    - {match: any, attachment: true, subject_contains: [invoice], from_suffixes: [\"@shop.example\"], size: {at_least: 60MiB}, to: [files@else.example], keep_copy: true}
notify: {to: [mobile@else.example], fields: [from, to, subject, attachment, size]}
auto_reply: {enabled: true, subject: \"Auto: %{subject}\", message: away}
";

fn site(relay: &Hop) -> Site {
    Site::new()
        .with("message_size: 1MiB", "message_size: 64MiB")
        .with_relay(relay.port)
        .with_mailbox(TARO, SETTINGS)
}

fn give(daemon: &Daemon, name: &str, number: usize, raw: &[u8]) -> String {
    let answer = daemon.give(&format!("s{number}@friend.example"), TARO, raw);
    assert!(answer.0.starts_with("250 2.0.0 "), "{name}: {}", answer.0);
    answer.id()
}

#[test]
fn every_bomb_is_delivered_whole_and_its_bound_is_on_record() {
    let relay = Hop::smtp();
    let mut daemon = site(&relay).start();
    let mut wrong = Vec::new();
    for (number, bomb) in BOMBS.iter().enumerate() {
        let raw = (bomb.make)(bomb.count);
        let before = daemon.mailbox(TARO).len();
        let id = give(&daemon, bomb.name, number, &raw);
        let why = daemon.one(&["why", &id]);
        if why["bounds"].as_str() != bomb.bound {
            wrong.push((bomb.name, why["bounds"].clone()));
        }
        let stored = daemon.mailbox(TARO);
        assert_eq!(
            stored.len(),
            before + usize::from(why["verdict"] == "deliver"),
            "{}",
            bomb.name
        );
        if why["verdict"] == "deliver" {
            let whole: Vec<u8> = raw
                .iter()
                .copied()
                .filter(|octet| *octet != b'\r')
                .collect();
            assert!(
                stored.iter().any(|mail| mail.ends_with(&whole)),
                "{}",
                bomb.name
            );
        } else {
            assert_eq!(why["verdict"], "quarantine", "{}", bomb.name);
        }
        // Its files go, so that the next round reads little.
        let _ = std::fs::remove_dir_all(daemon.path("mail"));
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    daemon.await_empty_queue();
    let usual = mail("a@friend.example", "after all that");
    let id = give(&daemon, "a usual mail", 1000, &usual);
    assert!(daemon.one(&["why", &id])["bounds"].is_null());
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.await_end().success());
}

/// The same mails through the commands that decide without the daemon.
#[test]
fn explain_takes_every_bomb() {
    let site = site(&Hop::smtp());
    for bomb in BOMBS.iter().filter(|bomb| bomb.count < 1 << 20) {
        site.write("bomb.eml", (bomb.make)(bomb.count));
        let file = site.path("bomb.eml").display().to_string();
        site.one(&["explain", "--mailbox", TARO, &file]);
    }
}

/// Over the size it is refused by rule, at its end or before its beginning.
#[test]
fn a_mail_over_the_size_is_refused_at_once_or_at_its_end() {
    let daemon = Site::new().start();
    let mut session = daemon.lmtp();
    session.expect("LHLO mta.example.net", "250");
    session.expect(
        "MAIL FROM:<a@s.example> SIZE=99999999999999999999",
        "552 5.3.4",
    );
    session.transaction("a@s.example", &[TARO]);
    session.data(&"x".repeat(8 << 20).into_bytes());
    let reply = session.reply();
    assert!(reply.starts_with("552 5.3.4"), "{reply}");
    session.expect("NOOP", "250 2.0.0");
    assert!(daemon.mailbox(TARO).is_empty());
}
