//! Opening and its recoveries: the index is made anew from the mail files when it is damaged, what
//! a crash interrupted goes on or is dropped, and `verify` compares both sides.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::batch::tag;
use super::census::Census;
use super::holders;
use super::index::Index;
use super::mailfile::{Mails, sync_folder};
use super::opening::{Found, Place};
use super::prepared::Prepared;
use super::{
    Answer, Batch, FileEntry, Handoff, HandoffKey, Id, MailHeader, OpenReport, OutgoingItem,
    OutgoingKind, OutgoingState, QuarantineEntry, QuarantineState, RebuildReport, Shelf, Store,
    StoreError, VerifyReport, room_at,
};

/// Entries that a rebuild puts into one commit.
const CHUNK: usize = 256;

/// Octets of the disk that an entry takes for the time being when it is listed by its mailbox.
const LISTED: u64 = 1024;

/// The index, and what opening it found.
pub(crate) struct Opened {
    pub(crate) index: Index,
    pub(crate) report: OpenReport,
    /// Notices and replies that may have been sent: they are to be removed.
    pub(crate) in_doubt: Vec<OutgoingItem>,
    /// Files without an entry.
    pub(crate) orphans: Vec<(Shelf, Id)>,
}

/// Opens the index, or makes it anew where it is missing or damaged, and takes up what a crash
/// interrupted.
pub(crate) fn open(
    place: &Place,
    mails: &Mails,
    prepared: &Prepared,
    now: i64,
) -> Result<Opened, StoreError> {
    let mut report = OpenReport::default();
    let (index, found) = match Index::open(place) {
        Err(StoreError::Damaged(what)) => {
            tracing::error!(
                what,
                "the index is damaged and is made anew from the mail files"
            );
            let moved_to = move_aside(&place.dir, now)?;
            let (index, _) = Index::open(place)?;
            report.rebuilt = Some(rebuild(&index, place, mails, Some(moved_to), now)?);
            (index, Found::default())
        }
        Ok((index, Some(found))) if found.unsure || under_way(place).exists() => {
            tracing::error!(
                "{} cannot be read, or the index was being made anew: mail files that it does not name are taken over",
                place.seq.display()
            );
            let taken = rebuild(&index, place, mails, None, now)?;
            report.rebuilt = (taken != RebuildReport::default()).then_some(taken);
            (index, found)
        }
        Ok((index, Some(found))) => (index, found),
        Ok((index, None)) => {
            let rebuilt = rebuild(&index, place, mails, None, now)?;
            report.rebuilt = (rebuilt != RebuildReport::default()).then_some(rebuilt);
            (index, Found::default())
        }
        Err(error) => return Err(error),
    };
    if found.unlisted {
        let entries = found.named(Shelf::Quarantine).count();
        report.unlisted = !room_at(&place.dir, entries.saturating_mul(LISTED));
        if report.unlisted {
            tracing::error!("no room to list held mail by mailbox: daily notices wait");
        } else {
            holders::list_anew(&index)?;
        }
    }
    let mut orphans = Vec::new();
    for shelf in Shelf::ALL {
        orphans.extend(unnamed(&index, mails, shelf, found.named(shelf))?);
    }
    report.orphans = u64::try_from(orphans.len()).unwrap_or(u64::MAX);
    for (shelf, id) in &orphans {
        note_orphan(mails, prepared, *shelf, *id);
    }
    let (in_doubt, unsent): (Vec<_>, Vec<_>) = found
        .sending
        .into_iter()
        .partition(|item| item.state == OutgoingState::Transmitting);
    resume(&index, unsent, now, &mut report)?;
    report.releasing = found.releasing;
    let opened = Opened {
        index,
        report,
        in_doubt,
        orphans,
    };
    Ok(opened)
}

/// The files of a shelf without an entry. To look each one up costs a page of the index for each; so only those
/// are whose group is not among the entries as it is among the files.
pub(super) fn unnamed(
    index: &Index,
    mails: &Mails,
    shelf: Shelf,
    named: &Census,
) -> Result<Vec<(Shelf, Id)>, StoreError> {
    let mut there = Census::default();
    for file in mails.walk(shelf) {
        there.add(file?.0);
    }
    let mut unnamed = Vec::new();
    if there == *named {
        return Ok(unnamed);
    }
    for file in mails.walk(shelf) {
        let (id, _) = file?;
        if !there.agrees(named, id) && !index.has_file(shelf, id)? {
            unnamed.push((shelf, id));
        }
    }
    Ok(unnamed)
}

/// A file without an entry is what a hand-off prepared before it broke off: its retry clears it.
fn note_orphan(mails: &Mails, prepared: &Prepared, shelf: Shelf, id: Id) {
    let header = mails.read_header(shelf, id).ok();
    let entry = header.as_ref().and_then(|header| header.entry(shelf, id));
    if let Some(key) = entry.and_then(FileEntry::handoff) {
        prepared.note(key, (shelf, id));
    }
}

/// Takes over every mail file that the index does not name. An empty index becomes whole with its
/// first commit, which comes even where there is no file.
///
/// A file may have its name and not its octets, or not on the disk yet: a crash came before its sync.
/// An entry, and the hand-off with it, says that the mail is ours for good, so only a file that is whole
/// gets one, and the disk has all of them and their names before the first commit.
///
/// A mark stands from before the first commit to behind the last: a start that finds it goes on.
fn rebuild(
    index: &Index,
    place: &Place,
    mails: &Mails,
    moved_to: Option<PathBuf>,
    now: i64,
) -> Result<RebuildReport, StoreError> {
    let mut report = RebuildReport {
        moved_to,
        ..RebuildReport::default()
    };
    let (mut unnamed, mut settled) = (Vec::new(), HashSet::new());
    for shelf in Shelf::ALL {
        for file in mails.walk(shelf) {
            let (id, _) = file?;
            if !index.has_file(shelf, id)? {
                unnamed.push((shelf, id, mails.settle(shelf, id, &mut settled)?));
            }
        }
    }
    let mark = under_way(place);
    if !unnamed.is_empty() {
        mails.sync_folders()?;
        File::create(&mark).map_err(|error| StoreError::io(&mark, error))?;
        mark.parent().map_or(Ok(()), sync_folder)?;
    }
    let mut batch = Batch::new();
    for (shelf, id, whole) in unnamed {
        let header = whole.then(|| mails.read_header(shelf, id).ok()).flatten();
        adopt(
            mails,
            shelf,
            id,
            header.as_ref(),
            now,
            &mut batch,
            &mut report,
        )?;
        if batch.changes.len() >= CHUNK {
            index.commit_blocking(std::mem::take(&mut batch))?;
        }
    }
    index.commit_blocking(batch)?;
    match fs::remove_file(&mark) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io(&mark, error)),
        _ => Ok(report),
    }
}

/// The mark of a rebuild.
fn under_way(place: &Place) -> PathBuf {
    place.dir.with_file_name("index.rebuilding")
}

/// The entry of one file as it was written. Whether it was ever committed nobody knows, so mail goes
/// out, notices and replies do not (RELIABILITY C14).
fn adopt(
    mails: &Mails,
    shelf: Shelf,
    id: Id,
    header: Option<&MailHeader>,
    now: i64,
    batch: &mut Batch,
    report: &mut RebuildReport,
) -> Result<(), StoreError> {
    let entry = header.and_then(|header| header.entry(shelf, id));
    if let (Some(header), Some(entry)) = (header, entry)
        && let Some((key, handoff)) = answered(mails, header, entry)
    {
        batch.put_handoff(&key, &handoff);
    }
    match entry {
        Some(FileEntry::Quarantine(entry)) => {
            batch.put_quarantine(&QuarantineEntry {
                state: QuarantineState::Held,
                ..entry.clone()
            });
            report.quarantine += 1;
        }
        Some(FileEntry::Outgoing(item)) if item.kind.at_most_once() => {
            mails.remove(shelf, id)?;
            report.dropped += 1;
        }
        Some(FileEntry::Outgoing(item)) => {
            batch.put_outgoing(&ready(item.clone(), now));
            report.outgoing += 1;
        }
        None => {
            let path = mails.path(shelf, id);
            tracing::error!(path = %path.display(), "a mail file cannot be read or is not whole");
            report.unreadable.push(path);
        }
    }
    Ok(())
}

/// The hand-off of an adopted entry, where what its files hold is all there was to do: its retry must
/// not do it once more. Where a copy was to be delivered too, or a report, only the retry can do that.
fn answered(
    mails: &Mails,
    header: &MailHeader,
    adopted: &FileEntry,
) -> Option<(HandoffKey, Handoff)> {
    let key = adopted.handoff()?;
    let (mut outgoing, mut quarantine) = (Vec::new(), None);
    for entry in &header.entries {
        if entry.handoff() != Some(key) {
            continue;
        }
        match entry {
            FileEntry::Quarantine(held) if held.class != "virus" => quarantine = Some(held),
            FileEntry::Outgoing(item) if item.kind == OutgoingKind::Forward && !item.copy_kept => {
                outgoing.push(item.id);
            }
            _ => return None,
        }
        if !mails.path(entry.shelf(), entry.id()).exists() {
            return None;
        }
    }
    let answer = Answer {
        id: adopted.id(),
        verdict: quarantine.map_or("forward", |_| "quarantine").to_owned(),
        stage: quarantine.map(|held| held.stage.clone()),
    };
    let handoff = Handoff {
        answer,
        outgoing,
        quarantine: quarantine.map(|held| held.id),
        created_at: header.received_at,
    };
    Some((key, handoff))
}

/// What was being sent, and has not left or may leave twice, is sent again (C10).
fn resume(
    index: &Index,
    unsent: Vec<OutgoingItem>,
    now: i64,
    report: &mut OpenReport,
) -> Result<(), StoreError> {
    if unsent.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new();
    for item in unsent {
        batch.put_outgoing(&ready(item, now));
        report.resumed += 1;
    }
    index.commit_blocking(batch)
}

fn ready(item: OutgoingItem, now: i64) -> OutgoingItem {
    OutgoingItem {
        state: OutgoingState::Ready,
        next_attempt_at: now,
        ..item
    }
}

/// Keeps the damaged index for people to look at.
fn move_aside(dir: &Path, now: i64) -> Result<PathBuf, StoreError> {
    let name = format!("index.bad-{}", Id::new(now));
    let to = dir.with_file_name(name);
    fs::rename(dir, &to).map_err(|error| StoreError::io(dir, error))?;
    dir.parent().map_or(Ok(()), sync_folder)?;
    Ok(to)
}

impl Store {
    /// Reads every entry and every file with its checksums. Takes as long as the disk needs; what
    /// comes and goes meanwhile may show up as a problem.
    ///
    /// # Errors
    /// Those that keep it from looking; what it finds is in the report.
    pub fn verify(&self) -> Result<VerifyReport, StoreError> {
        let mut report = VerifyReport::default();
        for entry in self
            .0
            .index
            .records::<QuarantineEntry>(tag::QUARANTINE, b"")
        {
            report.quarantine += 1;
            self.verify_file(Shelf::Quarantine, entry.map(|entry| entry.id), &mut report);
        }
        for item in self.outgoing_list() {
            report.outgoing += 1;
            self.verify_file(Shelf::Outgoing, item.map(|item| item.id), &mut report);
        }
        for shelf in Shelf::ALL {
            for file in self.0.mails.walk(shelf) {
                let (id, path) = file?;
                report.files += 1;
                report.bytes += path.metadata().map_or(0, |metadata| metadata.len());
                if !self.0.index.has_file(shelf, id)? {
                    report.orphans.push(path);
                }
            }
        }
        Ok(report)
    }

    fn verify_file(&self, shelf: Shelf, id: Result<Id, StoreError>, report: &mut VerifyReport) {
        let problem = id.and_then(|id| {
            let (header, _) = self.0.mails.read(shelf, id)?;
            let entry = header.entry(shelf, id);
            entry.map(drop).ok_or_else(|| {
                let path = self.0.mails.path(shelf, id);
                StoreError::Damaged(format!("{}: names no such entry", path.display()))
            })
        });
        if let Err(error) = problem {
            report.problems.push(error.to_string());
        }
    }
}
