//! The mail that we write ourselves: receipt notice, auto-reply, virus report; the quarantine notice
//! is [`super::notice`].
//!
//! Pure: date and Message-ID are arguments. The output is ASCII with CRLF; header lines have at
//! most 76 octets (an address or a Message-ID that is longer is never cut), body lines 76, lines
//! of a quoted header block 998; a mail that is enclosed stays as it is. Every value out of a mail is cleaned: no control or bidi
//! character, one line, 256 code points. None can add a field, and text of a mail stands in no
//! header field but the Subject (RELIABILITY S8).

mod infection;

use super::Address;
use super::letter::{self, Fields, clean};

pub use super::letter::Report;
pub use infection::{Infection, Kept, Rest, virus_report};

/// Language of the mail that we write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    /// Japanese.
    #[default]
    Ja,
    /// English.
    En,
}

/// An address with its display name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// Display name, decoded; empty = none.
    pub name: String,
    /// The address.
    pub address: Address,
}

/// What each of our mails has.
#[derive(Debug, Clone)]
pub struct Letter<'a> {
    /// Whose language.
    pub language: Language,
    /// `From:`. For an auto-reply the mailbox itself, else `relay.from`.
    pub from: Mailbox,
    /// `To:`, the one recipient.
    pub to: &'a Address,
    /// `Reply-To:` (`relay.reply_to`).
    pub reply_to: Option<&'a Address>,
    /// The mailbox that it is about: `owner-email` of notices.
    pub mailbox: &'a Address,
    /// RFC 5322 date-time.
    pub date: &'a str,
    /// `Message-ID` with its angle brackets.
    pub message_id: &'a str,
    /// `relay.signature` of the language, appended to the text; empty = none.
    pub signature: &'a str,
}

/// The mail that a letter is about.
#[derive(Debug, Clone, Default)]
pub struct Original {
    /// The header From decoded for a person.
    pub from: String,
    /// The Subject decoded.
    pub subject: String,
    /// Octets as received.
    pub size: u64,
    /// Has an attachment.
    pub attachment: bool,
    /// When it came, as a person reads it.
    pub received_at: String,
    /// `Message-ID` with its angle brackets, if well-formed.
    pub message_id: Option<String>,
    /// The raw value of `References` (or `In-Reply-To`); empty = none.
    pub references: String,
}

/// A fact that a receipt notice tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// The header From.
    From,
    /// The mailbox.
    To,
    /// The Subject.
    Subject,
    /// Attachment yes or no.
    Attachment,
    /// The size.
    Size,
}

/// The notice of stage 8: `facts` of the mail, in that order (RFC 5436, RELIABILITY 4c).
pub fn receipt_notice(letter: &Letter<'_>, facts: &[Fact], original: &Original) -> Vec<u8> {
    let words = Words::of(letter.language);
    let mailbox = clean(&letter.mailbox.to_string());
    let (subject, mut text) = match letter.language {
        Language::Ja => (
            "メール受信のお知らせ",
            format!("{mailbox} 宛てにメールが届きました。\n\n"),
        ),
        Language::En => (
            "You have new mail",
            format!("A mail for {mailbox} has arrived.\n\n"),
        ),
    };
    for fact in facts {
        let (label, value) = match fact {
            Fact::From => (words.from, words.or_none(&original.from)),
            Fact::To => (words.to, mailbox.clone()),
            Fact::Subject => (words.subject, words.or_none(&original.subject)),
            Fact::Attachment => (words.attachment, words.yes_no(original.attachment)),
            Fact::Size => (words.size, words.octets(original.size)),
        };
        text.push_str(&format!("{label}: {value}\n"));
    }
    let mut fields = begin(letter, subject);
    fields.ascii("Auto-Submitted", &auto_notified(letter.mailbox));
    fields.finish_text(&signed(text, letter.signature))
}

/// The reply of stage 9 (RFC 3834, 5230; RELIABILITY 4b). `subject` may hold `%{subject}`; empty
/// = `Auto: ` and the original's. `message` is the owner's text.
pub fn auto_reply(
    letter: &Letter<'_>,
    subject: &str,
    message: &str,
    original: &Original,
) -> Vec<u8> {
    let template = match clean(subject) {
        empty if empty.is_empty() => "Auto: %{subject}".to_owned(),
        template => template,
    };
    let subject = template.replace("%{subject}", &clean(&original.subject));
    let mut fields = begin(letter, &subject);
    if let Some(id) = original.message_id.as_deref().and_then(letter::message_id) {
        fields.ascii("In-Reply-To", id);
        let references = letter::references(&original.references, id);
        fields.folded("References", &references);
    }
    fields.ascii("Auto-Submitted", "auto-replied (vacation)");
    fields.finish_text(&signed(message.to_owned(), letter.signature))
}

/// The fields that all our mails share.
pub(super) fn begin(letter: &Letter<'_>, subject: &str) -> Fields {
    let mut fields = Fields::new();
    fields.mailbox("From", &letter.from.name, &letter.from.address);
    fields.mailbox("To", "", letter.to);
    if let Some(reply_to) = letter.reply_to {
        fields.mailbox("Reply-To", "", reply_to);
    }
    fields.text("Subject", subject);
    fields.ascii("Date", letter.date);
    fields.ascii("Message-ID", letter.message_id);
    fields.ascii("Precedence", "bulk");
    fields.ascii("X-Auto-Response-Suppress", "All");
    fields
}

/// RFC 5436 2.7.1: whom to ask about notices that nobody wants.
pub(super) fn auto_notified(mailbox: &Address) -> String {
    let owner = letter::ascii_address(mailbox).unwrap_or_default();
    let owner = owner.replace('\\', "\\\\").replace('"', "\\\"");
    format!("auto-notified;\r\n owner-email=\"{owner}\"")
}

pub(super) fn signed(mut text: String, signature: &str) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if !signature.is_empty() {
        text.push('\n');
        text.push_str(signature);
    }
    text
}

/// The labels of one language.
pub(super) struct Words {
    pub(super) from: &'static str,
    to: &'static str,
    pub(super) subject: &'static str,
    attachment: &'static str,
    pub(super) size: &'static str,
    virus: &'static str,
    file: &'static str,
    part: &'static str,
    pub(super) received_at: &'static str,
    none: &'static str,
    yes: &'static str,
    no: &'static str,
    octets: &'static str,
}

impl Words {
    pub(super) fn of(language: Language) -> &'static Self {
        match language {
            Language::Ja => &JA,
            Language::En => &EN,
        }
    }

    pub(super) fn or_none(&self, value: &str) -> String {
        match clean(value) {
            empty if empty.is_empty() => self.none.to_owned(),
            cleaned => cleaned,
        }
    }

    fn yes_no(&self, yes: bool) -> String {
        if yes { self.yes } else { self.no }.to_owned()
    }

    pub(super) fn octets(&self, size: u64) -> String {
        let digits = size.to_string();
        let mut grouped = String::new();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        format!("{grouped} {}", self.octets)
    }
}

const JA: Words = Words {
    from: "差出人",
    to: "宛先",
    subject: "件名",
    attachment: "添付ファイル",
    size: "サイズ",
    virus: "ウイルス名",
    file: "ファイル名",
    part: "部分",
    received_at: "受信日時",
    none: "(なし)",
    yes: "あり",
    no: "なし",
    octets: "バイト",
};

const EN: Words = Words {
    from: "From",
    to: "To",
    subject: "Subject",
    attachment: "Attachment",
    size: "Size",
    virus: "Virus",
    file: "File",
    part: "Part",
    received_at: "Received",
    none: "(none)",
    yes: "yes",
    no: "no",
    octets: "bytes",
};
