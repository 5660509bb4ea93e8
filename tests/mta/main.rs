//! The hand-off between real servers: swaks → Postfix → sekimori (LMTP) → Dovecot LMTP → read back by IMAP.
//! Needs Postfix, Dovecot and swaks, and root to start them; `tests/run` sees to both.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

mod capture;
mod daemon;
mod dovecot;
mod harness;
mod lmtp;
mod mails;
mod postfix;

use capture::Capture;
use daemon::Daemon;
use dovecot::Dovecot;
use harness::{eventually, free_port, open_folder};
use mail_parser::MessageParser;
use mails::{assert_whole, english, samples};
use postfix::Postfix;

const TARO: &str = "taro@east.example.jp";
const ALICE: &str = "alice@partner.example";

/// All servers of one test. Fields end in this order.
struct Site {
    postfix: Postfix,
    sekimori: Daemon,
    dovecot: Dovecot,
    relay: Capture,
    _folder: tempfile::TempDir,
}

impl Site {
    fn start() -> Self {
        let folder = open_folder();
        let next_hop = free_port();
        let dovecot = Dovecot::start(folder.path(), next_hop);
        let relay = Capture::start();
        let sekimori = Daemon::start(folder.path(), next_hop, relay.port);
        let postfix = Postfix::start(folder.path(), sekimori.port);
        Self {
            postfix,
            sekimori,
            dovecot,
            relay,
            _folder: folder,
        }
    }

    /// Hands one mail to Postfix and waits for what sekimori replied.
    fn send(&self, sender: &str, recipient: &str, mail: &[u8]) -> String {
        let id = self.postfix.send(sender, recipient, mail);
        self.postfix.reply_of(&id, recipient)
    }

    fn set_mailbox(&self, mailbox: &str, settings: &str) {
        self.sekimori.set_mailbox(mailbox, settings);
        self.sekimori.command(&["reload", "--wait"]);
    }

    /// Waits until nothing is left to be sent, so that "no further mail" can be asserted.
    fn await_empty_queue(&self) {
        eventually("the outgoing queue is empty", || {
            self.sekimori
                .json(&["queue", "list"])
                .is_empty()
                .then_some(())
        });
    }
}

/// The chain without sekimori: what differs in the other tests is not the servers' doing.
#[test]
fn harness_alone_delivers_whole() {
    let folder = open_folder();
    let lmtp = free_port();
    let dovecot = Dovecot::start(folder.path(), lmtp);
    let postfix = Postfix::start(folder.path(), lmtp);
    for (number, (name, mail)) in samples().iter().enumerate() {
        eprintln!("{name}");
        let id = postfix.send(ALICE, TARO, mail);
        postfix.reply_of(&id, TARO);
        assert_whole(&dovecot.inbox_of(TARO, number + 1)[number], mail);
    }
}

#[test]
fn kept_mail_arrives_whole() {
    let site = Site::start();
    for (number, (name, mail)) in samples().iter().enumerate() {
        eprintln!("{name}");
        let reply = site.send(ALICE, TARO, mail);
        assert!(reply.contains("verdict=deliver"), "{reply}");
        let inbox = site.dovecot.inbox_of(TARO, number + 1);
        assert_eq!(inbox.len(), number + 1);
        assert_whole(&inbox[number], mail);
    }
    assert!(site.relay.mails().is_empty());
}

#[test]
fn rejected_subject_is_held_and_released_whole() {
    let site = Site::start();
    site.set_mailbox(
        TARO,
        "reject:\n  subject_contains: |\n    請求書\nforwarding:\n  mode: all\n  all: {to: [elsewhere@example.net], keep_copy: true}\n",
    );
    let (_, held) = samples()
        .into_iter()
        .find(|(name, _)| *name == "raw Shift_JIS")
        .unwrap();
    let reply = site.send(ALICE, TARO, &held);
    assert!(
        reply.contains("verdict=quarantine stage=reject.subject_contains"),
        "{reply}"
    );
    assert!(site.dovecot.inbox(TARO).is_empty());

    let entries = site
        .sekimori
        .json(&["quarantine", "list", "--mailbox", TARO]);
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(entries[0]["stage"], "reject.subject_contains");
    assert_eq!(entries[0]["entry"], "請求書");
    assert_eq!(entries[0]["class"], "user_rule");
    assert_eq!(entries[0]["sender"], ALICE);
    assert_eq!(entries[0]["state"], "held");

    site.sekimori
        .command(&["quarantine", "release", entries[0]["id"].as_str().unwrap()]);
    let inbox = site.dovecot.inbox_of(TARO, 1);
    assert_eq!(inbox.len(), 1);
    assert_whole(&inbox[0], &held);
    site.await_empty_queue();
    assert!(
        site.relay.mails().is_empty(),
        "a quarantined mail is not forwarded, not when it is released either"
    );
}

#[test]
fn forwards_keep_a_copy_or_not() {
    let site = Site::start();
    let target = "keiri@example.jp";
    for (number, keep) in [true, false].into_iter().enumerate() {
        site.set_mailbox(
            TARO,
            &format!("forwarding:\n  mode: all\n  all: {{to: [{target}], keep_copy: {keep}}}\n"),
        );
        let mail = english(TARO, &format!("copy kept: {keep}"));
        let reply = site.send(ALICE, TARO, &mail);
        let verdict = if keep {
            "verdict=deliver"
        } else {
            "verdict=forward"
        };
        assert!(reply.contains(verdict), "{reply}");
        let forwarded = site.relay.await_to(target, number + 1);
        assert!(
            forwarded[number].data.ends_with(&mail),
            "{}",
            String::from_utf8_lossy(&forwarded[number].data)
        );
        assert_eq!(
            site.dovecot.inbox(TARO).len(),
            1,
            "the copy of the first mail alone"
        );
    }
    site.await_empty_queue();
    assert_eq!(site.relay.mails().len(), 2);
}

#[test]
fn notice_says_what_came() {
    let site = Site::start();
    let phone = "taro.mobile@example.net";
    site.set_mailbox(
        TARO,
        &format!("language: ja\nnotify:\n  to: [{phone}]\n  fields: [from, to, subject, attachment, size]\n"),
    );
    for (number, (name, mail)) in samples().iter().enumerate() {
        eprintln!("{name}");
        site.send(ALICE, TARO, mail);
        let notice = &site.relay.await_to(phone, number + 1)[number];
        assert_eq!(notice.sender, "", "null reverse path");
        assert!(
            notice
                .field("Auto-Submitted")
                .unwrap()
                .starts_with("auto-notified")
        );
        let parsed = MessageParser::default().parse(&notice.data).unwrap();
        let text = parsed.body_text(0).unwrap();
        let subject = MessageParser::default()
            .parse(mail)
            .unwrap()
            .subject()
            .unwrap_or_default()
            .to_owned();
        assert!(
            text.contains("@partner.example") && text.contains(TARO),
            "{text}"
        );
        assert!(
            *name == "raw Shift_JIS" || text.contains(&subject),
            "{text}"
        );
    }
    assert_eq!(site.dovecot.inbox(TARO).len(), samples().len());
}

#[test]
fn auto_reply_once_in_24_hours() {
    let mut site = Site::start();
    site.set_mailbox(TARO, "auto_reply:\n  enabled: true\n  subject: \"自動返信: %{subject}\"\n  message: |\n    休暇中です。\n");
    site.send(ALICE, TARO, &english(TARO, "first"));
    let reply = site.relay.await_to(ALICE, 1).remove(0);
    assert_eq!(reply.sender, "", "null reverse path");
    assert!(
        reply
            .field("Auto-Submitted")
            .unwrap()
            .starts_with("auto-replied")
    );
    assert_eq!(
        reply.field("In-Reply-To").as_deref(),
        Some("<first@partner.example>")
    );

    site.send(ALICE, TARO, &english(TARO, "second"));
    site.await_empty_queue();
    assert_eq!(site.relay.mails_to(ALICE).len(), 1, "not twice in 24 hours");

    site.sekimori.restart_at("+23h");
    site.send(ALICE, TARO, &english(TARO, "third"));
    site.await_empty_queue();
    assert_eq!(site.relay.mails_to(ALICE).len(), 1, "nor after a restart");

    site.sekimori.restart_at("+25h");
    site.send(ALICE, TARO, &english(TARO, "fourth"));
    site.relay.await_to(ALICE, 2);
    site.send("bob@partner.example", TARO, &english(TARO, "other sender"));
    site.relay.await_to("bob@partner.example", 1);
    site.await_empty_queue();
    assert_eq!(site.relay.mails().len(), 3);
    assert_eq!(site.dovecot.inbox(TARO).len(), 5);
}

#[test]
fn refused_forward_ends_in_the_mailbox() {
    let site = Site::start();
    site.set_mailbox(TARO, "forwarding:\n  mode: all\n  all: {to: [refused@example.jp, keiri@example.jp], keep_copy: false}\n");
    let mail = english(TARO, "nobody takes this");
    let reply = site.send(ALICE, TARO, &mail);
    assert!(reply.contains("verdict=forward"), "{reply}");
    let inbox = site.dovecot.inbox_of(TARO, 1);
    let before = inbox[0]
        .strip_suffix(&mail[..])
        .expect("the mail is unchanged after the fields put before it");
    assert!(String::from_utf8_lossy(before).contains("X-Sekimori-Forward-Failed:"));
    site.await_empty_queue();
    assert_eq!(
        site.relay.mails_to("keiri@example.jp").len(),
        1,
        "the other target is served"
    );
}

#[test]
fn accepted_forward_survives_a_crash() {
    let folder = open_folder();
    let (next_hop, relay_port) = (free_port(), free_port());
    let mut sekimori = Daemon::start(folder.path(), next_hop, relay_port);
    sekimori.set_mailbox(
        TARO,
        "forwarding:\n  mode: all\n  all: {to: [keiri@example.jp], keep_copy: false}\n",
    );
    sekimori.command(&["reload", "--wait"]);
    let mail = english(TARO, "the relay is down");
    let replies = lmtp::hand_over(sekimori.port, ALICE, &[TARO.to_owned()], &mail);
    assert!(replies[0].contains("verdict=forward"), "{replies:?}");
    sekimori.kill();
    sekimori.start_again();
    let queue = sekimori.json(&["queue", "list"]);
    assert_eq!(queue.len(), 1, "{queue:?}");
    assert_eq!(queue[0]["kind"], "forward");
    let relay = Capture::start_on(relay_port);
    let forwarded = relay.await_to("keiri@example.jp", 1);
    assert!(forwarded[0].data.ends_with(&mail));
    eventually("the outgoing queue is empty", || {
        sekimori.json(&["queue", "list"]).is_empty().then_some(())
    });
    assert_eq!(relay.mails().len(), 1);
}

/// One mail for 200 mailboxes of four kinds, in one transaction: 200 right replies, and each mail where its reply says.
#[test]
fn two_hundred_recipients_get_their_own_answers() {
    const KINDS: [(&str, &str); 4] = [
        ("", "verdict=deliver"),
        (
            "reject:\n  subject_contains: [quarterly]\n",
            "verdict=quarantine stage=reject.subject_contains",
        ),
        (
            "reject:\n  from_suffixes: [\"@partner.example\"]\n",
            "verdict=quarantine stage=reject.from_suffixes",
        ),
        (
            "forwarding:\n  mode: all\n  all: {to: [NAME@away.example.net], keep_copy: false}\n",
            "verdict=forward",
        ),
    ];
    let site = Site::start();
    let names: Vec<String> = (0..200).map(|number| format!("user{number:03}")).collect();
    let recipients: Vec<String> = names
        .iter()
        .map(|name| format!("{name}@east.example.jp"))
        .collect();
    for (number, name) in names.iter().enumerate() {
        let settings = KINDS[number % 4].0.replace("NAME", name);
        site.sekimori.set_mailbox(&recipients[number], &settings);
    }
    site.sekimori.command(&["reload", "--wait"]);
    let mail = english(&recipients[0], "Quarterly report");
    let replies = lmtp::hand_over(site.sekimori.port, ALICE, &recipients, &mail);
    for (number, reply) in replies.iter().enumerate() {
        assert!(
            reply.starts_with(&format!("250 2.0.0 <{}> q=", recipients[number])),
            "{reply}"
        );
        assert!(reply.contains(KINDS[number % 4].1), "{reply}");
    }
    assert_eq!(site.sekimori.json(&["quarantine", "list"]).len(), 100);
    for (number, name) in names.iter().enumerate() {
        match number % 4 {
            0 => assert_whole(&site.dovecot.inbox_of(&recipients[number], 1)[0], &mail),
            3 => assert!(
                site.relay.await_to(&format!("{name}@away.example.net"), 1)[0]
                    .data
                    .ends_with(&mail)
            ),
            _ => {}
        }
    }
    site.await_empty_queue();
    assert_eq!(
        site.relay
            .mails()
            .iter()
            .map(|mail| mail.recipients.len())
            .sum::<usize>(),
        50
    );
}

#[test]
fn next_hop_down_is_tried_again_and_arrives_once() {
    let folder = open_folder();
    let next_hop = free_port();
    let relay = Capture::start();
    let sekimori = Daemon::start(folder.path(), next_hop, relay.port);
    sekimori.set_mailbox(
        TARO,
        "forwarding:\n  mode: all\n  all: {to: [keiri@example.jp], keep_copy: true}\n",
    );
    sekimori.command(&["reload", "--wait"]);
    let postfix = Postfix::start(folder.path(), sekimori.port);
    let mail = english(TARO, "while the next hop is down");
    let id = postfix.send(ALICE, TARO, &mail);
    let reason = postfix.deferral_of(&id, TARO);
    assert!(reason.contains("said: 451 4."), "{reason}");
    assert!(
        relay.mails().is_empty(),
        "nothing leaves before the hand-off is answered 2xx"
    );

    let dovecot = Dovecot::start(folder.path(), next_hop);
    postfix.flush();
    let reply = postfix.reply_of(&id, TARO);
    assert!(reply.contains("verdict=deliver"), "{reply}");
    assert_whole(&dovecot.inbox_of(TARO, 1)[0], &mail);
    assert_eq!(dovecot.inbox(TARO).len(), 1);
    assert_eq!(relay.await_to("keiri@example.jp", 1).len(), 1);
}

/// SMTP smuggling through us into a Postfix that takes a bare line end for a whole one, as 3.7's default is: what
/// we send on holds none, so a mail stays one mail whatever form of an end of data stands in it.
#[test]
fn a_relay_that_takes_bare_line_ends_gets_one_mail_for_each() {
    const JIRO: &str = "jiro@east.example.jp";
    const KEIRI: &str = "keiri@east.example.jp";
    let folder = open_folder();
    let (next_hop, smtpd) = (free_port(), free_port());
    let dovecot = Dovecot::start(folder.path(), next_hop);
    let sekimori = Daemon::start(folder.path(), next_hop, smtpd);
    let _postfix = Postfix::start_on(smtpd, folder.path(), sekimori.port);
    sekimori.set_mailbox(
        TARO,
        &format!("forwarding:\n  mode: all\n  all: {{to: [{KEIRI}], keep_copy: false}}\n"),
    );
    sekimori.command(&["reload", "--wait"]);
    let forms = [
        "\n.\n",
        "\n.\r\n",
        "\r\n.\n",
        "\r.\r",
        "\r\n.\r",
        "\r.\r\n",
        "\n\n.\n\n",
        "\r\r\n.\r\r\n",
        "\r\n.\r\r\n",
        "\r\n\0.\r\n",
        "\r\n.\0\r\n",
        "\n..\n",
        "\r\n..\r\n",
    ];
    for (number, form) in forms.iter().enumerate() {
        let mail = smuggling(form, number, JIRO);
        let reply = lmtp::hand_over_raw(sekimori.port, ALICE, TARO, mail.as_bytes());
        assert!(reply.contains("verdict=forward"), "{form:?}: {reply}");
    }
    let inbox = dovecot.inbox_of(KEIRI, forms.len());
    eventually("the outgoing queue is empty", || {
        sekimori.json(&["queue", "list"]).is_empty().then_some(())
    });
    assert_eq!(inbox.len(), forms.len());
    for mail in &inbox {
        let text = String::from_utf8_lossy(mail);
        assert!(
            text.contains("\r\nRCPT TO:<jiro@east.example.jp>\r\n"),
            "{text}"
        );
    }
    assert!(dovecot.inbox(JIRO).is_empty());
    // This Postfix can be smuggled to: the same octets, not through us, are two mails.
    let session = format!(
        "EHLO client.example.net\r\nMAIL FROM:<{ALICE}>\r\nRCPT TO:<{KEIRI}>\r\nDATA\r\n{}.\r\nQUIT\r\n",
        smuggling("\n.\n", forms.len(), JIRO)
    );
    lmtp::blind(smtpd, session.as_bytes());
    assert_eq!(dovecot.inbox_of(JIRO, 1).len(), 1);
}

/// A mail with a second transaction behind `form`.
fn smuggling(form: &str, number: usize, to: &str) -> String {
    format!(
        "From: {ALICE}\r\nTo: {TARO}\r\nSubject: form {number}\r\n\r\nbefore{form}MAIL FROM:<evil@partner.example>\r\nRCPT TO:<{to}>\r\nDATA\r\nFrom: evil@partner.example\r\nSubject: smuggled\r\n\r\nsmuggled\r\n"
    )
}
