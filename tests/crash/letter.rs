//! What is sent: mails that can be told apart wherever they end, each for mailboxes of several kinds.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;

pub(crate) const DOMAIN: &str = "crash.example.jp";
pub(crate) const ELSEWHERE: &str = "else.example";
/// Mailboxes that only keep, and such that answer: several, so that no folder becomes long.
const MANY: u64 = 10;
/// The first octets of every mail; what stands before them was put there on the way.
const START: &[u8] = b"Received: from origin.example";

/// What a mailbox does with its mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Kept, nothing else.
    Keep(u64),
    /// Held in quarantine.
    Held,
    /// Sent on, not kept.
    Forward,
    /// Sent on, kept, and a notice.
    Copy,
    /// Kept and answered.
    Answer(u64),
}

impl Kind {
    pub(crate) fn local(self) -> String {
        match self {
            Self::Keep(number) => format!("keep{number}"),
            Self::Held => "held".to_owned(),
            Self::Forward => "forward".to_owned(),
            Self::Copy => "copy".to_owned(),
            Self::Answer(number) => format!("answer{number}"),
        }
    }

    pub(crate) fn address(self) -> String {
        format!("{}@{DOMAIN}", self.local())
    }

    /// Whether the mailbox gets it at once.
    pub(crate) fn is_kept(self) -> bool {
        matches!(self, Self::Keep(_) | Self::Copy | Self::Answer(_))
    }

    /// Where its original is sent on to.
    pub(crate) fn target(self) -> Option<String> {
        match self {
            Self::Forward | Self::Copy => Some(format!("{}@{ELSEWHERE}", self.local())),
            Self::Keep(_) | Self::Held | Self::Answer(_) => None,
        }
    }
}

/// The mailbox files: local part and settings.
pub(crate) fn mailboxes() -> Vec<(String, String)> {
    let mut files = vec![
        (
            Kind::Held.local(),
            "reject: {subject_contains: [trial]}\n".to_owned(),
        ),
        (
            Kind::Forward.local(),
            format!(
                "forwarding:\n  mode: all\n  all: {{to: [forward@{ELSEWHERE}], keep_copy: false}}\n"
            ),
        ),
        (
            Kind::Copy.local(),
            format!(
                "forwarding:\n  mode: all\n  all: {{to: [copy@{ELSEWHERE}], keep_copy: true}}\n\
                 notify: {{to: [notice@{ELSEWHERE}]}}\n"
            ),
        ),
    ];
    files.extend((0..MANY).map(|number| {
        let settings = "auto_reply: {enabled: true, message: \"away\"}\n";
        (Kind::Answer(number).local(), settings.to_owned())
    }));
    files
}

/// One recipient of a mail, and what the daemon said.
#[derive(Debug, Clone)]
pub(crate) struct Recipient {
    pub(crate) kind: Kind,
    /// Which start of the daemon answered 2xx first.
    pub(crate) taken: Option<u32>,
    /// Its 2xx came after the power was cut.
    pub(crate) late: bool,
}

/// One mail on its way, as in an MTA's queue.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) number: u64,
    /// The trial in which it was made.
    pub(crate) trial: usize,
    pub(crate) recipients: Vec<Recipient>,
    pub(crate) raw: Vec<u8>,
}

impl Letter {
    pub(crate) fn new(number: u64, trial: usize, rng: &mut Rng) -> Self {
        let keep = Kind::Keep(rng.below(MANY));
        let answer = Kind::Answer(rng.below(MANY));
        let kinds = match rng.below(20) {
            0..6 => vec![keep],
            6..10 => vec![Kind::Held],
            10..13 => vec![Kind::Forward],
            13..15 => vec![Kind::Copy],
            15..17 => vec![answer],
            _ => vec![keep, Kind::Held, Kind::Forward, Kind::Copy, answer],
        };
        let to: Vec<String> = kinds.iter().map(|kind| kind.address()).collect();
        let text = format!(
            "{} by mta.example.net with ESMTP id A{number}; Sun, 22 Nov 2026 09:00:00 +0900\n\
             From: a@friend.example\nTo: {}\nSubject: trial kq-{number}-z\n\
             Message-ID: <{number}@friend.example>\n\nHello.\n.\n..{number}\n{}",
            String::from_utf8_lossy(START),
            to.join(", "),
            "Line after line.\n".repeat(usize::try_from(rng.below(40)).unwrap()),
        );
        let recipients = kinds.into_iter().map(|kind| Recipient {
            kind,
            taken: None,
            late: false,
        });
        Self {
            number,
            trial,
            recipients: recipients.collect(),
            raw: text.replace('\n', "\r\n").into_bytes(),
        }
    }

    pub(crate) fn sender(&self) -> String {
        format!("kq-{}-z@friend.example", self.number)
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.recipients
            .iter()
            .all(|recipient| recipient.taken.is_some())
    }

    pub(crate) fn digest(&self) -> u64 {
        digest(&self.raw)
    }
}

/// The number of the mail that `text` is, tells of or answers. No id looks like it, those have no hyphen.
pub(crate) fn number_in(text: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(text);
    text.split("kq-").skip(1).find_map(|after| {
        let (digits, _) = after.split_once("-z")?;
        digits.parse().ok()
    })
}

/// A hash of the original in `octets`; line ends may be LF or CRLF.
pub(crate) fn digest(octets: &[u8]) -> u64 {
    let start = octets
        .windows(START.len())
        .position(|window| window == START);
    let mut hasher = DefaultHasher::new();
    for line in octets[start.unwrap_or(0)..].split(|&octet| octet == b'\n') {
        hasher.write(line.strip_suffix(b"\r").unwrap_or(line));
        hasher.write_u8(b'\n');
    }
    hasher.finish()
}

/// Numbers that are the same again for the same seed (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True one time in `times`.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
