//! The sample mails and what must become of each.

/// A mail and its expected end for each recipient.
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) sender: &'static str,
    pub(super) message: &'static str,
    pub(super) expected: &'static [(&'static str, &'static str, &'static str, &'static [Place])],
}

/// Where something of a mail must lie afterwards.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// The original, in the recipient's Maildir.
    Mailbox,
    /// The same, its Subject marked.
    Marked,
    /// The original, held.
    Quarantine,
    /// The virus report, in the recipient's Maildir.
    Report,
    /// The notice of a held mail, in the recipient's Maildir.
    HeldNotice,
    /// The original, at the relay for this address.
    Forward(&'static str),
    /// A receipt notice, at the relay for this address.
    Notice(&'static str),
    /// An auto-reply, at the relay for this address.
    Reply(&'static str),
}

use Place::{Forward, HeldNotice, Mailbox, Marked, Notice, Quarantine, Reply, Report};

pub(super) const SETTINGS: &str = include_str!("sekimori.yaml");

pub(super) const MAILBOXES: [(&str, &str); 3] = [
    ("taro.yaml", include_str!("mailboxes/taro.yaml")),
    ("jiro.yaml", include_str!("mailboxes/jiro.yaml")),
    ("hanako.yaml", include_str!("mailboxes/hanako.yaml")),
];

const TARO: &str = "taro@east.example.jp";
const JIRO: &str = "jiro@east.example.jp";
const HANAKO: &str = "hanako@east.example.jp";
const MOBILE: Place = Notice("taro.mobile@carrier.example");

macro_rules! sample {
    ($name:literal, $sender:literal, $expected:expr) => {
        Sample {
            name: $name,
            sender: $sender,
            message: include_str!(concat!("mails/", $name, ".eml")),
            expected: &$expected,
        }
    };
}

/// In this order; the daemon has handled one before it gets the next.
pub(super) const SAMPLES: &[Sample] = &[
    sample!(
        "01-greeting-ja",
        "hanako.y@friend.example",
        [(TARO, "deliver", "", &[Mailbox, MOBILE])]
    ),
    sample!(
        "02-greeting-en",
        "alice@friend.example",
        [(TARO, "deliver", "", &[Mailbox, MOBILE])]
    ),
    sample!(
        "03-from-suffix",
        "news@mailer.bulk.example",
        [(TARO, "quarantine", "reject.from_suffixes", &[Quarantine])]
    ),
    sample!(
        "04-unsolicited-ad",
        "shop@ad.example",
        [(TARO, "quarantine", "reject.subject_contains", &[Quarantine])]
    ),
    sample!(
        "05-half-width-kana",
        "info@kana.example",
        [(TARO, "quarantine", "reject.subject_contains", &[Quarantine])]
    ),
    sample!(
        "06-full-width-latin",
        "info@latin.example",
        [(TARO, "quarantine", "reject.subject_contains", &[Quarantine])]
    ),
    sample!(
        "07-from-missing",
        "x@nofrom.example",
        [(TARO, "quarantine", "reject.headers", &[Quarantine])]
    ),
    sample!(
        "08-from-empty-address",
        "x@nofrom.example",
        [(TARO, "quarantine", "reject.headers", &[Quarantine])]
    ),
    sample!(
        "09-subject-missing",
        "robot@nosubject.example",
        [(TARO, "quarantine", "reject.headers", &[Quarantine])]
    ),
    sample!(
        "10-spam-held",
        "win@lottery.example",
        [(TARO, "quarantine", "spam", &[Quarantine, HeldNotice])]
    ),
    sample!(
        "11-spam-allowed",
        "partner@partner.example",
        [(TARO, "deliver", "", &[Mailbox, MOBILE])]
    ),
    sample!(
        "12-spam-marked",
        "win@lottery.example",
        [(JIRO, "deliver", "", &[Marked])]
    ),
    sample!(
        "13-virus",
        "courier@parcel.example",
        [(TARO, "replace", "virus", &[Quarantine, Report, MOBILE])]
    ),
    sample!(
        "14-invoice",
        "billing@supplier.example",
        [(
            TARO,
            "deliver",
            "",
            &[Mailbox, Forward("keiri@accounting.example"), MOBILE]
        )]
    ),
    sample!(
        "15-forward-all",
        "bob@friend.example",
        [(
            HANAKO,
            "forward",
            "",
            &[Forward("hanako@elsewhere.example")]
        )]
    ),
    sample!(
        "16-reply-first",
        "suzuki@customer.example",
        [(
            JIRO,
            "deliver",
            "",
            &[Mailbox, Reply("suzuki@customer.example")]
        )]
    ),
    sample!(
        "17-reply-not-twice",
        "suzuki@customer.example",
        [(JIRO, "deliver", "", &[Mailbox])]
    ),
    sample!(
        "18-mailing-list",
        "dev-bounces@lists.example",
        [(JIRO, "deliver", "", &[Mailbox])]
    ),
    sample!(
        "19-announcement",
        "support@announce.example.jp",
        [(TARO, "deliver", "", &[Mailbox, MOBILE])]
    ),
    sample!(
        "20-two-recipients",
        "news@mailer.bulk.example",
        [
            (TARO, "quarantine", "reject.from_suffixes", &[Quarantine]),
            (
                JIRO,
                "deliver",
                "",
                &[Mailbox, Reply("news@mailer.bulk.example")]
            ),
        ]
    ),
];
