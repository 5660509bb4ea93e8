//! What the caller answers to a mail, and the replies that this makes (CONTRACT section 3).

use super::Reply;
use super::reply::escape;
use crate::mail::Address;

/// What was done with a mail for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Taken, durably: `250 2.0.0 <rcpt> q=ID verdict=...`.
    Taken {
        /// One for each mail and mailbox.
        id: String,
        /// CONTRACT section 2.
        verdict: &'static str,
        /// The stage that decided, for `quarantine` and `replace`.
        stage: Option<&'static str>,
    },
    /// Not taken: a 4yz or 5yz reply.
    Refused(Reply),
}

/// A reply that is neither 4yz nor 5yz is no refusal: `451 4.3.0` stands for it.
pub(super) fn negative(reply: Reply) -> Reply {
    match reply.code {
        400..600 => reply,
        _ => Reply::new(451, 3, 0, "internal error"),
    }
}

/// LMTP: one recipient's reply.
pub(super) fn reply_for(recipient: &Address, answer: &Answer) -> Reply {
    match answer {
        Answer::Refused(reply) => negative(reply.clone()),
        Answer::Taken { id, verdict, stage } => taken(recipient, &[id], verdict, *stage),
    }
}

/// SMTP: the first 4yz if there is any (the client tries again for all), else the first 5yz, else
/// 250. A 250 beside a recipient who was refused would lose that mail without a word; so the sender
/// is told, although the others have it.
pub(super) fn merged_reply(recipients: &[Address], answers: &[Answer]) -> Reply {
    let refused: Vec<Reply> = answers
        .iter()
        .filter_map(|answer| match answer {
            Answer::Refused(reply) => Some(negative(reply.clone())),
            Answer::Taken { .. } => None,
        })
        .collect();
    let temporary = refused.iter().find(|reply| reply.is_temporary());
    if let Some(reply) = temporary.or(refused.first()) {
        return reply.clone();
    }
    let mut ids: Vec<&str> = Vec::new();
    let mut outcomes = Vec::new();
    for answer in answers {
        if let Answer::Taken { id, verdict, stage } = answer {
            ids.push(id);
            outcomes.push((*verdict, *stage));
        }
    }
    ids.dedup();
    let (Some(recipient), Some(&(verdict, stage))) = (recipients.first(), outcomes.first()) else {
        return Reply::new(451, 3, 0, "internal error");
    };
    let agreed = outcomes.iter().all(|(other, _)| *other == verdict);
    let same_stage = outcomes.iter().all(|(_, other)| *other == stage);
    match (agreed, recipients) {
        (true, [_]) => taken(recipient, &ids, verdict, stage),
        (true, _) => taken_by_all(&ids, verdict, stage.filter(|_| same_stage)),
        (false, _) => taken_by_all(&ids, "mixed", None),
    }
}

/// Ids that a reply of several recipients names, one `q=` each.
const IDS_NAMED: usize = 8;

fn taken_by_all(ids: &[&str], verdict: &str, stage: Option<&str>) -> Reply {
    Reply::new(250, 0, 0, outcome(ids, verdict, stage))
}

fn outcome(ids: &[&str], verdict: &str, stage: Option<&str>) -> String {
    let mut text = String::new();
    for id in ids.iter().take(IDS_NAMED) {
        text.extend(["q=", id, " "]);
    }
    text.extend(["verdict=", verdict]);
    if let Some(stage) = stage {
        text.extend([" stage=", stage]);
    }
    text
}

fn taken(recipient: &Address, ids: &[&str], verdict: &str, stage: Option<&str>) -> Reply {
    let recipient = recipient.to_string();
    let recipient = escape(&recipient);
    // Escaped, it is ASCII.
    let shown = recipient.get(..200).unwrap_or(&recipient);
    let text = ["<", shown, "> ", &outcome(ids, verdict, stage)].concat();
    Reply::new(250, 0, 0, text)
}
