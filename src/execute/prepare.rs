//! The first step: what must outlive the reply becomes mail files, named by nothing yet and so never
//! sent. What an earlier try of the same hand-off left goes before ([`Store::clear_prepared`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::replies::Replies;
use super::{Effects, Executor, Mail, Task, mail_header, store_reply};
use crate::smtp::Reply;
use crate::store::{FileEntry, Store, StoreError, blocking};

/// One result and the effects for each task.
pub(super) type Prepared = (Vec<Result<(), Reply>>, Vec<Effects>);

impl Executor {
    pub(super) async fn prepare(
        &self,
        mail: &Arc<Mail>,
        tasks: &Arc<[Task]>,
        received: &[u8],
    ) -> Prepared {
        let is_nothing =
            |task: &Task| Effects::are_none(task) && !self.store.is_prepared(&task.key);
        if tasks.iter().all(is_nothing) {
            return all(tasks, &Ok(()));
        }
        // The mail keeps its hand-offs under way until the last file is written, also where nobody
        // waits for that any more.
        let (store, replies) = (self.store.clone(), self.replies.clone());
        let (mail, of, received) = (mail.clone(), tasks.clone(), received.to_vec());
        let work = blocking(move || Ok(prepare(&store, &replies, &mail, &of, &received)));
        work.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a mail could not be prepared");
            all(tasks, &Err(store_reply(&error)))
        })
    }
}

/// The same result for all, and no effects.
pub(super) fn all(tasks: &[Task], result: &Result<(), Reply>) -> Prepared {
    let effects = tasks.iter().map(|_| Effects::default()).collect();
    (vec![result.clone(); tasks.len()], effects)
}

fn prepare(
    store: &Store,
    replies: &Replies,
    mail: &Mail,
    tasks: &[Task],
    received: &[u8],
) -> Prepared {
    for task in tasks {
        if let Err(error) = store.clear_prepared(&task.key) {
            tracing::warn!(%error, "files of an earlier try stay behind");
        }
    }
    let (mut results, mut effects) = all_effects(store, replies, mail, tasks);
    let held: u64 = effects
        .iter()
        .filter_map(|effects| effects.held.as_ref())
        .map(|held| held.size)
        .sum();
    if held > 0 && !store.quarantine_has_room(held) {
        for (result, effects) in results.iter_mut().zip(&mut effects) {
            if effects.held.is_some() {
                *result = Err(Reply::new(452, 3, 1, "quarantine is full"));
                *effects = Effects::default();
            }
        }
    }
    if let Err(error) = write_original(store, mail, tasks, &effects, received) {
        tracing::error!(%error, "mail file not written");
        for (result, effects) in results.iter_mut().zip(&mut effects) {
            if effects.needs_original() {
                *result = Err(store_reply(&error));
                *effects = Effects::default();
            }
        }
    }
    for (result, effects) in results.iter_mut().zip(&mut effects) {
        if let Err(error) = write_letters(store, mail, effects) {
            tracing::error!(%error, "letter not written");
            *result = Err(store_reply(&error));
        }
    }
    (results, effects)
}

/// What all tasks leave behind; letters quote the mail, so it is being read.
fn all_effects(store: &Store, replies: &Replies, mail: &Mail, tasks: &[Task]) -> Prepared {
    let _reading = store.reading(&mail.digest, mail.received_at);
    tasks
        .iter()
        .map(|task| match Effects::of(task, mail, store, replies) {
            Ok(effects) => (Ok(()), effects),
            Err(error) => {
                tracing::error!(%error, "effects not prepared");
                (Err(store_reply(&error)), Effects::default())
            }
        })
        .unzip()
}

/// One file for all quarantine entries and forwards of the mail; more where the lines before it
/// differ, or it has so many recipients that a header cannot name them all.
fn write_original(
    store: &Store,
    mail: &Mail,
    tasks: &[Task],
    effects: &[Effects],
    received: &[u8],
) -> Result<(), StoreError> {
    let mut files: BTreeMap<Vec<u8>, Vec<FileEntry>> = BTreeMap::new();
    for (task, effects) in tasks.iter().zip(effects) {
        if let Some(held) = &effects.held {
            let entry = FileEntry::Quarantine(held.clone());
            files.entry(received.to_vec()).or_default().push(entry);
        }
        if !effects.forwards.is_empty() {
            let lines = task.scanned.lines(&task.plan, &task.mailbox.policy);
            let trace = [received, &lines].concat();
            let forwards = effects.forwards.iter().cloned().map(FileEntry::Outgoing);
            files.entry(trace).or_default().extend(forwards);
        }
    }
    let mut files = files.iter();
    files.try_for_each(|(trace, entries)| write_file(store, mail, entries, trace))
}

fn write_file(
    store: &Store,
    mail: &Mail,
    entries: &[FileEntry],
    trace: &[u8],
) -> Result<(), StoreError> {
    match store.write_octets(&mail_header(mail, entries.to_vec(), trace), &mail.raw) {
        Err(StoreError::TooLarge(_)) if entries.len() > 1 => {
            let (some, others) = entries.split_at(entries.len() / 2);
            write_file(store, mail, some, trace)?;
            write_file(store, mail, others, trace)
        }
        written => written,
    }
}

fn write_letters(store: &Store, mail: &Mail, effects: &Effects) -> Result<(), StoreError> {
    effects.letters.iter().try_for_each(|letter| {
        let pieces: Vec<&[u8]> = letter.pieces.iter().map(AsRef::as_ref).collect();
        store.write_mail(&mail_header(mail, vec![letter.entry()], &[]), &pieces)
    })
}
