//! The words for persons, in Japanese and English: what the manuals of mailbox owners call things.
//!
//! Every word is a match over both languages, so that a missing translation does not compile.

use clap::ValueEnum;
use clap::builder::PossibleValue;

pub(super) use crate::policy::Language;
use crate::policy::{NoReply, Outcome, Stage, Verdict};
use crate::store::OutgoingKind;

impl ValueEnum for Language {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Ja, Self::En]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Ja => "ja",
            Self::En => "en",
        }))
    }
}

/// `--language`, or that of the locale for messages (POSIX: `LC_ALL`, `LC_MESSAGES`, `LANG`, the
/// first that is not empty): Japanese when it begins with `ja`, else English.
pub(super) fn language(given: Option<Language>) -> Language {
    given.unwrap_or_else(|| {
        let locale = ["LC_ALL", "LC_MESSAGES", "LANG"]
            .iter()
            .filter_map(std::env::var_os)
            .find(|locale| !locale.is_empty());
        match locale {
            Some(locale) if locale.as_encoded_bytes().starts_with(b"ja") => Language::Ja,
            _ => Language::En,
        }
    })
}

/// Whether a decision was carried out (`why`) or is a dry run (`explain`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Would,
    Did,
}

/// What becomes of the mail, a sentence.
pub(super) fn verdict(language: Language, told: Told, verdict: Verdict) -> &'static str {
    use Language::{En, Ja};
    use Told::{Did, Would};
    match (verdict, language, told) {
        (Verdict::Deliver, Ja, Would) => "このメールはメールボックスに届きます。",
        (Verdict::Deliver, Ja, Did) => "このメールはメールボックスに届きました。",
        (Verdict::Deliver, En, Would) => "This mail would be delivered to the mailbox.",
        (Verdict::Deliver, En, Did) => "This mail was delivered to the mailbox.",
        (Verdict::Forward, Ja, Would) => "このメールは転送され、メールボックスには残りません。",
        (Verdict::Forward, Ja, Did) => {
            "このメールは転送扱いとなり、メールボックスには残していません。"
        }
        (Verdict::Forward, En, Would) => "This mail would be forwarded; no copy would be kept.",
        (Verdict::Forward, En, Did) => "This mail was passed on to be forwarded; no copy was kept.",
        (Verdict::Quarantine, Ja, Would) => "このメールは隔離されます。",
        (Verdict::Quarantine, Ja, Did) => "このメールは隔離されました。",
        (Verdict::Quarantine, En, Would) => "This mail would be held in quarantine.",
        (Verdict::Quarantine, En, Did) => "This mail was held in quarantine.",
        (Verdict::Replace, Ja, Would) => {
            "このメールからウイルスが検出されるため、代わりにウイルスの報告が届きます。"
        }
        (Verdict::Replace, Ja, Did) => {
            "このメールからウイルスが検出されたため、代わりにウイルスの報告が届きました。"
        }
        (Verdict::Replace, En, Would) => {
            "A virus is found in this mail: a report would be delivered instead."
        }
        (Verdict::Replace, En, Did) => {
            "A virus was found in this mail: a report was delivered instead."
        }
    }
}

/// The owner's name of a stage.
pub(super) fn stage(language: Language, stage: Stage) -> &'static str {
    use Language::{En, Ja};
    match (stage, language) {
        (Stage::RejectFromSuffixes, Ja) => "From受信拒否",
        (Stage::RejectFromSuffixes, En) => "From reject list",
        (Stage::RejectSubjectContains, Ja) => "Subject受信拒否",
        (Stage::RejectSubjectContains, En) => "Subject reject list",
        (Stage::RejectHeaders, Ja) => "ヘッダー受信拒否",
        (Stage::RejectHeaders, En) => "header reject list",
        (Stage::Allow, Ja) => "受信許可",
        (Stage::Allow, En) => "allow list",
        (Stage::Virus, Ja) => "ウイルススキャン",
        (Stage::Virus, En) => "virus scan",
        (Stage::Spam, Ja) => "迷惑メールスキャン",
        (Stage::Spam, En) => "spam scan",
        (Stage::Forwarding, Ja) => "転送",
        (Stage::Forwarding, En) => "forwarding",
        (Stage::Notify, Ja) => "受信通知",
        (Stage::Notify, En) => "receipt notice",
        (Stage::AutoReply, Ja) => "自動返信",
        (Stage::AutoReply, En) => "auto-reply",
    }
}

/// What a stage found.
pub(super) fn outcome(language: Language, outcome: Outcome) -> &'static str {
    use Language::{En, Ja};
    match (outcome, language) {
        (Outcome::Match, Ja) => "一致",
        (Outcome::Match, En) => "match",
        (Outcome::Pass, Ja) => "一致なし",
        (Outcome::Pass, En) => "pass",
        (Outcome::Off, Ja) => "オフ",
        (Outcome::Off, En) => "off",
        (Outcome::Skipped, Ja) => "省略",
        (Outcome::Skipped, En) => "skipped",
    }
}

/// Why there is no reply, a clause behind "none:".
pub(super) fn no_reply(language: Language, reason: NoReply) -> &'static str {
    use Language::{En, Ja};
    match (reason, language) {
        (NoReply::Off, Ja) => "自動返信がオフです",
        (NoReply::Off, En) => "it is off",
        (NoReply::Quarantined, Ja) => "メールが隔離されるためです",
        (NoReply::Quarantined, En) => "the mail is held",
        (NoReply::Virus, Ja) => "ウイルスが検出されたためです",
        (NoReply::Virus, En) => "a virus is in the mail",
        (NoReply::Spam, Ja) => "迷惑メールと判定されたためです",
        (NoReply::Spam, En) => "the mail is tagged as spam",
        (NoReply::NotStarted, Ja) => "開始日時（start）より前です",
        (NoReply::NotStarted, En) => "its period has not begun (`start`)",
        (NoReply::Ended, Ja) => "終了日時（end）を過ぎています",
        (NoReply::Ended, En) => "its period is over (`end`)",
        (NoReply::NullSender, Ja) => "差出人（エンベロープ）が空のメールです",
        (NoReply::NullSender, En) => {
            "the mail has the null reverse path, there is nobody to answer"
        }
        (NoReply::AutoSubmitted, Ja) => "自動送信のメールです（Auto-Submitted）",
        (NoReply::AutoSubmitted, En) => "a program sent the mail (Auto-Submitted)",
        (NoReply::MailingList, Ja) => "メーリングリストのメールです",
        (NoReply::MailingList, En) => "the mail came by a mailing list",
        (NoReply::Precedence, Ja) => "一斉送信のメールです（Precedence）",
        (NoReply::Precedence, En) => "the mail is a bulk mail (Precedence)",
        (NoReply::Suppressed, Ja) => "差出人側が自動返信を断っています",
        (NoReply::Suppressed, En) => "the sender asks for no automatic reply",
        (NoReply::Report, Ja) => "配送状況などの通知メールです",
        (NoReply::Report, En) => "the mail is a delivery report or another notification",
        (NoReply::RoleSender, Ja) => "差出人が返信を受け取らないアドレス（noreplyなど）です",
        (NoReply::RoleSender, En) => "the sender is a robot's or role address (noreply and kin)",
        (NoReply::OwnAddress, Ja) => "差出人が自分のアドレスです",
        (NoReply::OwnAddress, En) => "the sender is the owner",
        (NoReply::NotAddressed, Ja) => "宛先（To、Cc、Bcc）に自分のアドレスがありません",
        (NoReply::NotAddressed, En) => "no address of the owner stands in To, Cc or Bcc",
        (NoReply::Loop, Ja) => "メールが循環しています",
        (NoReply::Loop, En) => "the mail goes in a circle",
        (NoReply::Unread, Ja) => "メールの内容を確認していません",
        (NoReply::Unread, En) => "nobody looked at the mail",
    }
}

/// What was sent or kept beside the mail.
pub(super) fn outgoing(language: Language, kind: OutgoingKind) -> &'static str {
    use Language::{En, Ja};
    match (kind, language) {
        (OutgoingKind::Forward, Ja) => "転送",
        (OutgoingKind::Forward, En) => "forward",
        (OutgoingKind::Notify, Ja) => "受信通知",
        (OutgoingKind::Notify, En) => "receipt notice",
        (OutgoingKind::AutoReply, Ja) => "自動返信",
        (OutgoingKind::AutoReply, En) => "auto-reply",
        (OutgoingKind::VirusReport, Ja) => "ウイルスの報告",
        (OutgoingKind::VirusReport, En) => "virus report",
        (OutgoingKind::QuarantineNotice, Ja) => "隔離の通知",
        (OutgoingKind::QuarantineNotice, En) => "quarantine notice",
        (OutgoingKind::Release, Ja) => "再配送",
        (OutgoingKind::Release, En) => "release",
    }
}

/// The state of an effect as why-records name it; `None` for a word that is not known here.
pub(super) fn state(language: Language, word: &str) -> Option<&'static str> {
    let (_, ja, en) = STATES.iter().find(|(known, ..)| *known == word)?;
    Some(match language {
        Language::Ja => ja,
        Language::En => en,
    })
}

const STATES: [(&str, &str, &str); 16] = [
    ("delivered", "配送済み", "delivered"),
    ("held", "隔離中", "held"),
    ("ready", "送信待ち", "waiting to be sent"),
    ("sending", "送信中", "being sent"),
    ("waiting", "再送待ち", "put off, will be tried again"),
    ("sent", "送信済み", "sent"),
    (
        "in_mailbox",
        "転送できず、メールボックスに届けました",
        "refused, put into the mailbox instead",
    ),
    ("dead", "送信できませんでした", "given up"),
    ("refused", "相手に拒否されました", "refused"),
    ("left_out", "送信しませんでした", "not sent"),
    (
        "in_doubt",
        "送信中に停止（届いたかどうか不明、再送しません）",
        "broken off, it may have arrived and is not sent again",
    ),
    ("dropped", "取り消されました", "dropped by the operator"),
    ("releasing", "再配送中", "being released"),
    ("released", "再配送済み", "released"),
    ("deleted", "削除済み", "deleted"),
    (
        "expired",
        "保存期間が過ぎて削除済み",
        "its time was over, it is gone",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::EffectState;

    #[test]
    fn every_word_is_there_in_both_languages() {
        let both = |word: &dyn Fn(Language) -> &'static str| {
            let (ja, en) = (word(Language::Ja), word(Language::En));
            assert!(en.is_ascii() && !en.is_empty(), "{en}");
            assert!(ja.chars().any(|c| c > '\u{3000}'), "{ja}");
        };
        for told in [Told::Would, Told::Did] {
            for it in Verdict::ALL {
                both(&|language| verdict(language, told, it));
            }
        }
        for it in Stage::ALL {
            both(&|language| stage(language, it));
        }
        for it in Outcome::ALL {
            both(&|language| outcome(language, it));
        }
        for it in NoReply::ALL {
            both(&|language| no_reply(language, it));
        }
        for (word, ..) in STATES {
            both(&|language| state(language, word).unwrap());
        }
        assert_eq!(state(Language::Ja, "unheard of"), None);
    }

    #[test]
    fn every_state_of_an_effect_has_a_word() {
        use EffectState::*;
        for it in [
            Sent, InMailbox, Waiting, Dead, InDoubt, Dropped, Releasing, Released, Held, Deleted,
            Expired,
        ] {
            // A state that is added does not compile here: it needs a place in the list above too.
            match it {
                Sent | InMailbox | Waiting | Dead | InDoubt | Dropped | Releasing | Released
                | Held | Deleted | Expired => {}
            }
            assert!(state(Language::Ja, it.as_str()).is_some(), "{it:?}");
        }
    }

    #[test]
    fn every_word_of_the_policy_is_read_back() {
        for it in Outcome::ALL {
            assert_eq!(Outcome::named(it.as_str()), Some(it));
        }
        for it in NoReply::ALL {
            assert_eq!(NoReply::named(it.as_str()), Some(it));
        }
        assert_eq!(NoReply::named("unheard of"), None);
    }
}
