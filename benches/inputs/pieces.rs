//! The pieces of work of the pure core.

use std::hint::black_box;
use std::sync::LazyLock;

use super::{lists, mails};
use crate::mail::fold::{fold, fold_address};
use crate::mail::{Address, Bounds, Client, Message, Protocol, ReversePath};
use crate::policy::{
    Arrival, AuthReport, HeaderCondition, HeaderRule, Origin, Plan, Policy, ScanReport, Screening,
    SubstringSet, SuffixSet,
};
use crate::smtp::data::DataReader;
use crate::smtp::{Answer, BareNewline, Event, Limits, Session, SessionSettings, wire_data};

/// One piece of work, done by each call of what `prepare` gives.
pub struct Piece {
    pub name: &'static str,
    pub prepare: fn() -> Box<dyn FnMut()>,
}

/// Every piece; those that share a large list stand together.
pub const PIECES: &[Piece] = &[
    Piece {
        name: "parse/4-KiB",
        prepare: || parse(mails::plain(4 << 10)),
    },
    Piece {
        name: "parse/50-KiB",
        prepare: || parse(mails::plain(50 << 10)),
    },
    Piece {
        name: "parse/2-MiB",
        prepare: || parse(mails::plain(2 << 20)),
    },
    Piece {
        name: "parse/attachments",
        prepare: || parse(mails::with_attachments()),
    },
    Piece {
        name: "decode/subject",
        prepare: decode,
    },
    Piece {
        name: "fold/subject",
        prepare: || work(|| fold(black_box(mails::SUBJECT))),
    },
    Piece {
        name: "fold/odd-subject",
        prepare: || work(|| fold(black_box(mails::ODD_SUBJECT))),
    },
    Piece {
        name: "fold/address",
        prepare: || work(|| fold_address(black_box("Taro.Yamada@xn--wgv71a.Example.JP"))),
    },
    Piece {
        name: "session/smtp",
        prepare: || converse(Protocol::Smtp, 1),
    },
    Piece {
        name: "session/lmtp-50-recipients",
        prepare: || converse(Protocol::Lmtp, 50),
    },
    Piece {
        name: "data/1-MiB",
        prepare: read_data,
    },
    Piece {
        name: "writer/1-MiB",
        prepare: write_data,
    },
    Piece {
        name: "suffix/1000/20-addresses",
        prepare: || suffix(&W1),
    },
    Piece {
        name: "substring/200",
        prepare: || substring(&W1),
    },
    Piece {
        name: "decide/1000+200",
        prepare: || decide(&W1),
    },
    Piece {
        name: "mail/1000+200",
        prepare: || mail(&W1),
    },
    Piece {
        name: "suffix/100000/20-addresses",
        prepare: || suffix(&MIDDLE),
    },
    Piece {
        name: "suffix/1000000/20-addresses",
        prepare: || suffix(&LARGE),
    },
    Piece {
        name: "substring/100000",
        prepare: || substring(&LARGE),
    },
    Piece {
        name: "decide/1000000+100000",
        prepare: || decide(&LARGE),
    },
    Piece {
        name: "mail/1000000+100000",
        prepare: || mail(&LARGE),
    },
];

static W1: LazyLock<Policy> = LazyLock::new(|| policy(1_000, 200));
static MIDDLE: LazyLock<Policy> = LazyLock::new(|| policy(100_000, 0));
static LARGE: LazyLock<Policy> = LazyLock::new(|| policy(1_000_000, 100_000));

/// A mailbox with these rules and the five header rules; all else is off.
pub fn policy(suffixes: u32, substrings: u32) -> Policy {
    let mut policy = Policy::new(address("taro@east.example.jp"));
    policy.from_suffixes = SuffixSet::build(lists::suffixes(suffixes));
    policy.subject_contains = SubstringSet::build(lists::substrings(substrings));
    policy.headers = [
        HeaderCondition::FromMissing,
        HeaderCondition::FromEmpty,
        HeaderCondition::FromEmptyAddress,
        HeaderCondition::SubjectMissing,
        HeaderCondition::SubjectEmpty,
    ]
    .map(|condition| HeaderRule {
        condition,
        origin: Origin {
            file: "taro.yaml".into(),
            line: 1,
        },
    })
    .into();
    policy
}

/// What a recipient's settings say of a mail that nobody scans.
pub fn plan(policy: &Policy, message: &Message) -> Plan {
    let sender = ReversePath::Null;
    let arrival = Arrival {
        now: 1_800_000_000,
        sender: &sender,
        recipient: &policy.mailbox,
        trusted_client: false,
        auth: &AuthReport::default(),
        looping: false,
    };
    match policy.screen(message, &arrival) {
        Screening::Passed(passed) => {
            policy.decide(message, &arrival, passed, &ScanReport::default())
        }
        Screening::Settled(plan) => *plan,
    }
}

fn work<T>(mut work: impl FnMut() -> T + 'static) -> Box<dyn FnMut()> {
    Box::new(move || drop(black_box(work())))
}

fn address(text: &str) -> Address {
    Address::parse(text).expect("an address")
}

fn parse(raw: Vec<u8>) -> Box<dyn FnMut()> {
    work(move || Message::parse(black_box(&raw), &Bounds::default()))
}

fn decode() -> Box<dyn FnMut()> {
    let message = Message::parse(&mails::plain(0), &Bounds::default());
    let subject = message.header.first("Subject").expect("a Subject").clone();
    work(move || black_box(&subject).text())
}

fn suffix(policy: &'static Policy) -> Box<dyn FnMut()> {
    // Several: the hash's base is drawn anew in each run, and a single look-up varies with it.
    let addresses = [
        "s-4711",
        "info",
        "no-reply",
        "taro.yamada",
        "bounce+4711=taro",
    ]
    .map(|local| {
        [
            "mail.sender.example",
            "shop.co.jp",
            "a.biz",
            "news.example.com",
        ]
        .map(|domain| fold_address(&format!("{local}@{domain}")))
    });
    work(move || {
        let addresses = black_box(&addresses).iter().flatten();
        addresses
            .filter(|address| policy.from_suffixes.find(address).is_some())
            .count()
    })
}

fn substring(policy: &'static Policy) -> Box<dyn FnMut()> {
    let subject = fold(mails::SUBJECT);
    work(move || policy.subject_contains.find(black_box(&subject)))
}

fn decide(policy: &'static Policy) -> Box<dyn FnMut()> {
    let message = Message::parse(&mails::plain(4 << 10), &Bounds::default());
    work(move || plan(policy, black_box(&message)))
}

/// All that the pure core does with one mail: read it off the wire, parse, decide, answer.
fn mail(policy: &'static Policy) -> Box<dyn FnMut()> {
    let wire = conversation(Protocol::Lmtp, 1);
    work(move || {
        talk(Protocol::Lmtp, black_box(&wire), |raw| {
            plan(policy, &Message::parse(raw, &Bounds::default()));
        })
    })
}

fn converse(protocol: Protocol, recipients: usize) -> Box<dyn FnMut()> {
    let wire = conversation(protocol, recipients);
    work(move || talk(protocol, black_box(&wire), |_| {}))
}

/// What a client sends, a piece for each time that it waits: pipelined (RFC 2920).
fn conversation(protocol: Protocol, recipients: usize) -> Vec<Vec<u8>> {
    let hello = match protocol {
        Protocol::Lmtp => "LHLO relay.example\r\n",
        Protocol::Smtp => "EHLO relay.example\r\n",
    };
    let mut envelope =
        "MAIL FROM:<s-4711@mail.sender.example> BODY=8BITMIME SIZE=4196\r\n".to_owned();
    for number in 0..recipients {
        envelope.push_str(&format!("RCPT TO:<taro{number}@east.example.jp>\r\n"));
    }
    envelope.push_str("DATA\r\n");
    let data = wire_data(&[&mails::plain(4 << 10)]).expect("CRLF line ends");
    vec![hello.into(), envelope.into(), data, b"QUIT\r\n".into()]
}

/// A session to its end; `take` gets each mail.
fn talk(protocol: Protocol, wire: &[Vec<u8>], take: impl Fn(&[u8])) -> usize {
    let mut session = Session::new(settings(protocol));
    let mut output = session.take_output().len();
    for piece in wire {
        session.feed(piece);
        while let Some(event) = session.next_event() {
            match event {
                Event::Mail { .. } | Event::Recipient(_) => session.accept(),
                Event::Message { envelope, raw } => {
                    take(&raw);
                    for _ in &envelope.recipients {
                        session.answer(Answer::Taken {
                            id: "01J2ZK9V6R8Q3W5X7Y0A1B2C3D".to_owned(),
                            verdict: "deliver",
                            stage: None,
                        });
                    }
                }
                Event::StartTls => session.tls_is_on(),
                Event::Close => {}
            }
        }
        output += session.take_output().len();
    }
    output
}

fn settings(protocol: Protocol) -> SessionSettings {
    SessionSettings {
        protocol,
        hostname: "mx.east.example.jp".to_owned(),
        default_domain: Some("east.example.jp".to_owned()),
        bare_newline: BareNewline::Reject,
        starttls: false,
        limits: Limits {
            message_size: 50 << 20,
            recipients: 100,
            errors: 10,
        },
        client: Client {
            ip: None,
            helo: String::new(),
            tls: false,
            trusted: true,
            origin_ip: None,
            origin_name: None,
        },
    }
}

fn read_data() -> Box<dyn FnMut()> {
    let wire = wire_data(&[&mails::plain(1 << 20)]).expect("CRLF line ends");
    work(move || {
        let mut reader = DataReader::new(BareNewline::Reject, 50 << 20);
        for piece in black_box(&wire).chunks(16 << 10) {
            reader.feed(piece);
        }
        assert!(reader.is_done());
        reader.finish()
    })
}

fn write_data() -> Box<dyn FnMut()> {
    let raw = mails::plain(1 << 20);
    work(move || wire_data(&[black_box(&raw)]))
}
