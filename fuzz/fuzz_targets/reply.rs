//! Any octets as what a next hop says: replies are whole or an error, in pieces as at once, and
//! nobody's mail is taken for accepted without a positive reply of his own behind the data.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use sekimori::deliver::fuzzing::{Heard, converse};
use sekimori::deliver::{
    Auth, Content, Delivery, Endpoint, HopSettings, Mechanism, Protocol, Recipient, Tls,
};
use sekimori::mail::{Address, ReversePath};
use sekimori::smtp::{Reply, ReplyError, ReplyParser, ServerReply, wire_data};
use sekimori_fuzz::within;

const MAIL: &[u8] = b"From: a@b.example\r\n\r\n.dots\r\n..\r\n";

static ADDRESS: LazyLock<Address> =
    LazyLock::new(|| Address::parse("taro@y.example").expect("an address"));

fuzz_target!(|input: &[u8]| {
    let Some((&options, said)) = input.split_first() else {
        return;
    };
    let (replies, error) = within(64 * 1024 + 64 * said.len(), || parse(&[said]));
    let cut = said.len() / 2;
    assert_eq!(
        (&replies, error),
        pair(&parse(&[&said[..cut], &said[cut..]]))
    );
    let single: Vec<&[u8]> = said.chunks(1).collect();
    assert_eq!((&replies, error), pair(&parse(&single)));
    for reply in &replies {
        assert!((200..600).contains(&reply.code) && !reply.lines.is_empty());
        assert!(
            reply
                .lines
                .iter()
                .all(|line| !line.contains(['\r', '\n', '\0']))
        );
        assert!(
            reply
                .enhanced
                .is_none_or(|code| u16::from(code.0) == reply.code / 100)
        );
        let clean = Reply::from(reply.clone()).to_string();
        assert!(
            clean.bytes().all(|octet| (b' '..=b'~').contains(&octet)),
            "{clean:?}"
        );
    }
    // A reply has at least "250" and CRLF.
    assert!(
        replies
            .iter()
            .map(|reply| 5 * reply.lines.len())
            .sum::<usize>()
            <= said.len()
    );

    let heard = within(1 << 20, || converse(hop(options), said, &delivery(options)));
    judge(
        options,
        &replies,
        error.is_some(),
        &heard.expect("a runtime"),
    );
});

fn parse(pieces: &[&[u8]]) -> (Vec<ServerReply>, Option<ReplyError>) {
    let mut parser = ReplyParser::new();
    let mut replies = Vec::new();
    for piece in pieces {
        parser.feed(piece);
    }
    let error = loop {
        match parser.next_reply() {
            Ok(Some(reply)) => replies.push(reply),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    assert!(error.is_none() || !parser.is_at_rest());
    (replies, error)
}

fn pair(
    parsed: &(Vec<ServerReply>, Option<ReplyError>),
) -> (&Vec<ServerReply>, Option<ReplyError>) {
    (&parsed.0, parsed.1)
}

fn judge(options: u8, replies: &[ServerReply], faulty: bool, heard: &Heard) {
    let recipients = recipients(options);
    assert_eq!(heard.outcomes.len(), recipients);
    // Greeting, hello, one AUTH at least where it is wanted, MAIL and every RCPT.
    let before = 3 + usize::from(options & 4 != 0) + recipients;
    let go = replies
        .iter()
        .skip(before)
        .position(|reply| reply.code == 354);
    let finals = go.map_or(&[][..], |at| &replies[before + at + 1..]);
    let positive: Vec<Reply> = finals
        .iter()
        .filter(|reply| reply.is_positive())
        .map(|reply| Reply::from(reply.clone()))
        .collect();
    let mut accepted = 0;
    for outcome in &heard.outcomes {
        match outcome {
            Ok(taken) => {
                accepted += 1;
                let words = taken.reply.as_ref().expect("the next hop's words");
                assert!(positive.contains(words), "nobody said {words}");
                assert!(!taken.repeated);
            }
            Err(error) => {
                assert!((400..600).contains(&error.reply.code), "{error}");
                assert!(!(error.ambiguous && heard.in_step), "{error}");
                let said = replies.iter().any(|reply| reply.code == error.reply.code);
                assert!(
                    error.is_temporary() || said || error.reply.code >= 550,
                    "{error}"
                );
            }
        }
    }
    let whole = wire_data(&[MAIL]).expect("clean");
    if accepted > 0 {
        assert!(heard.sent.windows(whole.len()).any(|part| part == whole));
        let lmtp = hop(options).protocol == Protocol::Lmtp;
        assert!(positive.len() >= if lmtp { accepted } else { 1 });
    }
    if heard.in_step {
        assert!(!faulty, "a connection that talks garbage is used again");
    }
    let ends = heard
        .sent
        .windows(5)
        .filter(|part| part == b"\r\n.\r\n")
        .count();
    assert!(ends <= 1);
    for line in in_the_clear(&heard.sent).split_inclusive(|&octet| octet == b'\n') {
        assert!(line.ends_with(b"\r\n") && !line[..line.len() - 2].contains(&b'\r'));
    }
}

/// What was said before the handshake that a positive reply to `STARTTLS` begins.
fn in_the_clear(sent: &[u8]) -> &[u8] {
    const COMMAND: &[u8] = b"STARTTLS\r\n";
    const CLIENT_HELLO: u8 = 22;
    let command = sent.windows(COMMAND.len()).position(|part| part == COMMAND);
    let behind = command.map_or(sent.len(), |at| at + COMMAND.len());
    match sent.get(behind) {
        Some(&CLIENT_HELLO) => &sent[..behind],
        _ => sent,
    }
}

fn recipients(options: u8) -> usize {
    usize::from(options >> 6) + 1
}

fn hop(options: u8) -> HopSettings {
    let auth = |mechanism| Auth {
        mechanism,
        username: "u".to_owned(),
        password: "p".to_owned(),
    };
    HopSettings {
        protocol: if options & 1 == 0 {
            Protocol::Lmtp
        } else {
            Protocol::Smtp
        },
        endpoint: Endpoint::Unix("unused".into()),
        hostname: "mx.example".to_owned(),
        // What the handshake itself is made of is not ours.
        tls: if options & 2 == 0 {
            Tls::None
        } else {
            Tls::Opportunistic
        },
        auth: (options & 4 != 0).then(|| {
            auth(if options & 8 == 0 {
                Mechanism::Plain
            } else {
                Mechanism::Login
            })
        }),
        timeout: Duration::from_secs(60),
        max_connections: 1,
    }
}

fn delivery(options: u8) -> Delivery {
    let recipient = Recipient {
        address: ADDRESS.clone(),
        mailbox: ADDRESS.clone(),
        maybe_there: false,
        key: "0".repeat(32),
    };
    Delivery {
        sender: if options & 16 == 0 {
            ReversePath::Null
        } else {
            ReversePath::Address(ADDRESS.clone())
        },
        recipients: vec![recipient; recipients(options)],
        content: Content::new(Vec::new(), MAIL, MAIL.len()),
        smtputf8: options & 32 != 0,
        eight_bit: options & 32 != 0,
        deadline: None,
        under_way: None,
    }
}
