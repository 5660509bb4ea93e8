//! What is written down of a decision: the why-record for a person, the facts for a replay.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{BYPASS_REASON, Effects, Mail, Task};
use crate::policy::{Facts, Stage, evidence};
use crate::store::{FactsRecord, Id, beginning};
use crate::view;

/// The body of a why-record, member by member as `why --json` shows it.
#[derive(Serialize)]
pub(super) struct Body<'a> {
    #[serde(flatten)]
    decision: view::Decision<'a>,
    id: Id,
    recipient: &'a str,
    received_at: String,
    sender: &'a str,
    client: String,
    message_id: Option<String>,
    from: &'a str,
    subject: &'a str,
    size: u64,
    bounds: Option<String>,
    scan: Value,
    auth: Auth,
    generation: &'a str,
    delivery: Option<Delivered<'a>>,
    effects: Vec<Value>,
    matched: Option<Value>,
    matches: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bypass: Option<&'static str>,
}

#[derive(Serialize)]
struct Auth {
    dmarc: bool,
}

#[derive(Serialize)]
struct Delivered<'a> {
    place: &'a str,
    reply: Option<String>,
}

/// Everything that is known of one mail for one mailbox at its commit.
pub(super) fn body<'a>(
    mailbox: &'a str,
    task: &'a Task,
    mail: &'a Mail,
    effects: &'a Effects,
) -> Body<'a> {
    let matches = matches(task, mail);
    let decisive = task.plan.stage.map(Stage::as_str);
    Body {
        decision: view::Decision::of(mailbox, &task.plan),
        id: task.id,
        recipient: task.recipient.as_str(),
        received_at: view::time(mail.received_at),
        sender: mail.envelope.sender.as_str(),
        client: client(mail),
        message_id: mail.message.message_id(),
        from: beginning(&mail.message.from_text),
        subject: beginning(mail.message.subject_text()),
        size: mail.message.size,
        bounds: mail
            .message
            .exceeded
            .map(|exceeded| format!("{exceeded:?}")),
        scan: task.scanned.recorded(&task.mailbox.policy),
        auth: Auth {
            dmarc: mail.auth.dmarc_pass,
        },
        generation: &task.mailbox.generation,
        delivery: effects.delivered.as_ref().map(|accepted| Delivered {
            place: &accepted.place,
            reply: accepted.reply.as_ref().map(ToString::to_string),
        }),
        effects: effects.listed(),
        matched: decisive.and_then(|stage| matches.get(stage).cloned()),
        matches,
        bypass: mail.unread.then_some(BYPASS_REASON),
    }
}

/// What a later replay needs to decide again, for mail whose body is gone.
pub(super) fn facts(task: &Task, mail: &Mail) -> FactsRecord {
    let arrival = mail.arrival(&task.recipient, task.looping);
    let facts = Facts::of(&mail.message, &arrival, &task.scanned.report);
    let mailbox = &task.mailbox.policy.mailbox;
    let record = view::facts_record(task.id, &facts, mailbox, &task.plan);
    FactsRecord {
        cut: mail.unread,
        ..record
    }
}

/// What of the mail the entry of each stage was found in.
fn matches(task: &Task, mail: &Mail) -> Map<String, Value> {
    let trail = task.plan.trail.iter();
    let found = trail.filter_map(|step| Some((step, evidence::matched(step, &mail.message)?)));
    found
        .map(|(step, text)| (step.stage.as_str().to_owned(), text.into()))
        .collect()
}

/// Where the mail came from, as far as it is known.
pub(super) fn client(mail: &Mail) -> String {
    let client = &mail.envelope.client;
    client
        .origin_ip
        .or(client.ip)
        .map_or_else(|| "unix".to_owned(), |ip| ip.to_string())
}
