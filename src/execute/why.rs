//! What is written down of a decision: the why-record for a person, the facts for a replay.

use serde_json::{Value, json};

use super::{BYPASS_REASON, Effects, Mail, Task};
use crate::policy::{Facts, evidence};
use crate::store::{FactsRecord, WhyRecord, beginning};
use crate::view;

/// Everything that is known of one mail for one mailbox at its commit.
pub(super) fn record(task: &Task, mail: &Mail, effects: &Effects) -> WhyRecord {
    let mailbox = task.mailbox.policy.mailbox.to_string();
    let rest = json!({
        "id": task.id,
        "recipient": task.recipient.to_string(),
        "received_at": view::time(mail.received_at),
        "sender": mail.envelope.sender.to_string(),
        "client": client(mail),
        "message_id": mail.message.message_id(),
        "from": beginning(&mail.message.from_text),
        "subject": beginning(mail.message.subject_text()),
        "size": mail.message.size,
        "bounds": mail.message.exceeded.map(|exceeded| format!("{exceeded:?}")),
        "scan": task.scanned.recorded(&task.mailbox.policy),
        "auth": {"dmarc": mail.auth.dmarc_pass},
        "generation": task.mailbox.generation,
        "delivery": effects.delivered.as_ref().map(|accepted| json!({
            "place": accepted.place,
            "reply": accepted.reply.as_ref().map(ToString::to_string),
        })),
        "effects": effects.listed(),
    });
    let mut body = view::with(view::plan(&mailbox, &task.plan), rest);
    add_evidence(&mut body, task, mail);
    if mail.unread {
        body = view::with(body, json!({"bypass": BYPASS_REASON}));
    }
    WhyRecord {
        id: task.id,
        received_at: mail.received_at,
        body,
        mailbox,
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

/// What of the mail the entry that decided was found in (`matched`), and those of all stages.
fn add_evidence(body: &mut Value, task: &Task, mail: &Mail) {
    let mut matches = serde_json::Map::new();
    for step in &task.plan.trail {
        if let Some(text) = evidence::matched(step, &mail.message) {
            matches.insert(step.stage.as_str().to_owned(), text.into());
        }
    }
    let decisive = task
        .plan
        .stage
        .and_then(|stage| matches.get(stage.as_str()));
    body["matched"] = decisive.cloned().into();
    body["matches"] = matches.into();
}

/// Where the mail came from, as far as it is known.
pub(super) fn client(mail: &Mail) -> String {
    let client = &mail.envelope.client;
    client
        .origin_ip
        .or(client.ip)
        .map_or_else(|| "unix".to_owned(), |ip| ip.to_string())
}
