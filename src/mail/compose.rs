//! The mail that we write ourselves: receipt notice, auto-reply, virus report, quarantine notice.
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
pub use infection::{Infection, Rest, virus_report};

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

/// One line of a quarantine notice.
#[derive(Debug, Clone)]
pub struct HeldEntry {
    /// The id for `quarantine release`.
    pub id: String,
    /// The header From decoded.
    pub from: String,
    /// The Subject decoded.
    pub subject: String,
    /// When it came, as a person reads it.
    pub received_at: String,
    /// When it goes, as a person reads it.
    pub expires_at: String,
    /// Octets.
    pub size: u64,
}

/// The entries that a quarantine notice lists; the rest is counted.
const LISTED: usize = 200;

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

/// The notice of held mail: one entry (`notice: each`) or a day's (`notice: daily`). At most 200
/// entries are listed, the rest is counted.
pub fn quarantine_notice(letter: &Letter<'_>, entries: &[HeldEntry], daily: bool) -> Vec<u8> {
    let words = Words::of(letter.language);
    let mailbox = clean(&letter.mailbox.to_string());
    let count = entries.len();
    let (subject, mut text) = match letter.language {
        Language::Ja => (
            if daily {
                format!("隔離レポート: {count} 通")
            } else {
                "メール隔離のお知らせ".to_owned()
            },
            format!("{mailbox} 宛ての次のメール {count} 通を隔離しました。\n\n"),
        ),
        Language::En => (
            if daily {
                format!("Quarantine report: {count} held")
            } else {
                "A mail to you is held in quarantine".to_owned()
            },
            format!("Held in quarantine for {mailbox}: {count}\n\n"),
        ),
    };
    for (number, entry) in entries.iter().take(LISTED).enumerate() {
        text.push_str(&words.entry(number + 1, entry));
    }
    let rest = count.saturating_sub(LISTED);
    text.push_str(&match letter.language {
        Language::Ja if rest > 0 => format!("ほか {rest} 通\n\n"),
        Language::En if rest > 0 => format!("and {rest} more\n\n"),
        _ => String::new(),
    });
    text.push_str(words.how_to_release);
    let mut fields = begin(letter, &subject);
    let auto_submitted = if daily {
        "auto-generated".to_owned()
    } else {
        auto_notified(letter.mailbox)
    };
    fields.ascii("Auto-Submitted", &auto_submitted);
    fields.finish_text(&signed(text, letter.signature))
}

/// The fields that all our mails share.
fn begin(letter: &Letter<'_>, subject: &str) -> Fields {
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
fn auto_notified(mailbox: &Address) -> String {
    let owner = letter::ascii_address(mailbox).unwrap_or_default();
    let owner = owner.replace('\\', "\\\\").replace('"', "\\\"");
    format!("auto-notified;\r\n owner-email=\"{owner}\"")
}

fn signed(mut text: String, signature: &str) -> String {
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
struct Words {
    from: &'static str,
    to: &'static str,
    subject: &'static str,
    attachment: &'static str,
    size: &'static str,
    virus: &'static str,
    file: &'static str,
    part: &'static str,
    received_at: &'static str,
    expires_at: &'static str,
    none: &'static str,
    yes: &'static str,
    no: &'static str,
    octets: &'static str,
    how_to_release: &'static str,
}

impl Words {
    fn of(language: Language) -> &'static Self {
        match language {
            Language::Ja => &JA,
            Language::En => &EN,
        }
    }

    fn or_none(&self, value: &str) -> String {
        match clean(value) {
            empty if empty.is_empty() => self.none.to_owned(),
            cleaned => cleaned,
        }
    }

    fn yes_no(&self, yes: bool) -> String {
        if yes { self.yes } else { self.no }.to_owned()
    }

    fn octets(&self, size: u64) -> String {
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

    fn entry(&self, number: usize, entry: &HeldEntry) -> String {
        format!(
            "{number}. {}: {}\n   {}: {}\n   {}: {}\n   {}: {}\n   {}: {}\n   ID: {}\n\n",
            self.subject,
            self.or_none(&entry.subject),
            self.from,
            self.or_none(&entry.from),
            self.received_at,
            self.or_none(&entry.received_at),
            self.expires_at,
            self.or_none(&entry.expires_at),
            self.size,
            self.octets(entry.size),
            clean(&entry.id),
        )
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
    expires_at: "保存期限",
    none: "(なし)",
    yes: "あり",
    no: "なし",
    octets: "バイト",
    how_to_release: "隔離したメールは、保存期限を過ぎると自動的に削除されます。\n\
                     必要なメールは、保存期限までに「再配送」するとメールボックスに届きます。\n\
                     今後も受け取りたい差出人は「受信許可」に登録してください。\n",
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
    expires_at: "Held until",
    none: "(none)",
    yes: "yes",
    no: "no",
    octets: "bytes",
    how_to_release: "Held mail is deleted when its time is over.\n\
                     Until then you can release it to your mailbox, and allow its sender\n\
                     if you want more of the kind.\n",
};
