//! The engines alone: each finds what the other tests rely on.

use crate::clamd::{Clamd, STREAM_MAX};
use crate::engine::ask;
use crate::mails;
use crate::rspamd::Rspamd;
use crate::spamd::Spamd;
use crate::zip;

#[test]
fn clamd_finds_its_two_signatures_and_nothing_else() {
    let clamd = Clamd::start();
    let eicar = Some("Eicar-Test-Signature.UNOFFICIAL");
    let ours = Some("Sekimori.Test.UNOFFICIAL");
    let in_text = mails::text(
        "x",
        &format!("hello {}", str::from_utf8(mails::OURS).unwrap()),
    );
    for (name, octets, expected) in [
        ("file", mails::eicar(), eicar),
        ("archive", zip::stored("a.com", &mails::eicar()), eicar),
        ("mail", mails::infected(), eicar),
        ("mail in a mail", mails::infected_deep(), eicar),
        ("text", in_text, ours),
        ("ham", mails::ham(), None),
        ("spam", mails::spam(), None),
        ("nothing", Vec::new(), None),
    ] {
        assert_eq!(clamd.finds(&octets).as_deref(), expected, "{name}");
    }
    assert_eq!(clamd.scans(), 8);
}

#[test]
fn clamd_refuses_a_stream_that_is_too_long() {
    let clamd = Clamd::start();
    let mut request = b"zINSTREAM\0".to_vec();
    request.extend_from_slice(&u32::try_from(STREAM_MAX + 1).unwrap().to_be_bytes());
    let said = ask(clamd.port, &request).unwrap();
    assert_eq!(
        said.escape_ascii().to_string(),
        "INSTREAM size limit exceeded. ERROR\\x00"
    );
}

#[test]
fn rspamd_tells_spam_from_ham_and_learns() {
    let rspamd = Rspamd::start();
    for (mail, action, score) in [
        (mails::ham(), "no action", 0.0),
        (mails::spam(), "reject", 15.0),
        (mails::seven_points(), "add header", 7.2),
    ] {
        let said = rspamd.check(&mail);
        assert_eq!(said["action"], action, "{said}");
        assert_eq!(said["score"], score, "{said}");
    }
    assert_eq!(rspamd.count("scanned"), 3);
    let head = "POST /learnham HTTP/1.0\r\nContent-Length: 1\r\n\r\nx";
    let said = ask(rspamd.controller, head.as_bytes()).unwrap();
    assert!(said.starts_with(b"HTTP/1.1 401"), "{}", said.escape_ascii());
    assert_eq!(rspamd.count("total_learns"), 0);
    rspamd.learn_ham(&mails::ham());
    assert_eq!(rspamd.count("total_learns"), 1);
}

#[test]
fn spamd_tells_spam_from_ham_and_learns() {
    let spamd = Spamd::start();
    for (mail, verdict, symbol) in [
        (mails::ham(), "False", ""),
        (mails::spam(), "True ; 1", "GTUBE"),
        (mails::seven_points(), "True ; 7", "TEST_SEVEN"),
    ] {
        let said = spamd.symbols(&mail);
        assert!(said.contains(&format!("Spam: {verdict}")), "{said}");
        assert!(said.contains(symbol), "{said}");
    }
    assert_eq!(spamd.scans(), 3);
    assert!(!spamd.has_learned_words());
    let said = spamd.ask(
        "TELL",
        "Message-class: ham\r\nSet: local\r\n",
        &mails::ham(),
    );
    assert!(said.contains("DidSet: local"), "{said}");
    assert_eq!(spamd.learned(), 1);
    assert!(spamd.has_learned_words());
}

#[test]
fn a_stopped_engine_goes_on() {
    let clamd = Clamd::start();
    clamd.engine.stop();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| clamd.finds(&mails::eicar()));
        clamd.engine.go_on();
        assert!(asked.join().unwrap().is_some());
    });
}
