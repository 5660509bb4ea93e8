//! What a plan leaves behind besides the delivery: a held original, forwards, letters of our own.

use bytes::Bytes;
use serde_json::{Value, json};

use super::letters;
use super::replies::{Replies, Turn};
use super::{Mail, Task};
use crate::deliver::Accepted;
use crate::mail::Address;
use crate::policy::{Action, Class, Verdict};
use crate::store::{
    Batch, Claim, FileEntry, Id, OutgoingItem, OutgoingKind, OutgoingState, QuarantineEntry,
    QuarantineState, SeenKey, Store, StoreError, beginning,
};

/// Octets of addresses in one outgoing mail: its record fits into the index with so many.
const TARGETS: usize = 2500;
/// Outgoing mails, waiting or given up, beyond which none is added: a mail that must be forwarded or
/// reported is put off with `452 4.3.1`, a notice or reply is left out.
const OUTGOING: u64 = 100_000;
/// The same for one mailbox: a tenth, so that one whose mail the relay refuses leaves room for the
/// others, while a relay that is down for a day fills it for no ordinary mailbox.
const OUTGOING_OF_A_MAILBOX: u64 = 10_000;

/// The effects of one task, prepared and not yet named in the index.
#[derive(Debug, Default)]
pub struct Effects {
    /// The original, held.
    pub held: Option<QuarantineEntry>,
    /// The original, sent on.
    pub forwards: Vec<OutgoingItem>,
    /// Mail that we wrote.
    pub letters: Vec<Letter>,
    /// For each auto-reply the 24 h mark that goes into the ledger with the commit, and its place
    /// in this hour.
    claims: Vec<(Claim, Turn)>,
    /// The mail is in the mailbox, and where.
    pub delivered: Option<Accepted>,
    /// Letters that are not written: what, to whom, why not.
    left_out: Vec<(OutgoingKind, Vec<String>, &'static str)>,
}

/// One mail of ours.
#[derive(Debug)]
pub struct Letter {
    /// Its entry in the outgoing queue.
    pub item: OutgoingItem,
    /// Its octets, one piece after the other. Those of a mail that it encloses are shared with it.
    pub pieces: Vec<Bytes>,
}

impl Letter {
    /// Its entry in its file's header.
    pub fn entry(&self) -> FileEntry {
        FileEntry::Outgoing(self.item.clone())
    }
}

impl Effects {
    /// `task` leaves nothing behind, whatever the store says.
    pub fn are_none(task: &Task) -> bool {
        task.plan.class.is_none() && task.plan.actions.is_empty()
    }

    /// What `task` leaves behind. A reply to a sender who had one within the window, or one too many
    /// in this hour, is left out.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn of(
        task: &Task,
        mail: &Mail,
        store: &Store,
        replies: &Replies,
    ) -> Result<Self, StoreError> {
        let mut effects = Self {
            held: task
                .plan
                .class
                .filter(|class| {
                    task.plan.verdict == Verdict::Quarantine || keeps_original(*class, mail)
                })
                .map(|class| held(task, mail, class)),
            ..Self::default()
        };
        for action in &task.plan.actions {
            let waiting = store.outgoing_count_of(&task.mailbox.key);
            if store.outgoing_count() < OUTGOING && waiting < OUTGOING_OF_A_MAILBOX {
                effects.add(task, mail, store, replies, action)?;
            } else if let Some((kind, to)) = letter(task, action) {
                tracing::warn!(id = %task.id, kind = kind.as_str(), "left out: the outgoing queue is full");
                effects.leave_out(kind, to, "the outgoing queue is full");
            } else {
                return Err(StoreError::Full("the outgoing queue".into()));
            }
        }
        Ok(effects)
    }

    fn add(
        &mut self,
        task: &Task,
        mail: &Mail,
        store: &Store,
        replies: &Replies,
        action: &Action,
    ) -> Result<(), StoreError> {
        let owner = &task.mailbox.policy.mailbox;
        match action {
            Action::Redirect { to, keep_copy } => {
                let forward = |to: &[Address]| OutgoingItem {
                    sender: mail.envelope.sender.to_string(),
                    copy_kept: *keep_copy,
                    smtputf8: mail.envelope.smtputf8,
                    eight_bit: mail.envelope.eight_bit,
                    ..outgoing(task, mail, OutgoingKind::Forward, to)
                };
                self.forwards.extend(lots(to).into_iter().map(forward));
            }
            Action::Notify { to, .. } if task.scanned.is_unspeakable() => {
                let to = to.iter().map(ToString::to_string).collect();
                self.leave_out(
                    OutgoingKind::Notify,
                    to,
                    "nothing of the mail may be quoted",
                );
            }
            Action::Notify { to, fields } => {
                for address in to {
                    self.write(task, mail, OutgoingKind::Notify, address, |id| {
                        letters::receipt_notice(task, mail, id, address, fields)
                    });
                }
            }
            Action::AutoReply {
                to,
                subject,
                message,
                window,
            } => {
                let window = window.saturating_mul(1000);
                match may_reply(task, to, mail, store, replies, window)? {
                    Ok(claimed) => self.claims.push(claimed),
                    Err(reason) => {
                        self.leave_out(OutgoingKind::AutoReply, vec![to.to_string()], reason);
                        return Ok(());
                    }
                }
                self.write(task, mail, OutgoingKind::AutoReply, to, |id| {
                    letters::auto_reply(task, mail, id, to, subject, message)
                });
            }
            Action::ReportVirus { name } => {
                let to = std::slice::from_ref(owner);
                let item = outgoing(task, mail, OutgoingKind::VirusReport, to);
                let held = self.held.as_ref();
                let pieces = letters::virus_report(task, mail, item.id, name, held);
                self.letters.push(Letter { item, pieces });
            }
            Action::QuarantineNotice => {
                if let Some(held) = self.held.clone() {
                    self.write(task, mail, OutgoingKind::QuarantineNotice, owner, |id| {
                        letters::quarantine_notice(task, mail, id, &held)
                    });
                }
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        task: &Task,
        mail: &Mail,
        kind: OutgoingKind,
        to: &Address,
        compose: impl FnOnce(Id) -> Vec<u8>,
    ) {
        let item = outgoing(task, mail, kind, std::slice::from_ref(to));
        let pieces = vec![compose(item.id).into()];
        self.letters.push(Letter { item, pieces });
    }

    fn leave_out(&mut self, kind: OutgoingKind, to: Vec<String>, reason: &'static str) {
        self.left_out.push((kind, to, reason));
    }

    /// Nothing must outlive the reply.
    pub fn is_empty(&self) -> bool {
        self.held.is_none() && self.forwards.is_empty() && self.letters.is_empty()
    }

    /// Something of it needs the original's octets.
    pub fn needs_original(&self) -> bool {
        self.held.is_some() || !self.forwards.is_empty()
    }

    /// All outgoing mail.
    pub fn outgoing(&self) -> impl Iterator<Item = &OutgoingItem> {
        self.forwards
            .iter()
            .chain(self.letters.iter().map(|letter| &letter.item))
    }

    /// Puts everything into the batch that makes it real.
    pub fn name(&mut self, batch: &mut Batch) {
        if let Some(held) = &self.held {
            batch.put_quarantine(held);
        }
        for item in self.outgoing() {
            batch.put_outgoing(&OutgoingItem {
                state: OutgoingState::Ready,
                ..item.clone()
            });
        }
        for (claim, turn) in self.claims.drain(..) {
            batch.mark_seen(claim);
            turn.spend();
        }
    }

    /// All of it as the why-record lists it, before anything is sent.
    pub fn listed(&self) -> Vec<Value> {
        let held = self.held.iter().map(|held| {
            json!({"id": held.id, "kind": "quarantine", "to": [held.mailbox], "state": "held", "reply": null})
        });
        let sent = self.outgoing().map(|item| {
            json!({"id": item.id, "kind": item.kind, "to": item.recipients, "state": "ready", "reply": null})
        });
        let left_out = self.left_out.iter().map(|(kind, to, reason)| {
            json!({"id": null, "kind": kind, "to": to, "state": "left_out", "reply": reason})
        });
        held.chain(sent).chain(left_out).collect()
    }
}

/// The right to one reply, or why there is none.
fn may_reply(
    task: &Task,
    to: &Address,
    mail: &Mail,
    store: &Store,
    replies: &Replies,
    window: i64,
) -> Result<Result<(Claim, Turn), &'static str>, StoreError> {
    let key = SeenKey::new(&task.mailbox.key, "auto_reply", &to.key());
    let Some(claim) = store.claim(key, mail.received_at, window)? else {
        return Ok(Err("had a reply within the interval"));
    };
    let Some(turn) = replies.turn(&task.mailbox.key, mail.received_at) else {
        tracing::warn!(id = %task.id, "left out: too many auto-replies in this hour");
        return Ok(Err("too many replies in this hour"));
    };
    Ok(Ok((claim, turn)))
}

/// What and to whom, of what may be left out; none of what must be sent.
fn letter(task: &Task, action: &Action) -> Option<(OutgoingKind, Vec<String>)> {
    match action {
        Action::Notify { to, .. } => {
            let to = to.iter().map(ToString::to_string).collect();
            Some((OutgoingKind::Notify, to))
        }
        Action::AutoReply { to, .. } => Some((OutgoingKind::AutoReply, vec![to.to_string()])),
        Action::QuarantineNotice => {
            let owner = task.mailbox.policy.mailbox.to_string();
            Some((OutgoingKind::QuarantineNotice, vec![owner]))
        }
        Action::Redirect { .. } | Action::ReportVirus { .. } => None,
    }
}

/// Targets in as few lots as their records allow.
fn lots(to: &[Address]) -> Vec<&[Address]> {
    let mut lots = Vec::new();
    let mut rest = to;
    while !rest.is_empty() {
        let mut room = TARGETS;
        let fits = rest.iter().take_while(|address| {
            let octets = address.as_str().len();
            let fits = octets <= room;
            room = room.saturating_sub(octets);
            fits
        });
        let (lot, after) = rest.split_at(fits.count().max(1));
        lots.push(lot);
        rest = after;
    }
    lots
}

fn keeps_original(class: Class, mail: &Mail) -> bool {
    class != Class::Virus || mail.config.scanners.keep_original
}

fn held(task: &Task, mail: &Mail, class: Class) -> QuarantineEntry {
    let plan = &task.plan;
    let retention = i64::try_from(mail.config.quarantine.retention.as_millis()).unwrap_or(i64::MAX);
    QuarantineEntry {
        id: task.id,
        mailbox: task.mailbox.key.clone(),
        stage: plan.stage.map_or("", |stage| stage.as_str()).to_owned(),
        class: class.as_str().to_owned(),
        entry: plan.hit.as_ref().map(|hit| hit.entry.clone()),
        origin: plan
            .hit
            .as_ref()
            .and_then(|hit| hit.origin.as_ref())
            .map(ToString::to_string),
        sender: mail.envelope.sender.to_string(),
        from: beginning(&mail.message.from_text).to_owned(),
        subject: beginning(mail.message.subject_text()).to_owned(),
        size: mail.message.size,
        received_at: mail.received_at,
        expires_at: mail.received_at.saturating_add(retention),
        state: QuarantineState::Held,
        release_to: None,
        handoff: Some(task.key),
    }
}

fn outgoing(task: &Task, mail: &Mail, kind: OutgoingKind, to: &[Address]) -> OutgoingItem {
    let mailbox = task.mailbox.key.clone();
    let to = to.iter().map(ToString::to_string).collect();
    let (now, give_up) = (mail.received_at, mail.config.relay.retry.give_up);
    OutgoingItem {
        state: OutgoingState::Held,
        handoff: Some(task.key),
        ..OutgoingItem::new(Id::new(now), kind, mailbox, to, now, give_up)
    }
}
