//! Hand-offs that break off after they wrote their files: the retry leaves nothing of them behind.

use std::path::PathBuf;

use serde_json::json;

use crate::harness::{Daemon, JIRO, Site, TARO, eventually, files_below, mail};
use crate::hop::Hop;

const FORWARD_AND_NOTICE: &str = "\
forwarding:
  mode: all
  all: {to: [home@else.example], keep_copy: true}
notify: {to: [mobile@else.example]}
";
const HOLD: &str = "reject: {subject_contains: [offer]}\n";

/// The mail files of the store.
fn mail_files(site: &Site) -> Vec<PathBuf> {
    files_below(&site.path("state/mail"))
}

/// Hands the mail over to a daemon that dies of it.
fn die_of(daemon: &mut Daemon, recipients: &[&str], raw: &[u8]) {
    let mut session = daemon.lmtp();
    session.expect("LHLO mta.example.net", "250");
    session.transaction("a@friend.example", recipients);
    session.data(raw);
    assert!(!daemon.await_end().success());
}

#[test]
fn a_crash_loop_leaves_the_files_of_one_try_and_its_end_none() {
    let raw = mail("a@friend.example", "offer");
    let mut daemon = Site::new()
        .with_mailbox(TARO, FORWARD_AND_NOTICE)
        .with_mailbox(JIRO, HOLD)
        .with_environment("SEKIMORI_KILL_AT", "prepared:1")
        .start();
    for round in 0..4 {
        die_of(&mut daemon, &[TARO, JIRO], &raw);
        // Forward, notice, held original.
        assert_eq!(mail_files(&daemon).len(), 3, "round {round}");
        daemon.start_again();
    }
    daemon.kill();
    daemon.site.clear_environment();
    daemon.start_again();
    let answers = daemon.hand_over("a@friend.example", &[TARO, JIRO], &raw);
    assert_eq!(answers[0].verdict(), "deliver");
    assert_eq!(answers[1].verdict(), "quarantine/reject.subject_contains");
    assert_eq!(mail_files(&daemon).len(), 3);
    let verified = daemon.one(&["store", "verify"]);
    assert_eq!(verified["orphans"], json!([]));
    assert_eq!(verified["problems"], json!([]));
    assert_eq!((daemon.queue().len(), daemon.quarantine().len()), (2, 1));
}

#[test]
fn a_retry_is_decided_by_the_settings_of_now_and_leaves_nothing_of_the_first_try() {
    let raw = mail("a@friend.example", "offer");
    let mut daemon = Site::new()
        .with_mailbox(TARO, HOLD)
        .with_environment("SEKIMORI_KILL_AT", "prepared:1")
        .start();
    die_of(&mut daemon, &[TARO], &raw);
    assert_eq!(mail_files(&daemon).len(), 1);
    daemon.set_mailbox(TARO, "reject: {subject_contains: [other]}\n");
    daemon.site.clear_environment();
    daemon.start_again();
    let answer = daemon.give("a@friend.example", TARO, &raw);
    assert_eq!(answer.verdict(), "deliver");
    assert!(mail_files(&daemon).is_empty());
    assert!(daemon.quarantine().is_empty());
}

#[test]
fn a_crash_after_the_commit_keeps_what_it_named() {
    let raw = mail("a@friend.example", "offer");
    let mut daemon = Site::new()
        .with_mailbox(TARO, HOLD)
        // The first commit makes the index, the second begins the daily notices.
        .with_environment("SEKIMORI_KILL_AT", "committed:3")
        .start();
    eventually("the second commit", || {
        let log = daemon.log();
        log.contains("the daily notices begin").then_some(())
    });
    die_of(&mut daemon, &[TARO], &raw);
    daemon.site.clear_environment();
    daemon.start_again();
    let answer = daemon.give("a@friend.example", TARO, &raw);
    assert_eq!(answer.verdict(), "quarantine/reject.subject_contains");
    assert_eq!(daemon.quarantine().len(), 1);
    assert_eq!(daemon.one(&["store", "verify"])["problems"], json!([]));
}

/// A daemon whose next hop never answers for taro's mail.
fn hanging(hop: &Hop) -> Daemon {
    hop.hang_at_end(TARO);
    Site::new()
        .with(
            "method: maildir\n",
            &format!(
                "method: lmtp\n  lmtp: {{address: 127.0.0.1:{}}}\n",
                hop.port
            ),
        )
        .with(
            "  limits: {message_size: 1MiB}",
            "  timeouts: {final_reply: 2s}\n  limits: {message_size: 1MiB}",
        )
        .with_mailbox(TARO, FORWARD_AND_NOTICE)
        .start()
}

#[test]
fn a_hop_that_hangs_leaves_no_files_however_often_the_mta_tries() {
    let hop = Hop::lmtp();
    let daemon = hanging(&hop);
    let raw = mail("a@friend.example", "x");
    for round in 0..3 {
        let put_off = daemon.give("a@friend.example", TARO, &raw);
        assert!(put_off.0.starts_with("451 4.4."), "{}", put_off.0);
        assert!(mail_files(&daemon).is_empty(), "round {round}");
    }
    hop.relent();
    let taken = daemon.give("a@friend.example", TARO, &raw);
    assert_eq!(taken.verdict(), "deliver");
    assert_eq!(mail_files(&daemon).len(), 2);
}

#[test]
fn a_retry_beside_its_first_try_is_answered_too() {
    let hop = Hop::lmtp();
    let daemon = hanging(&hop);
    let raw = mail("a@friend.example", "x");
    let give = || daemon.give("a@friend.example", TARO, &raw).0;
    std::thread::scope(|scope| {
        let tries: Vec<_> = (0..3).map(|_| scope.spawn(give)).collect();
        for one in tries {
            let put_off = one.join().unwrap();
            assert!(put_off.starts_with("451 4.4."), "{put_off}");
        }
    });
    hop.relent();
    let taken = daemon.give("a@friend.example", TARO, &raw);
    assert_eq!(taken.verdict(), "deliver");
    assert_eq!(hop.mails_to(TARO).len(), 1);
}

/// Ends a daemon that had this to do with a mail, and says whether it left doubt behind: then each
/// write into a Maildir searches it first.
fn leaves_doubt(mut daemon: Daemon, raw: &[u8], code: &str) -> bool {
    let answer = daemon.give("a@friend.example", TARO, raw).0;
    assert!(answer.starts_with(code), "{answer}");
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.await_end().success());
    daemon.path("state/running").exists()
}

#[test]
fn only_a_delivery_of_which_nobody_knows_leaves_doubt() {
    let raw = mail("a@friend.example", "offer");
    let refused = Site::new();
    refused.write("mail/east.example.jp/taro", "no folder");
    assert!(!leaves_doubt(refused.start(), &raw, "451 4.3.0"));
    let full = Site::new()
        .with("retention: 7d", "retention: 7d, max_size: 1B")
        .with_mailbox(TARO, HOLD);
    assert!(!leaves_doubt(full.start(), &raw, "452 4.3.1"));
    let hop = Hop::lmtp();
    assert!(leaves_doubt(hanging(&hop), &raw, "451 4.4."));
}
