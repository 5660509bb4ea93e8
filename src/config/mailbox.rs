//! The keys of a mailbox file; `mailboxes.defaults` has the same but [`OWN_KEYS`].

use super::field::Field;
use super::lines::Lines;
use super::number::Points;
use super::setting::{sections, words};
use super::text::{FilePath, Mail, Size, Text};

/// The form of the file that this version reads.
pub(crate) const VERSION: u64 = 1;

/// Keys of a mailbox file that `mailboxes.defaults` cannot have.
pub(crate) const OWN_KEYS: [&str; 3] = ["version", "mailbox", "aliases"];

sections! {
    /// One mailbox.
    RawMailbox {
        /// the form of this file
        version: u64 = required, like "1";
        /// the file lies at <domain>/<localpart>.yaml below mailboxes.dir
        mailbox: Text<Mail>, like "taro@example.jp";
        /// counts as "me" for auto-reply; mail to it has these settings
        aliases: Vec<Field<Text<Mail>>>, like "[t.yamada@example.jp]";
        /// notices, reports
        language: RawLanguage = "ja";
        /// IANA name, for times in notices and of auto_reply
        timezone: String = "Asia/Tokyo";
        /// operator mail skips stages 1-3 and 6
        announcements: bool = "true";
        /// stages 1-3: to quarantine
        reject: RawReject;
        /// stage 4: skips the spam stage; never the virus stage
        allow: RawAllow;
        /// stage 5
        virus: RawVirus;
        /// stage 6
        spam: RawSpam;
        /// stage 7
        forwarding: RawForwarding;
        /// stage 8: receipt notification
        notify: RawNotify;
        /// stage 9
        auto_reply: RawAutoReply;
    }

    /// `reject`.
    RawReject {
        /// header From address ends with
        from_suffixes: Lines, like "|\n  @spam.example\n  .bulk.example\n  noreply@shop.example";
        /// the same from a text file, one a line
        from_suffixes_file: FilePath, or "PATH";
        /// decoded Subject contains
        subject_contains: Lines, like "|\n  未承諾広告\n  [広告]\n  #1 offer";
        /// the same from a text file, one a line
        subject_contains_file: FilePath, or "PATH";
        /// missing and empty header fields
        headers: Vec<Field<RawHeader>> = "[]",
            like "[from_missing, from_empty, from_empty_address, subject_missing, subject_empty]";
    } lists(from_suffixes from_suffixes_file, subject_contains subject_contains_file)

    /// `allow`.
    RawAllow {
        /// true: also wins over `reject`
        before_reject: bool = "false";
        /// header From address ends with; an entry with a local part: equals
        senders: Lines, like "|\n  partner@example.com\n  @example.or.jp";
        /// the same from a text file, one a line
        senders_file: FilePath, or "PATH";
        /// counts only when DMARC-aligned and passing: needs `trust`, not built yet
        verified_senders: Lines, or "|\n  bank@example.net";
        /// the same from a text file, one a line
        verified_senders_file: FilePath, or "PATH";
    } lists(senders senders_file, verified_senders verified_senders_file)

    /// `virus`.
    RawVirus {
        /// a report is delivered in place of infected mail, which is held
        scan: bool = "false", like "true";
    }

    /// `spam`.
    RawSpam {
        /// by the engine of `scanners.spam`
        scan: bool = "false", like "true";
        /// spam from so many points on; left out: the engine's own word
        score: Points, like "6.5";
        /// put before the Subject of the local copy; "" = no mark
        mark_subject: String = r#""[spam]""#;
        /// false = deliver with the mark
        quarantine: bool = "false", like "true";
        /// when the owner is told of held mail
        notice: RawNotice = "off", like "daily";
        /// what the notice tells of: held as spam, or by stages 1-3
        notice_includes: Vec<Field<RawHeld>> = "[spam]", like "[spam, user_rule]";
    }

    /// `forwarding`.
    RawForwarding {
        /// the two kinds exclude each other
        mode: RawMode = "off", like "rules";
        /// with `mode: all`
        all: RawRedirect = none;
        /// with `mode: rules`: up to 10, first match wins
        rules: Vec<Field<RawRule>>, like "";
    } either(all rules)

    /// `forwarding.all`.
    RawRedirect {
        /// targets
        to: Vec<Field<Text<Mail>>>, like "[taro.home@example.net]";
        /// a copy stays in the mailbox
        keep_copy: bool = "true";
    }

    /// One of `forwarding.rules`.
    RawRule {
        /// for the person
        name: String, like "invoices to accounting";
        /// true: not looked at
        paused: bool = "false";
        /// how many of the conditions below
        r#match: RawMatch = "all";
        /// decoded Subject contains
        subject_contains: Lines, like "|\n  請求書\n  invoice";
        /// the same from a text file, one a line
        subject_contains_file: FilePath, or "PATH";
        /// header From address ends with
        from_suffixes: Lines, like "|\n  @supplier.example";
        /// the same from a text file, one a line
        from_suffixes_file: FilePath, or "PATH";
        /// has one, or has none
        attachment: bool, like "true";
        /// of the mail as received; one bound
        size: RawSize = none, like "";
        /// targets
        to: Vec<Field<Text<Mail>>> = required, like "[keiri@example.jp]";
        /// a copy stays in the mailbox
        keep_copy: bool = "true";
    } lists(subject_contains subject_contains_file, from_suffixes from_suffixes_file)

    /// `size` of a rule.
    RawSize {
        /// so much or more
        at_least: Text<Size>, like "10KiB";
        /// so much or less
        at_most: Text<Size>, or "5MiB";
    } either(at_least at_most)

    /// `notify`.
    RawNotify {
        /// up to 3 addresses; none = off
        to: Vec<Field<Text<Mail>>> = "[]", like "[taro.mobile@example.net, taro.pc@example.net]";
        /// what is told
        fields: Vec<Field<RawNotifyField>> = "[from, to, subject, attachment, size]";
    }

    /// `auto_reply`.
    RawAutoReply {
        /// one reply a sender in 24 h
        enabled: bool = "false", like "true";
        /// optional; without an offset in `timezone`
        start: String, like "2026-12-28T00:00:00+09:00";
        /// optional
        end: String, like "2027-01-04T23:59:59+09:00";
        /// %{subject} stands for the mail's
        subject: String = r#""自動返信: %{subject}""#;
        /// the text
        message: String, like "|\n  年末年始のため、1月5日以降にお返事いたします。";
        /// first match wins, else `message`
        per_sender: Vec<Field<RawSenderReply>>, like "";
    }

    /// One of `auto_reply.per_sender`.
    RawSenderReply {
        /// reverse path, as allow.senders
        senders: Lines, like "|\n  @supplier.example";
        /// the same from a text file, one a line
        senders_file: FilePath, or "PATH";
        /// the text
        message: String = required, like "|\n  お急ぎの場合は 03-0000-0000 へお電話ください。";
    } lists(senders senders_file)
}

words! {
    /// `language`.
    RawLanguage { Ja = "ja", En = "en" }
    /// One of `reject.headers`.
    RawHeader {
        /// no From: header
        FromMissing = "from_missing",
        /// From:
        FromEmpty = "from_empty",
        /// From: <>
        FromEmptyAddress = "from_empty_address",
        /// no Subject: header
        SubjectMissing = "subject_missing",
        /// Subject:
        SubjectEmpty = "subject_empty",
    }
    /// `spam.notice`.
    RawNotice { Off = "off", Each = "each", Daily = "daily" }
    /// One of `spam.notice_includes`.
    RawHeld { Spam = "spam", UserRule = "user_rule" }
    /// `forwarding.mode`.
    RawMode { Off = "off", All = "all", Rules = "rules" }
    /// `match` of a rule.
    RawMatch { All = "all", Any = "any" }
    /// One of `notify.fields`.
    RawNotifyField {
        From = "from",
        To = "to",
        Subject = "subject",
        Attachment = "attachment",
        Size = "size",
    }
}
