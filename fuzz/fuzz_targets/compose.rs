//! Any texts in the letters that we write: they have the fields of a letter of plain words and no
//! other, are ASCII in short lines, and can be sent; nothing of a control character is shown.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sekimori::mail::compose::{
    Fact, Infection, Kept, Language, Letter, Mailbox, Original, Rest, auto_reply, receipt_notice,
    virus_report,
};
use sekimori::mail::notice::{self, Count, Daily, HeldAs, HeldEntry, Reason};
use sekimori::mail::{Address, Bounds, Infected, Message};
use sekimori::smtp::wire_data;
use sekimori_fuzz::{texts, within};

const FACTS: [Fact; 5] = [
    Fact::From,
    Fact::To,
    Fact::Subject,
    Fact::Attachment,
    Fact::Size,
];

const ENCLOSED: &[&[u8]] = &[b"A: b\r\n\r\n", b"text\r\n"];

static PLAIN: LazyLock<Address> = LazyLock::new(|| Address::parse("a@b.example").expect("plain"));

/// What fills a letter, in the order in which an input gives it.
struct Filling {
    from_name: String,
    from: Address,
    to: Address,
    reply_to: Option<Address>,
    mailbox: Address,
    signature: String,
    subject: String,
    message: String,
    original: Original,
    virus: String,
    header_block: Vec<u8>,
}

fuzz_target!(|input: &[u8]| {
    let Some((&options, input)) = input.split_first() else {
        return;
    };
    within((24 << 20) + 64 * input.len(), || {
        let mut texts = texts(input);
        let mut next = || texts.next().unwrap_or_default();
        let filling = Filling {
            from_name: next(),
            from: address(&next()),
            to: address(&next()),
            reply_to: Address::parse(&next()).ok(),
            mailbox: address(&next()),
            signature: next(),
            subject: next(),
            message: next(),
            original: Original {
                from: next(),
                subject: next(),
                size: input.len() as u64,
                attachment: options & 8 != 0,
                received_at: next(),
                message_id: Some(next()).filter(|id| !id.is_empty()),
                references: next(),
            },
            virus: next(),
            header_block: input.to_vec(),
        };
        judge(options, &filling);
    });
});

fn address(text: &str) -> Address {
    Address::parse(text).unwrap_or_else(|_| PLAIN.clone())
}

fn judge(options: u8, filling: &Filling) {
    let mail = write(options, filling);
    let report = kind(options) == 2;
    assert!(mail.is_ascii());
    wire_data(&[&mail]).expect("it can be sent");
    assert!(mail.ends_with(b"\r\n"));
    let message = Message::parse(&mail, &Bounds::default());
    assert_eq!(message.exceeded, None);
    let text = String::from_utf8_lossy(&mail);
    for (at, line) in text.split("\r\n").enumerate() {
        assert!(line.len() <= 998, "line {at}: {line}");
        assert!(
            !line.chars().any(|c| c.is_control() && c != '\t'),
            "line {at}: {line:?}"
        );
    }
    let (head, body) = text.split_at(message.body_start);
    for line in head.split("\r\n") {
        // An address or a Message-ID is never cut.
        let whole = line.contains(['@', '<', '"']);
        assert!(line.len() <= 76 || whole, "{line}");
    }
    assert!(report || body.split("\r\n").all(|line| line.len() <= 76));
    let plain = write(options, &plain(filling));
    let expected = Message::parse(&plain, &Bounds::default());
    assert_eq!(names(&message), names(&expected));
    let subject = message.subject_text();
    assert!(!subject.chars().any(char::is_control), "{subject:?}");
    // 256 and the `…` for each text that is put in; an owner's own words are bounded by the settings.
    let (own, inserted) = match kind(options) {
        1 => (
            filling.subject.chars().count(),
            filling.subject.matches("%{").count(),
        ),
        _ => (0, 0),
    };
    let most = 257 * (inserted + 1) + own;
    assert!(subject.chars().count() <= most, "{subject}");
    let subjects = head.to_ascii_lowercase().matches("\r\nsubject").count();
    assert_eq!(subjects, 1, "lines begin as a Subject");
}

fn names(message: &Message) -> Vec<&str> {
    message
        .header
        .fields()
        .iter()
        .map(|field| field.name.as_str())
        .collect()
}

/// The same letter of plain words.
fn plain(filling: &Filling) -> Filling {
    let original = &filling.original;
    let good = original.message_id.as_deref().is_some_and(|id| {
        let id = id.trim();
        let inner = id.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
        id.len() <= 900
            && inner.is_some_and(|id| {
                !id.is_empty()
                    && id
                        .bytes()
                        .all(|o| o.is_ascii_graphic() && o != b'<' && o != b'>')
            })
    });
    Filling {
        from_name: "name".to_owned(),
        from: PLAIN.clone(),
        to: PLAIN.clone(),
        reply_to: filling.reply_to.as_ref().map(|_| PLAIN.clone()),
        mailbox: PLAIN.clone(),
        signature: "signature".to_owned(),
        subject: "subject".to_owned(),
        message: "message".to_owned(),
        original: Original {
            from: "from".to_owned(),
            subject: "subject".to_owned(),
            received_at: "today".to_owned(),
            message_id: good.then(|| "<id@b.example>".to_owned()),
            references: String::new(),
            ..*original
        },
        virus: "virus".to_owned(),
        header_block: b"A: b\r\n".to_vec(),
    }
}

fn kind(options: u8) -> u8 {
    options & 3
}

fn write(options: u8, filling: &Filling) -> Vec<u8> {
    let letter = Letter {
        language: if options & 4 == 0 {
            Language::Ja
        } else {
            Language::En
        },
        from: Mailbox {
            name: filling.from_name.clone(),
            address: filling.from.clone(),
        },
        to: &filling.to,
        reply_to: filling.reply_to.as_ref(),
        mailbox: &filling.mailbox,
        date: "Sun, 22 Nov 2026 03:46:00 +0900",
        message_id: "<ab12@mx.example.jp>",
        signature: &filling.signature,
    };
    let original = &filling.original;
    match kind(options) {
        0 => receipt_notice(
            &letter,
            &FACTS[..usize::from(options >> 5).min(5)],
            original,
        ),
        1 => auto_reply(&letter, &filling.subject, &filling.message, original),
        2 => {
            let part = Infected {
                path: "2.1".to_owned(),
                name: filling.subject.clone(),
                media_type: filling.message.clone(),
                virus: filling.virus.clone(),
            };
            let rest = match options >> 5 & 3 {
                0 => Rest::Header(&filling.header_block),
                1 => Rest::TooLarge(&filling.header_block),
                2 => Rest::Nothing,
                _ => Rest::Mail(ENCLOSED),
            };
            let infection = Infection {
                virus: &filling.virus,
                parts: &vec![part; usize::from(options >> 7) * 51],
                rest,
                kept: (options & 16 != 0).then_some(Kept { id: "01m8", until: "2026-11-29" }),
            };
            let report = virus_report(&letter, &infection, original);
            let enclosed = match rest {
                Rest::Mail(pieces) => pieces.concat(),
                _ => Vec::new(),
            };
            [report.head, enclosed, report.tail].concat()
        }
        _ => {
            let entry = HeldEntry {
                id: filling.virus.clone(),
                from: original.from.clone(),
                subject: original.subject.clone(),
                received_at: original.received_at.clone(),
                expires_at: filling.subject.clone(),
                expiring: options & 8 != 0,
                size: original.size,
                reason: Reason::SubjectContains(filling.message.clone()),
            };
            if options & 16 == 0 {
                return notice::one_held(&letter, &entry);
            }
            let count = [1, 2, 3, 201][usize::from(options >> 6)];
            let daily = Daily {
                counts: vec![Count {
                    held_as: HeldAs::UserRule,
                    new: count as u64,
                    held: original.size,
                }],
                new: vec![entry.clone(); count],
                expiring: vec![entry],
                expiring_count: 1,
            };
            notice::report(&letter, &daily)
        }
    }
}
