//! The stored form of a decision's facts and the way back to what decides.

use std::borrow::Cow;

use serde::Serialize;

use crate::mail::fold::{fold, fold_address};
use crate::mail::{
    Address, FromAddress, FromField, Message, ReversePath, SubjectField, SubjectText,
};
use crate::policy::{
    Action, AuthReport, Facts, Plan, ScanReport, Score, SpamScan, Verdict, VirusScan,
};
use crate::store::{Absent, FactsRecord, Id, Virus, beginning};

/// The facts and what was done, as they are stored.
pub fn facts_record(id: Id, facts: &Facts<'_>, mailbox: &Address, plan: &Plan) -> FactsRecord {
    let (from, no_from) = match &facts.message.from {
        FromField::Addresses(found) => {
            let folded = found.iter().map(|a| a.folded.as_str().to_owned());
            (folded.collect(), None)
        }
        FromField::EmptyAddress => (Vec::new(), Some(Absent::EmptyAddress)),
        FromField::Empty => (Vec::new(), Some(Absent::Empty)),
        FromField::Missing => (Vec::new(), Some(Absent::Missing)),
    };
    let (subject, no_subject) = match &facts.message.subject {
        SubjectField::Text(texts) => {
            let decoded = texts.iter().map(|text| beginning(&text.decoded).to_owned());
            (decoded.collect(), None)
        }
        SubjectField::Empty => (Vec::new(), Some(Absent::Empty)),
        SubjectField::Missing => (Vec::new(), Some(Absent::Missing)),
    };
    let hit = plan.hit.as_ref();
    let origin = hit.and_then(|hit| hit.origin.as_ref());
    FactsRecord {
        sender: facts.sender.to_string(),
        recipient: Some(&facts.recipient)
            .filter(|recipient| *recipient != mailbox && recipient.key() != mailbox.key())
            .map(ToString::to_string),
        from,
        no_from,
        subject,
        no_subject,
        attachment: facts.message.attachment,
        virus: match &facts.scan.virus {
            VirusScan::NotScanned | VirusScan::Failed(_) => None,
            VirusScan::Clean => Some(Virus::Clean),
            VirusScan::Infected(name) => Some(Virus::Infected(name.clone())),
        },
        spam: match facts.scan.spam {
            SpamScan::NotScanned | SpamScan::Failed(_) => None,
            SpamScan::Judged { spam, .. } => Some(spam),
        },
        spam_score: match facts.scan.spam {
            SpamScan::Judged { score, .. } => score.map(|Score(thousandths)| thousandths),
            SpamScan::NotScanned | SpamScan::Failed(_) => None,
        },
        dmarc: facts.auth.dmarc_pass,
        trusted: facts.trusted_client,
        looping: facts.looping,
        verdict: Some(plan.verdict)
            .filter(|verdict| *verdict != Verdict::Deliver)
            .map(|verdict| verdict.as_str().to_owned()),
        stage: plan.stage.map(|stage| stage.as_str().to_owned()),
        entry: hit.map(|hit| hit.entry.clone()),
        origin: origin.map(ToString::to_string),
        forward: targets(plan),
        ..FactsRecord::new(id, facts.message.size)
    }
}

/// A record as one line of `/v1/facts`.
pub fn facts_line(record: &FactsRecord) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        schema: &'static str,
        #[serde(flatten)]
        record: &'a FactsRecord,
    }
    let schema = "sekimori.facts/1";
    // Texts and numbers always have a JSON form.
    serde_json::to_string(&Line { schema, record }).unwrap_or_default()
}

/// The facts of a record, to decide again for its mailbox; `None` where they are not all there.
pub fn facts(record: &FactsRecord, mailbox: &Address) -> Option<Facts<'static>> {
    if record.cut {
        return None;
    }
    let from = match record.no_from {
        None => FromField::Addresses(record.from.iter().map(|a| from_address(a)).collect()),
        Some(Absent::EmptyAddress) => FromField::EmptyAddress,
        Some(Absent::Empty) => FromField::Empty,
        Some(Absent::Missing) => FromField::Missing,
    };
    let subject = match record.no_subject {
        None => SubjectField::Text(record.subject.iter().map(|s| subject_text(s)).collect()),
        Some(Absent::Missing) => SubjectField::Missing,
        Some(_) => SubjectField::Empty,
    };
    Some(Facts {
        message: Cow::Owned(Message::known(
            from,
            subject,
            record.attachment,
            record.size,
        )),
        sender: match record.sender.as_str() {
            "" => ReversePath::Null,
            sender => ReversePath::Address(Address::parse(sender).ok()?),
        },
        recipient: match &record.recipient {
            None => mailbox.clone(),
            Some(recipient) => Address::parse(recipient).ok()?,
        },
        now: record.id.millis().div_euclid(1000),
        scan: ScanReport {
            virus: match &record.virus {
                None => VirusScan::NotScanned,
                Some(Virus::Clean) => VirusScan::Clean,
                Some(Virus::Infected(name)) => VirusScan::Infected(name.clone()),
            },
            spam: match record.spam {
                None => SpamScan::NotScanned,
                Some(spam) => SpamScan::Judged {
                    spam,
                    score: record.spam_score.map(Score),
                },
            },
        },
        auth: AuthReport {
            dmarc_pass: record.dmarc,
        },
        trusted_client: record.trusted,
        looping: record.looping,
    })
}

/// Where a plan sends the mail on to.
pub fn targets(plan: &Plan) -> Vec<String> {
    let redirect = plan.actions.iter().find_map(|action| match action {
        Action::Redirect { to, .. } => Some(to),
        _ => None,
    });
    redirect
        .into_iter()
        .flatten()
        .map(ToString::to_string)
        .collect()
}

fn from_address(folded: &str) -> FromAddress {
    FromAddress {
        text: folded.to_owned(),
        folded: fold_address(folded),
    }
}

fn subject_text(decoded: &str) -> SubjectText {
    SubjectText {
        decoded: decoded.to_owned(),
        folded: fold(decoded),
    }
}
