//! The mail that we write ourselves: receipt notice, auto-reply, virus report, quarantine notice.
//!
//! Pure: date and Message-ID are arguments. Output is ASCII with CRLF, lines of at most 76
//! octets (978 in a quoted header block); nothing quoted from a mail can add a field, and text
//! of a mail stands in no header field but the Subject (RELIABILITY S8).

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
    pub address: super::Address,
}

/// What each of our mails has.
#[derive(Debug, Clone)]
pub struct Letter<'a> {
    /// Whose language.
    pub language: Language,
    /// `From:`. For an auto-reply the mailbox itself, else `relay.from`.
    pub from: Mailbox,
    /// `To:`, the one recipient.
    pub to: &'a super::Address,
    /// `Reply-To:` (`relay.reply_to`).
    pub reply_to: Option<&'a super::Address>,
    /// The mailbox that it is about: `owner-email` of notices.
    pub mailbox: &'a super::Address,
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

/// The notice of stage 8: `facts` of the mail, in that order (RFC 5436, RELIABILITY 4c).
pub fn receipt_notice(_letter: &Letter<'_>, _facts: &[Fact], _original: &Original) -> Vec<u8> {
    Vec::new()
}

/// The reply of stage 9 (RFC 3834, 5230; RELIABILITY 4b). `subject` may hold `%{subject}`; empty
/// = `Auto: ` and the original's. `message` is the owner's text.
pub fn auto_reply(
    _letter: &Letter<'_>,
    _subject: &str,
    _message: &str,
    _original: &Original,
) -> Vec<u8> {
    Vec::new()
}

/// The report that replaces an infected mail; `header_block` is the original's header, raw.
/// `kept` = the original is held in quarantine.
pub fn virus_report(
    _letter: &Letter<'_>,
    _virus: &str,
    _original: &Original,
    _header_block: &[u8],
    _kept: bool,
) -> Vec<u8> {
    Vec::new()
}

/// The notice of held mail: one entry (`notice: each`) or a day's (`notice: daily`).
pub fn quarantine_notice(_letter: &Letter<'_>, _entries: &[HeldEntry], _daily: bool) -> Vec<u8> {
    Vec::new()
}
