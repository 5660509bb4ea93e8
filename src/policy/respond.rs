//! Stage 9: who gets the owner's automatic reply, and above all who never does.
//!
//! A reply goes to the reverse path only, and only if no [`NoReply`] speaks
//! against it (RFC 3834 section 2, RFC 5230 4.5 and 4.6, RFC 5321 4.5.5). That the sender had a
//! reply within the window is the store's to know: the action carries the window.

use super::{
    Action, Arrival, AutoReply, Hit, NoReply, Outcome, Plan, Policy, Stage, Step, Verdict, robot,
};
use crate::mail::fold::fold_address;
use crate::mail::{Address, Message, ReversePath};

impl Policy {
    pub(super) fn auto_reply_stage(
        &self,
        plan: &mut Plan,
        message: &Message,
        arrival: &Arrival<'_>,
    ) {
        match self.reply_to(plan, message, arrival) {
            Ok((reply, to)) => {
                let (message, hit) = reply.text_for(to);
                plan.note(Stage::AutoReply, Outcome::Match, hit);
                plan.actions.push(Action::AutoReply {
                    to: to.clone(),
                    subject: reply.subject.clone(),
                    message: message.to_owned(),
                    window: reply.interval,
                });
            }
            Err(reason) => {
                plan.no_reply = Some(reason);
                plan.trail.push(match reason {
                    NoReply::Off | NoReply::Quarantined | NoReply::Virus | NoReply::Spam => {
                        self.unasked(Stage::AutoReply)
                    }
                    _ => Step::asked(Stage::AutoReply, None),
                });
            }
        }
    }

    /// The reply and whom it goes to, or the first reason against it.
    fn reply_to<'a>(
        &'a self,
        plan: &Plan,
        message: &Message,
        arrival: &Arrival<'a>,
    ) -> Result<(&'a AutoReply, &'a Address), NoReply> {
        let reply = self.auto_reply.as_ref().ok_or(NoReply::Off)?;
        if plan.verdict == Verdict::Replace {
            return Err(NoReply::Virus);
        }
        let tagged = |step: &Step| step.stage == Stage::Spam && step.outcome == Outcome::Match;
        if plan.trail.iter().any(tagged) {
            return Err(NoReply::Spam);
        }
        if reply.start.is_some_and(|start| arrival.now < start) {
            return Err(NoReply::NotStarted);
        }
        if reply.end.is_some_and(|end| arrival.now > end) {
            return Err(NoReply::Ended);
        }
        let ReversePath::Address(sender) = arrival.sender else {
            return Err(NoReply::NullSender);
        };
        if let Some(reason) = robot::reason(message) {
            return Err(reason);
        }
        if robot::is_role(sender.local()) {
            return Err(NoReply::RoleSender);
        }
        let own = self.own_keys(arrival);
        if own.contains(&sender.key()) {
            return Err(NoReply::OwnAddress);
        }
        if !is_addressed(message, &own) {
            return Err(NoReply::NotAddressed);
        }
        if Self::is_looping(message, arrival) {
            return Err(NoReply::Loop);
        }
        Ok((reply, sender))
    }
}

impl AutoReply {
    /// The sender's own text with the entry that chose it, or the common one.
    fn text_for(&self, sender: &Address) -> (&str, Option<Hit>) {
        let folded = fold_address(sender.as_str());
        self.per_sender
            .iter()
            .find_map(|reply| Some((reply.message.as_str(), reply.senders.find(&folded)?)))
            .map_or((&self.message, None), |(message, hit)| (message, Some(hit)))
    }
}

/// One of the owner's addresses stands in a field that names recipients (RFC 5230 4.5).
fn is_addressed(message: &Message, own: &[String]) -> bool {
    RECIPIENT_FIELDS.iter().any(|name| {
        let named = message.header.address_keys(name);
        named.iter().any(|key| own.contains(key))
    })
}

/// The fields of RFC 5230 4.5.
const RECIPIENT_FIELDS: [&str; 6] = ["To", "Cc", "Bcc", "Resent-To", "Resent-Cc", "Resent-Bcc"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Bounds;
    use crate::policy::pattern::lines;
    use crate::policy::{
        AllowSet, AuthReport, Passed, ScanReport, Screening, SenderReply, Spam, SpamScan, VirusScan,
    };

    const START: i64 = 1000;
    const END: i64 = 2000;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn policy() -> Policy {
        Policy {
            aliases: vec![address("t.yamada@east.example.jp")],
            auto_reply: Some(AutoReply {
                start: Some(START),
                end: Some(END),
                subject: "Re: %{subject}".to_owned(),
                message: "away".to_owned(),
                per_sender: vec![
                    SenderReply {
                        senders: AllowSet::build(lines(&["boss@supplier.example"])),
                        message: "call".to_owned(),
                    },
                    SenderReply {
                        senders: AllowSet::build(lines(&["@supplier.example"])),
                        message: "wait".to_owned(),
                    },
                ],
                interval: 86_400,
            }),
            ..Policy::new(address("taro@east.example.jp"))
        }
    }

    fn reverse_path(text: &str) -> ReversePath {
        match text {
            "" => ReversePath::Null,
            _ => ReversePath::Address(address(text)),
        }
    }

    fn plan(policy: &Policy, arrival: &Arrival<'_>, raw: &str, scan: &ScanReport) -> Plan {
        let message = Message::parse(raw.as_bytes(), &Bounds::default());
        let passed: Passed = match policy.screen(&message, arrival) {
            Screening::Passed(passed) => passed,
            Screening::Settled(plan) => panic!("{plan:?}"),
        };
        policy.decide(&message, arrival, passed, scan)
    }

    /// `fields` are lines that come before `From` and `To: taro@east.example.jp`; a field `To` among
    /// them stands alone.
    fn reason(sender: &str, recipient: &str, fields: &str, now: i64) -> Option<NoReply> {
        let to = if fields.starts_with("To:") {
            ""
        } else {
            "To: taro@east.example.jp\r\n"
        };
        let end = if fields.is_empty() { "" } else { "\r\n" };
        let raw = format!("{fields}{end}From: a@b.example\r\n{to}\r\nhello\r\n");
        let arrival = Arrival {
            now,
            sender: &reverse_path(sender),
            recipient: &address(recipient),
            trusted_client: false,
            auth: &AuthReport::default(),
            looping: false,
        };
        let plan = plan(&policy(), &arrival, &raw, &ScanReport::default());
        let answered = plan
            .actions
            .iter()
            .any(|action| matches!(action, Action::AutoReply { .. }));
        assert_eq!(answered, plan.no_reply.is_none(), "{sender} {fields}");
        plan.no_reply
    }

    #[test]
    fn header_fields_that_forbid_an_answer() {
        let check = |fields: &str, expected: Option<NoReply>| {
            let found = reason("a@b.example", "taro@east.example.jp", fields, START);
            assert_eq!(found, expected, "{fields}");
        };
        check("", None);
        check("Auto-Submitted: no", None);
        check("auto-submitted: NO", None);
        check("Auto-Submitted: (it (really) is) no (yes)", None);
        check("Auto-Submitted: no; x=auto-replied", None);
        check("Auto-Submitted:\r\n no", None);
        for automatic in [
            "Auto-Submitted: auto-replied",
            "Auto-Submitted: auto-generated",
            "Auto-Submitted: auto-notified; owner-email=\"a@b.example\"",
            "Auto-Submitted: (no) auto-replied",
            "AUTO-SUBMITTED: Auto-Replied (vacation)",
            "Auto-Submitted: nope",
            "Auto-Submitted:",
            "Auto-Submitted: no\r\nAuto-Submitted: auto-replied",
        ] {
            check(automatic, Some(NoReply::AutoSubmitted));
        }
        for list in [
            "List-Id: <x.example>",
            "List-Help: <mailto:x@x.example>",
            "List-Subscribe: <mailto:x@x.example>",
            "List-Unsubscribe: <mailto:x@x.example>",
            "List-Post: NO",
            "List-Owner: <mailto:x@x.example>",
            "LIST-ARCHIVE: <https://x.example>",
            "List-Id:",
        ] {
            check(list, Some(NoReply::MailingList));
        }
        check("Precedence: bulk", Some(NoReply::Precedence));
        check("Precedence: LIST", Some(NoReply::Precedence));
        check("precedence: junk (really)", Some(NoReply::Precedence));
        check("Precedence: first-class", None);
        check("X-Auto-Response-Suppress: All", Some(NoReply::Suppressed));
        check(
            "X-Auto-Response-Suppress: DR, OOF, AutoReply",
            Some(NoReply::Suppressed),
        );
        check(
            "X-Auto-Response-Suppress: autoreply",
            Some(NoReply::Suppressed),
        );
        check("X-Auto-Response-Suppress: oof", Some(NoReply::Suppressed));
        check("X-Auto-Response-Suppress: DR, RN", None);
        check("X-Auto-Response-Suppress: None", None);
        check("X-Autoreply: yes", Some(NoReply::Suppressed));
        check("X-Autorespond:", Some(NoReply::Suppressed));
        check("X-Loop: a@b.example", Some(NoReply::Suppressed));
        check("Feedback-ID: x:y", None);
        check(
            "Content-Type: multipart/report; report-type=x",
            Some(NoReply::Report),
        );
        check(
            "Content-Type: Message/Delivery-Status",
            Some(NoReply::Report),
        );
        check(
            "Content-Type: message/disposition-notification",
            Some(NoReply::Report),
        );
        check(
            "Content-Type: message/global-delivery-status",
            Some(NoReply::Report),
        );
        check(
            "Content-Type: (a) multipart (b) / report",
            Some(NoReply::Report),
        );
        check("Content-Type: multipart/mixed; boundary=x", None);
        check("Content-Type: text/plain", None);
    }

    #[test]
    fn senders_that_get_no_answer() {
        let check = |sender: &str, expected: Option<NoReply>| {
            let found = reason(sender, "taro@east.example.jp", "", START);
            assert_eq!(found, expected, "{sender}");
        };
        check("", Some(NoReply::NullSender));
        for role in [
            "MAILER-DAEMON",
            "mailer-daemon",
            "\"Mailer-Daemon\"",
            "LISTSERV",
            "majordomo",
            "majordomo+x",
            "owner-list",
            "Owner-List",
            "list-request",
            "list-request+x",
            "noreply",
            "NoReply",
            "no-reply",
            "no_reply",
            "no.reply",
            "no-reply-2026",
            "noreply+x",
            "donotreply",
            "do-not-reply",
            "shop-noreply",
            "shop.no-reply",
            "bounce",
            "bounces+taro=east.example.jp",
            "bounce-123",
            "list-bounces",
            "list-bounces+taro=east.example.jp",
            "SRS0=abcd=xy=b.example=a",
            "srs0+abcd=xy=b.example=a",
            "SRS1=abcd=x.example==abcd=xy=b.example=a",
            "prvs=1234567890=a",
        ] {
            check(&format!("{role}@b.example"), Some(NoReply::RoleSender));
        }
        for person in [
            "postmaster",
            "owner",
            "taro",
            "reply",
            "casinoreply",
            "request",
            "rebounce",
            "bob.ounce",
            "srs",
            "no",
            "user..name.",
        ] {
            check(&format!("{person}@b.example"), None);
        }
        check("taro@east.example.jp", Some(NoReply::OwnAddress));
        check("TARO@East.Example.JP", Some(NoReply::OwnAddress));
        check("t.yamada@east.example.jp", Some(NoReply::OwnAddress));
        check("taro@west.example.jp", None);
    }

    #[test]
    fn the_owner_must_be_addressed() {
        let check = |recipient: &str, fields: &str, expected: Option<NoReply>| {
            assert_eq!(
                reason("a@b.example", recipient, fields, START),
                expected,
                "{fields}"
            );
        };
        let taro = "taro@east.example.jp";
        for named in [
            "To: taro@east.example.jp",
            "To: Taro <TARO@EAST.EXAMPLE.JP>",
            "To: x@y.example, \"Yamada, Taro\" <taro@east.example.jp>",
            "To: team: x@y.example, taro@east.example.jp;",
            "To: \"taro\"@east.example.jp",
            "To: taro@east.example.jp (Taro)",
            "To: t.yamada@east.example.jp",
            "To: x@y.example\r\nCc: taro@east.example.jp",
            "To: x@y.example\r\nBcc: taro@east.example.jp",
            "To: x@y.example\r\nResent-To: taro@east.example.jp",
            "To: x@y.example\r\nResent-Cc: taro@east.example.jp",
            "To: x@y.example\r\nResent-Bcc: taro@east.example.jp",
            "To: x@y.example\r\nTo: taro@east.example.jp",
        ] {
            check(taro, named, None);
        }
        for unnamed in [
            "To: undisclosed-recipients:;",
            "To: x@y.example",
            "To:",
            "To: taro@east.example.jp.evil.example",
            "To: taro+news@east.example.jp",
            "To: x@y.example\r\nReply-To: taro@east.example.jp",
            "To: x@y.example\r\nX-To: taro@east.example.jp",
            "To: \"taro@east.example.jp\" <x@y.example>",
        ] {
            check(taro, unnamed, Some(NoReply::NotAddressed));
        }
        check(
            "taro+news@east.example.jp",
            "To: taro+news@east.example.jp",
            None,
        );
        check(
            "taro+news@east.example.jp",
            "To: taro@east.example.jp",
            None,
        );
    }

    #[test]
    fn the_period_is_inclusive() {
        let check = |now: i64, expected: Option<NoReply>| {
            let found = reason("a@b.example", "taro@east.example.jp", "", now);
            assert_eq!(found, expected, "{now}");
        };
        check(START - 1, Some(NoReply::NotStarted));
        check(START, None);
        check(END, None);
        check(END + 1, Some(NoReply::Ended));
    }

    #[test]
    fn loops_are_not_answered() {
        let received = |count: usize| vec!["Received: by x.example; now"; count].join("\r\n");
        let found = |count| {
            reason(
                "a@b.example",
                "taro@east.example.jp",
                &received(count),
                START,
            )
        };
        assert_eq!(found(100), None);
        assert_eq!(found(101), Some(NoReply::Loop));
    }

    #[test]
    fn what_stands_before_the_reply() {
        let check = |policy: &Policy, scan: ScanReport, expected: NoReply, outcome: Outcome| {
            let arrival = Arrival {
                now: START,
                sender: &reverse_path("a@b.example"),
                recipient: &policy.mailbox,
                trusted_client: false,
                auth: &AuthReport::default(),
                looping: false,
            };
            let raw = "From: a@b.example\r\nTo: taro@east.example.jp\r\n\r\n";
            let plan = plan(policy, &arrival, raw, &scan);
            assert_eq!(plan.no_reply, Some(expected));
            assert_eq!(plan.trail[8].outcome, outcome, "{expected:?}");
        };
        let mut policy = policy();
        policy.virus = true;
        policy.spam = Some(Spam {
            score: None,
            mark_subject: String::new(),
            quarantine: false,
            notice_each: false,
        });
        let spam = ScanReport {
            virus: VirusScan::Clean,
            spam: SpamScan::SPAM,
        };
        let virus = ScanReport {
            virus: VirusScan::Infected("X".into()),
            spam: SpamScan::HAM,
        };
        check(&policy, spam.clone(), NoReply::Spam, Outcome::Skipped);
        check(&policy, virus, NoReply::Virus, Outcome::Skipped);
        policy.spam.as_mut().unwrap().quarantine = true;
        check(&policy, spam, NoReply::Quarantined, Outcome::Skipped);
        policy.auto_reply = None;
        check(&policy, ScanReport::default(), NoReply::Off, Outcome::Off);
    }

    #[test]
    fn the_first_text_for_a_sender_wins() {
        let policy = policy();
        let reply = policy.auto_reply.as_ref().unwrap();
        let text = |sender: &str| reply.text_for(&address(sender)).0.to_owned();
        assert_eq!(text("boss@supplier.example"), "call");
        assert_eq!(text("BOSS@Supplier.Example"), "call");
        assert_eq!(text("aboss@supplier.example"), "wait");
        assert_eq!(text("a@b.example"), "away");
    }
}
