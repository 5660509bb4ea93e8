//! One session on any octets: no panic, whatever is stored can be sent on, every reply is a line
//! of printable text, and cutting the octets in two changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sekimori::mail::{Client, Protocol};
use sekimori::smtp::{
    Answer, BareNewline, Event, Limits, ReplyParser, Session, SessionSettings, wire_data,
};

fuzz_target!(|input: &[u8]| {
    let Some((&options, octets)) = input.split_first() else {
        return;
    };
    let cut = octets.len() / 2;
    let whole = converse(options, &[octets]);
    let halves = converse(options, &[&octets[..cut], &octets[cut..]]);
    assert_eq!(whole, halves);
});

fn converse(options: u8, pieces: &[&[u8]]) -> (Vec<u8>, Vec<Event>) {
    let mut session = session(options);
    let mut output = Vec::new();
    let mut events = Vec::new();
    for piece in pieces {
        session.feed(piece);
        while let Some(event) = session.next_event() {
            if let Event::Message { raw, .. } = &event {
                assert!(wire_data(&[raw]).is_ok(), "a CR or LF stands alone in what is stored");
                while session.unanswered() > 0 {
                    session.answer(Answer::Taken {
                        id: "Q".to_owned(),
                        verdict: "deliver",
                        stage: None,
                    });
                }
            }
            session.accept();
            events.push(event);
        }
        output.extend(session.take_output());
    }
    let mut replies = ReplyParser::new();
    for line in output.split_inclusive(|&octet| octet == b'\n') {
        replies.feed(line);
        while replies.next_reply().expect("a strict reply").is_some() {}
    }
    assert!(replies.is_at_rest());
    (output, events)
}

fn session(options: u8) -> Session {
    let flag = |bit: u8| options & (1 << bit) != 0;
    Session::new(SessionSettings {
        protocol: if flag(0) { Protocol::Smtp } else { Protocol::Lmtp },
        hostname: "mx.example.jp".to_owned(),
        default_domain: flag(1).then(|| "example.jp".to_owned()),
        bare_newline: if flag(2) { BareNewline::Reject } else { BareNewline::Normalize },
        limits: Limits {
            message_size: 4096,
            recipients: 4,
            errors: 20,
        },
        client: Client {
            ip: None,
            helo: String::new(),
            trusted: flag(3),
            origin_ip: None,
            origin_name: None,
        },
    })
}
