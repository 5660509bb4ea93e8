//! The first step: what must outlive the reply becomes mail files, named by nothing yet and so never
//! sent. What an earlier try of the same hand-off left goes before ([`Store::clear_prepared`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::replies::Replies;
use super::{Effects, Executor, Mail, Task, mail_header, store_reply};
use crate::mail::Octets;
use crate::policy::Action;
use crate::smtp::Reply;
use crate::store::{Draft, FileEntry, Store, StoreError, blocking};

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
        let under_way = mail.clone();
        let work = blocking(move || Ok(prepare(&store, &replies, &mail, &of, &received)));
        let ((mut results, mut effects), files) = match work.await {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::error!(%error, "a mail could not be prepared");
                return all(tasks, &Err(store_reply(&error)));
            }
        };
        let begin = |file: NewFile| {
            (
                self.store.write_draft(file.draft, under_way.clone()),
                file.of,
            )
        };
        let begun: Vec<_> = files.into_iter().map(begin).collect();
        for (written, of) in begun {
            if let Err(error) = written.await {
                not_written(of, &error, &mut results, &mut effects);
            }
        }
        (results, effects)
    }
}

/// A mail file to be written, and whose.
struct NewFile {
    draft: Draft,
    of: Of,
}

#[derive(Clone, Copy)]
enum Of {
    /// The mail itself: all those that hold it or send it on.
    Original,
    /// A letter of the task at this place.
    Letter(usize),
}

/// What goes with a file that is not to be had.
fn not_written(
    of: Of,
    error: &StoreError,
    results: &mut [Result<(), Reply>],
    effects: &mut [Effects],
) {
    tracing::error!(%error, "mail file not written");
    for (place, (result, effects)) in results.iter_mut().zip(effects).enumerate() {
        let concerned = match of {
            Of::Original => effects.needs_original(),
            Of::Letter(task) => task == place,
        };
        if concerned {
            *result = Err(store_reply(error));
            *effects = Effects::default();
        }
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
) -> (Prepared, Vec<NewFile>) {
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
    let mut files = Vec::new();
    if let Err(error) = originals(store, mail, tasks, &effects, received, &mut files) {
        files.clear();
        not_written(Of::Original, &error, &mut results, &mut effects);
    }
    for place in 0..effects.len() {
        if let Err(error) = letters(store, mail, place, &effects, &mut files) {
            not_written(Of::Letter(place), &error, &mut results, &mut effects);
        }
    }
    ((results, effects), files)
}

/// What all tasks leave behind; letters quote the mail, so it is being read where there may be some.
fn all_effects(store: &Store, replies: &Replies, mail: &Mail, tasks: &[Task]) -> Prepared {
    let mut actions = tasks.iter().flat_map(|task| &task.plan.actions);
    let quotes = actions.any(|action| !matches!(action, Action::Redirect { .. }));
    let _reading = quotes.then(|| store.reading(&mail.digest, mail.received_at));
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
fn originals(
    store: &Store,
    mail: &Mail,
    tasks: &[Task],
    effects: &[Effects],
    received: &[u8],
    files: &mut Vec<NewFile>,
) -> Result<(), StoreError> {
    let mut entries: BTreeMap<Vec<u8>, Vec<FileEntry>> = BTreeMap::new();
    for (task, effects) in tasks.iter().zip(effects) {
        if let Some(held) = &effects.held {
            let entry = FileEntry::Quarantine(held.clone());
            entries.entry(received.to_vec()).or_default().push(entry);
        }
        if !effects.forwards.is_empty() {
            let lines = task.scanned.lines(&task.plan, &task.mailbox.policy);
            let trace = [received, &lines].concat();
            let forwards = effects.forwards.iter().cloned().map(FileEntry::Outgoing);
            entries.entry(trace).or_default().extend(forwards);
        }
    }
    let mut entries = entries.iter();
    entries.try_for_each(|(trace, entries)| original(store, mail, entries, trace, files))
}

fn original(
    store: &Store,
    mail: &Mail,
    entries: &[FileEntry],
    trace: &[u8],
    files: &mut Vec<NewFile>,
) -> Result<(), StoreError> {
    let header = mail_header(mail, entries.to_vec(), trace);
    match store.draft(&header, vec![mail.raw.clone()]) {
        Err(StoreError::TooLarge(_)) if entries.len() > 1 => {
            let (some, others) = entries.split_at(entries.len() / 2);
            original(store, mail, some, trace, files)?;
            original(store, mail, others, trace, files)
        }
        draft => {
            let of = Of::Original;
            files.push(NewFile { draft: draft?, of });
            Ok(())
        }
    }
}

fn letters(
    store: &Store,
    mail: &Mail,
    place: usize,
    effects: &[Effects],
    files: &mut Vec<NewFile>,
) -> Result<(), StoreError> {
    let letters = effects
        .get(place)
        .map_or(&[] as &[_], |effects| &effects.letters);
    for letter in letters {
        let header = mail_header(mail, vec![letter.entry()], &[]);
        let pieces = letter.pieces.iter().cloned().map(Octets::from);
        let draft = store.draft(&header, pieces.collect())?;
        let of = Of::Letter(place);
        files.push(NewFile { draft, of });
    }
    Ok(())
}
