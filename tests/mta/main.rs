//! The hand-off between real servers: swaks → Postfix → sekimori (LMTP) → Dovecot LMTP → read back by IMAP.
//! Needs Postfix, Dovecot and swaks, and root to start them; `tests/run` sees to both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

mod dovecot;
mod harness;
mod mails;
mod postfix;

use dovecot::Dovecot;
use harness::{free_port, open_folder};
use mails::{assert_whole, samples};
use postfix::Postfix;

const TARO: &str = "taro@east.example.jp";

/// The chain without sekimori: what differs in the other tests is not the servers' doing.
#[test]
fn harness_alone_delivers_whole() {
    let folder = open_folder();
    let lmtp = free_port();
    let dovecot = Dovecot::start(folder.path(), lmtp);
    let postfix = Postfix::start(folder.path(), lmtp);
    for (number, (name, mail)) in samples().iter().enumerate() {
        let id = postfix.send("alice@partner.example", TARO, mail);
        postfix.reply_of(&id, TARO);
        let inbox = dovecot.inbox_of(TARO, number + 1);
        eprintln!("{name}");
        assert_whole(&inbox[number], mail);
    }
}
