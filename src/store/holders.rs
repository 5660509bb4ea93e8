//! Held mail by mailbox, and how far its owner was told of it by daily notices.
//!
//! The committer keeps for each quarantine entry a key that begins with its mailbox and whose value
//! is the number of the commit that brought it. So "new" needs no clock: what came with a later
//! commit than the owner was told up to is new, whenever it says it was received. The mark of a
//! mailbox is made durable in the commit that queues its notice. `quarantine list` of one mailbox
//! reads the same keys.

use super::batch::{self, Batch, tag};
use super::facts::{self, NAME};
use super::index::Index;
use super::record::checksum;
use super::totals::Totals;
use super::{Id, QuarantineEntry, Store, StoreError};

/// Octets of the value of a mailbox's list.
pub(super) const NUMBER: usize = 12;
/// Keys that are written or removed in one commit.
const CHUNK: usize = 1000;

/// A mailbox that has held mail, or had some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder([u8; NAME]);

impl Holder {
    /// The mailbox of that name.
    pub fn of(mailbox: &str) -> Self {
        Self(facts::name(mailbox))
    }
}

/// How far an owner was told of his held mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The number of the last commit whose mail was told of.
    pub commit: u64,
    /// The round that told it.
    pub round: i64,
}

impl Store {
    /// The number of the last commit that is visible. What is read after this call has all of it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn commits(&self) -> Result<u64, StoreError> {
        commits(&self.0.index)
    }

    /// The next mailbox with held mail behind `after`, in no order that means anything; with `None`
    /// the first.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn next_holder(&self, after: Option<Holder>) -> Result<Option<Holder>, StoreError> {
        let mut last = after;
        while let Some(holder) = self.next_named(last)? {
            if self.holds(holder)? {
                return Ok(Some(holder));
            }
            last = Some(holder);
        }
        Ok(None)
    }

    /// Removes the marks of mailboxes that hold nothing any more: what comes to them is new
    /// without one. Not while owners are being told.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn forget_told(&self) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let mut last = None;
        while let Some(holder) = self.next_named(last)? {
            if !self.holds(holder)? {
                batch.remove_key(mark(holder));
                flush(&self.0.index, &mut batch, CHUNK)?;
            }
            last = Some(holder);
        }
        flush(&self.0.index, &mut batch, 1)
    }

    /// The next mailbox that has an entry or a mark.
    fn next_named(&self, after: Option<Holder>) -> Result<Option<Holder>, StoreError> {
        let mut from = after.map_or_else(|| vec![tag::HOLDER], end);
        while let Some(key) = self.0.index.first_between(&from, &[tag::HOLDER + 1])? {
            match split(&key) {
                Some((holder, _)) => return Ok(Some(holder)),
                None => from = [key.as_ref(), [0].as_slice()].concat(),
            }
        }
        Ok(None)
    }

    fn holds(&self, holder: Holder) -> Result<bool, StoreError> {
        let entry = self.0.index.first_between(&first(holder), &end(holder))?;
        Ok(entry.is_some())
    }

    /// What a mailbox holds, with the number of the commit that brought each, in the order of time,
    /// read as it is asked for. An entry that cannot be read is an error in its place.
    pub fn held_by(
        &self,
        holder: Holder,
    ) -> impl Iterator<Item = Result<(u64, QuarantineEntry), StoreError>> + Send + use<> {
        self.listed(holder, first(holder)).map(|read| {
            let (commit, entry) = read?;
            Ok((commit.ok_or_else(damaged)?, entry))
        })
    }

    /// The entries of a mailbox's list from an id on, in the order of time, read as they are asked
    /// for.
    pub(super) fn listed_since(
        &self,
        mailbox: &str,
        since: Id,
    ) -> impl Iterator<Item = Result<QuarantineEntry, StoreError>> + Send + use<> {
        let holder = Holder::of(mailbox);
        let entries = self.listed(holder, key_in(holder, since));
        entries.map(|read| read.map(|(_, entry)| entry))
    }

    /// The entries of a list from a key on, with the commit of each where it can be read.
    fn listed(
        &self,
        holder: Holder,
        from: Vec<u8>,
    ) -> impl Iterator<Item = Result<(Option<u64>, QuarantineEntry), StoreError>> + Send + use<>
    {
        let store = self.clone();
        self.0
            .index
            .scan(from, end(holder))
            .filter_map(move |pair| {
                let read = || {
                    let (key, value) = pair?;
                    let Some((_, Some(id))) = split(&key) else {
                        return Err(damaged());
                    };
                    let entry = store.quarantine_get(id)?;
                    Ok(entry.map(|entry| (decode_number(&value), entry)))
                };
                read().transpose()
            })
    }

    /// How far a mailbox's owner was told; `None` when he never was, or has held nothing since.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn told(&self, holder: Holder) -> Result<Option<Told>, StoreError> {
        let value = self.0.index.get(&mark(holder))?;
        Ok(value.and_then(|value| decode_told(&value)))
    }

    /// The last round of daily notices that came to its end, as [`Batch::put_round`] had it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and kin.
    pub fn last_round(&self) -> Result<Option<Told>, StoreError> {
        let value = self.0.index.get(&[tag::ROUND])?;
        Ok(value.and_then(|value| decode_told(&value)))
    }
}

impl Batch {
    /// The owner is told so far; to be committed with what tells him.
    pub fn put_told(&mut self, holder: Holder, told: Told) -> &mut Self {
        self.changes.push((mark(holder), Some(encode_told(told))));
        self
    }

    /// A round of daily notices has told everybody: its moment (unix milliseconds), and the number
    /// of the last commit then.
    pub fn put_round(&mut self, told: Told) -> &mut Self {
        self.changes
            .push((vec![tag::ROUND], Some(encode_told(told))));
        self
    }
}

/// The value of a key of a mailbox's list.
pub(super) fn encode_number(number: u64) -> Vec<u8> {
    let number = number.to_be_bytes();
    [checksum(&number).as_slice(), &number].concat()
}

/// Makes the lists anew where they do not agree with the entries: those of an older version, or of
/// an index that lost some. What is listed now counts as brought by now.
pub(super) fn list_anew(index: &Index) -> Result<(), StoreError> {
    let value = encode_number(commits(index)?);
    let mut batch = Batch::new();
    for entry in index.records::<QuarantineEntry>(tag::QUARANTINE, b"") {
        let key = key(&entry?);
        if index
            .get(&key)?
            .and_then(|value| decode_number(&value))
            .is_none()
        {
            batch.changes.push((key, Some(value.clone())));
            flush(index, &mut batch, CHUNK)?;
        }
    }
    for pair in index.scan(vec![tag::HOLDER], vec![tag::HOLDER + 1]) {
        let (key, _) = pair?;
        let stray = match split(&key) {
            Some((_, Some(id))) => {
                let entry = index.get_record(tag::QUARANTINE, id.as_str().as_bytes())?;
                entry.is_none_or(|entry| self::key(&entry) != key.as_ref())
            }
            Some((_, None)) => false,
            None => true,
        };
        if stray {
            batch.remove_key(key.to_vec());
            flush(index, &mut batch, CHUNK)?;
        }
    }
    flush(index, &mut batch, 1)
}

/// Commits what has come together, if it is so much.
fn flush(index: &Index, batch: &mut Batch, least: usize) -> Result<(), StoreError> {
    match batch.changes.len() >= least {
        true => index.commit_blocking(std::mem::take(batch)),
        false => Ok(()),
    }
}

fn commits(index: &Index) -> Result<u64, StoreError> {
    let value = index.get(&Totals::KEY)?;
    let totals = value.and_then(|value| Totals::decode(&value));
    totals.map(|totals| totals.seq).ok_or_else(damaged)
}

/// The key of an entry in its mailbox's list.
pub(super) fn key(entry: &QuarantineEntry) -> Vec<u8> {
    key_in(Holder::of(&entry.mailbox), entry.id)
}

fn key_in(holder: Holder, id: Id) -> Vec<u8> {
    let mut key = mark(holder);
    key.extend_from_slice(id.as_str().as_bytes());
    key
}

fn mark(holder: Holder) -> Vec<u8> {
    batch::key(tag::HOLDER, &holder.0)
}

/// Before a mailbox's first entry, behind its mark.
fn first(holder: Holder) -> Vec<u8> {
    let mut first = mark(holder);
    first.push(0);
    first
}

/// Behind a mailbox's last entry: no id begins so.
fn end(holder: Holder) -> Vec<u8> {
    let mut end = mark(holder);
    end.push(u8::MAX);
    end
}

/// Mailbox and entry of a key; no entry for a mark.
fn split(key: &[u8]) -> Option<(Holder, Option<Id>)> {
    let (name, id) = key.get(1..)?.split_first_chunk::<NAME>()?;
    if id.is_empty() {
        return Some((Holder(*name), None));
    }
    let id = std::str::from_utf8(id).ok()?.parse().ok()?;
    Some((Holder(*name), Some(id)))
}

/// The entry of which this is the key and the value in its mailbox's list; none for a mark, nor where the
/// value cannot be read.
pub(super) fn listed(key: &[u8], value: &[u8]) -> Option<Id> {
    decode_number(value).and(split(key)?.1)
}

fn decode_number(value: &[u8]) -> Option<u64> {
    let (sum, number) = value.split_first_chunk::<4>()?;
    let number: [u8; 8] = number.try_into().ok()?;
    (*sum == checksum(&number)).then(|| u64::from_be_bytes(number))
}

fn encode_told(told: Told) -> Vec<u8> {
    let mut numbers = told.commit.to_be_bytes().to_vec();
    numbers.extend_from_slice(&told.round.to_be_bytes());
    [checksum(&numbers).as_slice(), &numbers].concat()
}

fn decode_told(value: &[u8]) -> Option<Told> {
    let (sum, numbers) = value.split_first_chunk::<4>()?;
    if *sum != checksum(numbers) {
        return None;
    }
    let (commit, round) = numbers.split_first_chunk::<8>()?;
    Some(Told {
        commit: u64::from_be_bytes(*commit),
        round: i64::from_be_bytes(round.try_into().ok()?),
    })
}

fn damaged() -> StoreError {
    StoreError::Damaged("index: a list of held mail".to_owned())
}
