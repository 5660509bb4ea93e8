//! The JSON forms of decisions and stored entries (CONTRACT section 4), one place for the CLI, the
//! control socket and the why-records.

mod facts;

pub use facts::{facts, facts_line, facts_record, targets};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::Serialize;
use serde_json::{Value, json};

use crate::policy::{Action, Alone, Hit, Plan, Stage, Step, Verdict};
use crate::store::{OutgoingItem, QuarantineEntry, VerifyReport, WhyRecord};

/// A decision as `explain --json` and `why --json` show it, without `schema`.
pub fn plan(mailbox: &str, plan: &Plan) -> Value {
    json!(Decision::of(mailbox, plan))
}

/// The members of [`plan`].
#[derive(Serialize)]
pub(crate) struct Decision<'a> {
    mailbox: &'a str,
    verdict: &'static str,
    stage: Option<&'static str>,
    entry: Option<&'a str>,
    origin: Option<String>,
    mark: Option<&'a str>,
    forward: Forward<'a>,
    notify: Vec<String>,
    auto_reply: AutoReply,
    steps: Vec<Stepped<'a>>,
}

impl<'a> Decision<'a> {
    pub(crate) fn of(mailbox: &'a str, plan: &'a Plan) -> Self {
        let decided = matches!(plan.verdict, Verdict::Quarantine | Verdict::Replace);
        let hit = plan.hit.as_ref().filter(|_| decided);
        let delivered = plan.verdict == Verdict::Deliver;
        Self {
            mailbox,
            verdict: plan.verdict.as_str(),
            stage: plan.stage.filter(|_| decided).map(Stage::as_str),
            entry: hit.map(|hit| hit.entry.as_str()),
            origin: origin(hit),
            mark: plan.mark.as_deref().filter(|_| delivered),
            forward: forward(plan),
            notify: notify(plan),
            auto_reply: auto_reply(plan),
            steps: plan.trail.iter().map(step).collect(),
        }
    }
}

#[derive(Serialize)]
struct Forward<'a> {
    rule: Option<&'a str>,
    to: Vec<String>,
    keep: bool,
}

#[derive(Serialize)]
struct AutoReply {
    would_send: bool,
    reason: Option<&'static str>,
}

#[derive(Serialize)]
struct Stepped<'a> {
    stage: &'static str,
    outcome: &'static str,
    #[serde(flatten)]
    hit: Option<Hitting<'a>>,
}

#[derive(Serialize)]
struct Hitting<'a> {
    entry: &'a str,
    origin: Option<String>,
}

/// What each stage would say if nothing before it counted, `all_stages` of `explain --all-stages`:
/// the step, with all `entries` of a list stage that match, the `verdict` of a stage that would
/// hold or replace the mail, and what the stage would do beside it.
pub fn all_stages(stages: &[Alone]) -> Value {
    stages.iter().map(alone).collect()
}

fn alone(alone: &Alone) -> Value {
    let plan = &alone.plan;
    let mut value = plan
        .trail
        .first()
        .map_or(Value::Null, |first| json!(step(first)));
    let Some(members) = value.as_object_mut() else {
        return value;
    };
    if !alone.entries.is_empty() {
        members.insert("entries".into(), alone.entries.iter().map(entry).collect());
    }
    if plan.stage.is_some() {
        members.insert("verdict".into(), plan.verdict.as_str().into());
    }
    match alone.stage {
        Stage::Spam => {
            members.insert("mark".into(), json!(plan.mark));
        }
        Stage::Forwarding => {
            members.insert("forward".into(), json!(forward(plan)));
        }
        Stage::Notify => {
            members.insert("notify".into(), notify(plan).into());
        }
        Stage::AutoReply => {
            members.insert("auto_reply".into(), json!(auto_reply(plan)));
        }
        _ => {}
    }
    value
}

fn entry(hit: &Hit) -> Value {
    json!({"entry": hit.entry, "origin": origin(Some(hit))})
}

fn origin(hit: Option<&Hit>) -> Option<String> {
    hit.and_then(|hit| hit.origin.as_ref())
        .map(ToString::to_string)
}

fn forward(plan: &Plan) -> Forward<'_> {
    let redirect = plan.actions.iter().find_map(|action| match action {
        Action::Redirect { to, keep_copy } => Some((to, *keep_copy)),
        _ => None,
    });
    let rule = plan.forward_rule.as_deref().filter(|_| redirect.is_some());
    let (to, keep) = redirect.map_or((Vec::new(), true), |(to, keep)| (texts(to), keep));
    Forward { rule, to, keep }
}

fn notify(plan: &Plan) -> Vec<String> {
    plan.actions
        .iter()
        .find_map(|action| match action {
            Action::Notify { to, .. } => Some(texts(to)),
            _ => None,
        })
        .unwrap_or_default()
}

fn auto_reply(plan: &Plan) -> AutoReply {
    let is_reply = |action: &Action| matches!(action, Action::AutoReply { .. });
    AutoReply {
        would_send: plan.actions.iter().any(is_reply),
        reason: plan.no_reply.map(|reason| reason.as_str()),
    }
}

fn step(step: &Step) -> Stepped<'_> {
    let hit = step.hit.as_ref().map(|hit| Hitting {
        entry: &hit.entry,
        origin: origin(Some(hit)),
    });
    Stepped {
        stage: step.stage.as_str(),
        outcome: step.outcome.as_str(),
        hit,
    }
}

fn texts(addresses: &[crate::mail::Address]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

/// A held mail as `quarantine list --json` shows it.
pub fn quarantine(entry: &QuarantineEntry) -> Value {
    json!({
        "schema": "sekimori.quarantine/1",
        "id": entry.id,
        "mailbox": entry.mailbox,
        "stage": entry.stage,
        "class": entry.class,
        "entry": entry.entry,
        "sender": entry.sender,
        "from": entry.from,
        "subject": entry.subject,
        "size": entry.size,
        "received_at": time(entry.received_at),
        "expires_at": time(entry.expires_at),
        "state": entry.state,
    })
}

/// An outgoing mail as `queue list --json` shows it.
pub fn outgoing(item: &OutgoingItem) -> Value {
    json!({
        "schema": "sekimori.queue/1",
        "id": item.id,
        "kind": item.kind,
        "mailbox": item.mailbox,
        "sender": item.sender,
        "recipients": item.recipients,
        "attempts": item.attempts,
        "next_attempt_at": time(item.next_attempt_at),
        "last_reply": item.last_reply,
    })
}

/// A why-record as `why --json` shows it.
pub fn why(record: &WhyRecord) -> Value {
    let value = json!({"schema": "sekimori.why/1", "id": record.id});
    with(value, record.body.clone())
}

/// An object with the members of another one too.
pub fn with(mut value: Value, more: Value) -> Value {
    if let (Some(members), Value::Object(more)) = (value.as_object_mut(), more) {
        members.extend(more);
    }
    value
}

/// What `store verify` found.
pub fn verify(report: &VerifyReport) -> Value {
    json!({
        "schema": "sekimori.store_verify/1",
        "quarantine": report.quarantine,
        "outgoing": report.outgoing,
        "files": report.files,
        "bytes": report.bytes,
        "orphans": report.orphans,
        "problems": report.problems,
    })
}

/// Unix milliseconds as RFC 3339; the epoch for what no calendar holds.
pub fn time(millis: i64) -> String {
    timestamp(millis).to_string()
}

/// Unix milliseconds in a time zone; the epoch for what no calendar holds.
pub fn zoned(millis: i64, timezone: &TimeZone) -> Zoned {
    timestamp(millis).to_zoned(timezone.clone())
}

fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}
