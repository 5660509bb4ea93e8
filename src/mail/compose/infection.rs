//! The report that its owner gets in place of an infected mail.

use super::{Language, Letter, Original, Words, begin, signed};
use crate::mail::Infected;
use crate::mail::letter::{Report, clean};

/// The infected parts that a report lists; the rest is counted.
const LISTED: usize = 50;

/// What was found in a mail, and what of it may be shown.
#[derive(Debug, Clone)]
pub struct Infection<'a> {
    /// What the scanner calls it; empty = it did not say.
    pub virus: &'a str,
    /// The parts in which it, or another, was found; empty = not known.
    pub parts: &'a [Infected],
    /// What may be shown.
    pub rest: Rest<'a>,
    /// Where the original is held; `None` = it is not.
    pub kept: Option<Kept<'a>>,
}

/// An original in quarantine.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    /// The id for `quarantine release`.
    pub id: &'a str,
    /// When it goes, as a person reads it.
    pub until: &'a str,
}

/// What of an infected mail may be shown.
#[derive(Debug, Clone, Copy)]
pub enum Rest<'a> {
    /// The mail without its infected parts: the octets of these pieces, one after the other.
    Mail(&'a [&'a [u8]]),
    /// The header block; the mail without its infected parts is too large to be attached.
    TooLarge(&'a [u8]),
    /// The header block.
    Header(&'a [u8]),
    /// Nothing, nor From and Subject.
    Nothing,
}

/// The report that replaces an infected mail, for its owner only. Of a header block at most 100 KiB
/// are attached. [`Rest::Mail`]'s pieces belong between the report's head and its tail.
pub fn virus_report(letter: &Letter<'_>, infection: &Infection<'_>, original: &Original) -> Report {
    let words = Words::of(letter.language);
    let mailbox = clean(&letter.mailbox.to_string());
    let facts = facts(words, infection, original);
    let parts = parts(letter.language, infection.parts);
    let kept = kept(letter.language, infection.kept);
    let rest = rest(letter.language, infection.rest);
    let (subject, text) = match letter.language {
        Language::Ja => (
            "ウイルス検知のお知らせ",
            format!(
                "{mailbox} 宛てのメールからウイルスが検知されました。\n\
                 そのメールはお届けせず、代わりにこのお知らせをお届けしています。\n\n{facts}{parts}{kept}\n\
                 {rest}\n\
                 差出人は詐称されていることがあります。差出人への連絡はお控えください。\n",
            ),
        ),
        Language::En => (
            "A virus was found in a mail to you",
            format!(
                "A virus was found in a mail for {mailbox}.\n\
                 This report is delivered in place of that mail.\n\n{facts}{parts}{kept}\n\
                 {rest}\n\
                 The sender may be forged: please do not write to it.\n",
            ),
        ),
    };
    let mut fields = begin(letter, subject);
    fields.ascii("Auto-Submitted", "auto-generated");
    let text = signed(text, letter.signature);
    let whole = |head| Report {
        head,
        tail: Vec::new(),
    };
    match infection.rest {
        Rest::Mail(pieces) => fields.finish_with_mail(&text, pieces, letter.message_id),
        Rest::TooLarge(header) | Rest::Header(header) => {
            whole(fields.finish_with_header(&text, header))
        }
        Rest::Nothing => whole(fields.finish_text(&text)),
    }
}

fn facts(words: &Words, infection: &Infection<'_>, original: &Original) -> String {
    let sent = match infection.rest {
        Rest::Nothing => String::new(),
        Rest::Mail(_) | Rest::TooLarge(_) | Rest::Header(_) => format!(
            "{}: {}\n{}: {}\n",
            words.from,
            words.or_none(&original.from),
            words.subject,
            words.or_none(&original.subject),
        ),
    };
    format!(
        "{}: {}\n{sent}{}: {}\n{}: {}\n\n",
        words.virus,
        words.or_none(infection.virus),
        words.received_at,
        words.or_none(&original.received_at),
        words.size,
        words.octets(original.size),
    )
}

fn parts(language: Language, parts: &[Infected]) -> String {
    if parts.is_empty() {
        return String::new();
    }
    let words = Words::of(language);
    let mut text = match language {
        Language::Ja => "ウイルスが見つかった部分:\n\n".to_owned(),
        Language::En => "It was found in:\n\n".to_owned(),
    };
    for (number, part) in parts.iter().take(LISTED).enumerate() {
        text.push_str(&format!(
            "{}. {}: {}\n   {}: {}\n   {}: {}\n\n",
            number + 1,
            words.file,
            words.or_none(&part.name),
            words.virus,
            words.or_none(&part.virus),
            words.part,
            clean(&format!("{} {}", part.path, part.media_type)),
        ));
    }
    let rest = parts.len().saturating_sub(LISTED);
    text.push_str(&match language {
        Language::Ja if rest > 0 => format!("ほか {rest} 件\n\n"),
        Language::En if rest > 0 => format!("and {rest} more\n\n"),
        _ => String::new(),
    });
    text
}

fn kept(language: Language, kept: Option<Kept<'_>>) -> String {
    match (language, kept) {
        (Language::Ja, Some(Kept { id, until })) => format!(
            "元のメールは隔離しています（ID: {id}、保存期限: {until}）。\n\
             必要な場合は、保存期限までに、この ID を添えて管理者へお問い合わせください。"
        ),
        (Language::Ja, None) => "元のメールは削除しました。".to_owned(),
        (Language::En, Some(Kept { id, until })) => format!(
            "The original is held in quarantine until {until} (ID: {id}).\n\
             If you need it, ask your administrator before then and name this ID."
        ),
        (Language::En, None) => "The original was removed.".to_owned(),
    }
}

fn rest(language: Language, rest: Rest<'_>) -> &'static str {
    match (language, rest) {
        (Language::Ja, Rest::Mail(_)) => {
            "ウイルスが見つかった部分を取り除いたメールを、このお知らせに添付しています。"
        }
        (Language::Ja, Rest::TooLarge(_)) => {
            "ウイルスが見つかった部分を取り除いたメールは大きすぎるため、添付できません。\n\
             元のメールのヘッダーだけを、このお知らせに添付しています。"
        }
        (Language::Ja, Rest::Header(_)) => {
            "本文と添付ファイルは安全を確認できないため、元のメールのヘッダーだけを、\n\
             このお知らせに添付しています。"
        }
        (Language::Ja, Rest::Nothing) => {
            "元のメールは、ヘッダーも含めて安全を確認できないため、添付していません。\n\
             差出人と件名も表示していません。"
        }
        (Language::En, Rest::Mail(_)) => "The mail without the infected parts is attached.",
        (Language::En, Rest::TooLarge(_)) => {
            "The mail is too large to be attached, even without the infected parts:\n\
             only the header of the original is."
        }
        (Language::En, Rest::Header(_)) => {
            "Its text and attachments could not be shown to be safe: only the header\n\
             of the original is attached."
        }
        (Language::En, Rest::Nothing) => {
            "Nothing of the original could be shown to be safe, not even its header:\n\
             nothing is attached, and sender and subject are not shown."
        }
    }
}
