//! One session on any octets: no panic, bounded memory, a 2yz reply to data only for what was
//! answered as taken, whatever is stored can be sent on, every reply is a line of printable text,
//! nothing that came in the clear counts inside TLS, and neither cutting the octets nor taking the
//! data on the way changes anything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sekimori::mail::{Client, Protocol};
use sekimori::smtp::data::DataReader;
use sekimori::smtp::{
    Answer, BareNewline, DataFault, Event, Limits, Reply, ReplyParser, Session, SessionSettings,
    wire_data,
};
use sekimori_fuzz::within;

const LIMITS: Limits = Limits {
    message_size: 4096,
    recipients: 4,
    errors: 20,
};
/// The option that offers it.
const STARTTLS: u8 = 32;

/// What the caller does with the data of a mail while it comes in.
#[derive(Clone, Copy, PartialEq)]
enum Keep {
    Not,
    Take,
    Abandon,
}

fuzz_target!(|input: &[u8]| {
    let Some((&options, octets)) = input.split_first() else {
        return;
    };
    let cut = octets.len() / 2;
    let halves = [&octets[..cut], &octets[cut..]];
    let most = (1 << 20) + 64 * octets.len();
    let whole = within(most, || converse(options, &[octets], Keep::Not));
    same(&whole, &converse(options, &halves, Keep::Not));
    same(&whole, &converse(options, &halves, Keep::Take));
    if (1..=1024).contains(&octets.len()) {
        let single: Vec<&[u8]> = octets.chunks(1).collect();
        same(&whole, &converse(options, &single, Keep::Not));
        same(&whole, &converse(options, &single, Keep::Take));
    }
    converse(options, &halves, Keep::Abandon);
});

type Said = (Vec<u8>, Vec<Event>);

/// Where `STARTTLS` ends a piece TLS begins; where more follows in the clear nothing does.
fn same(whole: &Said, other: &Said) {
    if !other.1.contains(&Event::StartTls) {
        assert_eq!(whole, other);
    }
}

fn converse(options: u8, pieces: &[&[u8]], keep: Keep) -> Said {
    let mut session = session(options);
    let refuses = options & 16 != 0;
    let mut output = Vec::new();
    let mut events = Vec::new();
    let mut recipients = Vec::new();
    let mut kept = Vec::new();
    let mut taken = 0;
    for piece in pieces {
        session.feed(piece);
        if keep == Keep::Abandon {
            session.abandon_data(DataFault::NotKept);
        }
        while let Some(mut event) = session.next_event() {
            assert!(
                !matches!(events.last(), Some(Event::Close)),
                "an event behind the last"
            );
            let refuse = refuses && events.len() % 3 == 1;
            match &mut event {
                Event::Mail { declared_size, .. } => {
                    assert!(declared_size.is_none_or(|size| size <= LIMITS.message_size));
                    recipients.clear();
                    kept.clear();
                }
                Event::Recipient(address) if !refuse => recipients.push(address.clone()),
                Event::Recipient(_) | Event::Close => {}
                Event::StartTls => {
                    assert!(options & STARTTLS != 0 && !events.contains(&Event::StartTls));
                    output.extend(session.take_output());
                    assert!(output.ends_with(b"ready for TLS\r\n"));
                    session.tls_is_on();
                    assert!(session.is_idle(), "something of the clear is left");
                }
                Event::Message { envelope, raw } => {
                    assert_eq!(envelope.recipients, recipients);
                    assert!((1..=LIMITS.recipients).contains(&recipients.len()));
                    assert_eq!(envelope.client.tls, events.contains(&Event::StartTls));
                    *raw = [&kept, raw.as_slice()].concat();
                    check_data(raw);
                    kept.clear();
                    recipients.clear();
                    taken += answer_all(&mut session, options, refuses);
                }
            }
            if refuse {
                session.refuse(Reply::new(450, 2, 0, "not now"));
            }
            session.accept();
            events.push(event);
        }
        if keep == Keep::Take
            && let Some(octets) = session.take_data()
        {
            kept.extend(octets);
            assert_eq!(session.held_data().unwrap_or_default(), 0);
        }
        assert!(session.held_data().unwrap_or_default() <= LIMITS.message_size as usize);
        output.extend(session.take_output());
    }
    check_replies(&output, taken, events.last() == Some(&Event::Close));
    (output, events)
}

/// What is stored within the limit, and sent on and read again is the same.
fn check_data(raw: &[u8]) {
    assert!(raw.len() as u64 <= LIMITS.message_size);
    let wire = wire_data(&[raw]).expect("a CR or LF stands alone in what is stored");
    let mut reader = DataReader::new(BareNewline::Reject, LIMITS.message_size);
    assert_eq!(reader.feed(&wire), wire.len());
    assert!(reader.is_done());
    assert_eq!(reader.finish().as_deref(), Ok(raw));
}

/// How many 2yz replies may follow.
fn answer_all(session: &mut Session, options: u8, refuses: bool) -> usize {
    let mut taken = 0;
    let mut refused = 0;
    while session.unanswered() > 0 {
        if refuses && session.unanswered() == 2 {
            refused += 1;
            // Not even a caller's mistake makes a 2yz of a refusal.
            session.answer(Answer::Refused(Reply::new(250, 0, 0, "q=Z")));
        } else {
            taken += 1;
            session.answer(Answer::Taken {
                id: "Z".to_owned(),
                verdict: "deliver",
                stage: None,
            });
        }
    }
    match (options & 1 != 0, refused) {
        (false, _) => taken,
        (true, 0) => 1,
        (true, _) => 0,
    }
}

/// All replies are well formed; behind a 354 no 2yz comes but the `taken` ones.
fn check_replies(output: &[u8], taken: usize, closed: bool) {
    let mut parser = ReplyParser::new();
    let mut replies = Vec::new();
    for line in output.split_inclusive(|&octet| octet == b'\n') {
        assert!(line.ends_with(b"\r\n") && line.len() <= 512);
        assert!(
            line[..line.len() - 2]
                .iter()
                .all(|octet| (b' '..=b'~').contains(octet))
        );
        parser.feed(line);
        while let Some(reply) = parser.next_reply().expect("a strict reply") {
            replies.push(reply);
        }
    }
    assert!(parser.is_at_rest());
    let tells = |text: &str| text.contains("q=Z verdict=");
    let told = replies
        .iter()
        .filter(|reply| reply.is_positive() && tells(&format!("{reply:?}")));
    assert_eq!(told.count(), taken);
    for pair in replies.windows(2) {
        let [go, next] = pair else { continue };
        if go.code == 354 {
            assert!(
                next.code >= 400 || tells(&format!("{next:?}")),
                "{next:?} answers data"
            );
        }
    }
    if closed {
        assert!(matches!(
            replies.last().map(|last| last.code),
            Some(221 | 421 | 502 | 554)
        ));
    }
}

fn session(options: u8) -> Session {
    let flag = |bit: u8| options & (1 << bit) != 0;
    Session::new(SessionSettings {
        protocol: if flag(0) {
            Protocol::Smtp
        } else {
            Protocol::Lmtp
        },
        hostname: "mx.example.jp".to_owned(),
        default_domain: flag(1).then(|| "example.jp".to_owned()),
        bare_newline: if flag(2) {
            BareNewline::Reject
        } else {
            BareNewline::Normalize
        },
        starttls: options & STARTTLS != 0,
        limits: LIMITS,
        client: Client {
            ip: None,
            helo: String::new(),
            tls: false,
            trusted: flag(3),
            origin_ip: None,
            origin_name: None,
        },
    })
}
