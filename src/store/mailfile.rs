//! A mail file: what it is and for whom, and its octets, with checksums over both.
//!
//! One file serves all recipients and effects of a mail: each entry has its own hard link to it,
//! so the disk space goes with the last of them and there is no counter to go wrong. Layout:
//! magic (8), version (4), header length (4), body length (8), BLAKE3 of these and the header (32),
//! header as JSON, body, BLAKE3 of the body (32), end mark (8); numbers are little-endian.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::draft::Draft;
use super::{HandoffKey, Id, OutgoingItem, QuarantineEntry, StoreError};
use crate::mail::{Octets, buffer};

const MAGIC: &[u8; 8] = b"SKMRMAIL";
const END: &[u8; 8] = b"SKMREND\n";
const VERSION: u32 = 1;
/// Magic, version, both lengths.
const PREAMBLE: usize = 24;
/// A BLAKE3 hash.
const HASH: usize = 32;
/// The largest header: 10,000 entries are about 4 MiB.
const MAX_HEADER: usize = 4 << 20;
/// A folder for each last character of an id. They are made once, so that a write never has to
/// make one and sync its parent.
const SHARDS: &str = "0123456789abcdefghjkmnpqrstvwxyz";

/// The two folders of mail files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shelf {
    /// `mail/quarantine`
    Quarantine,
    /// `mail/outgoing`
    Outgoing,
}

impl Shelf {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Quarantine, Self::Outgoing];

    fn name(self) -> &'static str {
        match self {
            Self::Quarantine => "quarantine",
            Self::Outgoing => "outgoing",
        }
    }
}

/// What a mail file is for; the index can be rebuilt from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileEntry {
    /// It is held.
    Quarantine(QuarantineEntry),
    /// It goes out.
    Outgoing(OutgoingItem),
}

impl FileEntry {
    /// Its name, also of its link to the file.
    pub fn id(&self) -> Id {
        match self {
            Self::Quarantine(entry) => entry.id,
            Self::Outgoing(item) => item.id,
        }
    }

    /// The hand-off that it was prepared for; none for what we began ourselves.
    pub fn handoff(&self) -> Option<HandoffKey> {
        match self {
            Self::Quarantine(entry) => entry.handoff,
            Self::Outgoing(item) => item.handoff,
        }
    }

    /// Its folder.
    pub fn shelf(&self) -> Shelf {
        match self {
            Self::Quarantine(_) => Shelf::Quarantine,
            Self::Outgoing(_) => Shelf::Outgoing,
        }
    }
}

/// The head of a mail file. At most 4 MiB as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailHeader {
    /// Reverse path as received, empty for the null path.
    pub sender: String,
    /// Who handed it over, for people to read.
    pub client: String,
    /// The header line that is put before it wherever it goes on (`Received`, with its CRLF); empty
    /// for mail of our own.
    #[serde(default)]
    pub trace: String,
    /// When it came in.
    pub received_at: i64,
    /// At least one; each gets a link of its own.
    pub entries: Vec<FileEntry>,
}

impl MailHeader {
    /// The entry that a link stands for.
    pub fn entry(&self, shelf: Shelf, id: Id) -> Option<&FileEntry> {
        let mut entries = self.entries.iter();
        entries.find(|entry| entry.id() == id && entry.shelf() == shelf)
    }
}

/// The folder of mail files.
#[derive(Debug)]
pub(crate) struct Mails {
    root: PathBuf,
}

impl Mails {
    /// Makes what is missing of the folders below `root`, durably. What a crash left before it had
    /// a link goes: the store is one daemon's, and this one has written nothing yet.
    pub(crate) fn open(root: PathBuf) -> Result<Self, StoreError> {
        make_folder(&root)?;
        make_folder(&root.join("tmp"))?;
        for shelf in Shelf::ALL {
            let folder = root.join(shelf.name());
            make_folder(&folder)?;
            for shard in shards() {
                make_folder(&folder.join(shard))?;
            }
            sync_folder(&folder)?;
        }
        sync_folder(&root)?;
        for (_, unfinished) in list(&root.join("tmp")).into_iter().flatten() {
            let _ = fs::remove_file(unfinished);
        }
        Ok(Self { root })
    }

    /// A mail file that is to be written.
    pub(crate) fn draft(
        &self,
        header: &MailHeader,
        pieces: Vec<Octets>,
    ) -> Result<Draft, StoreError> {
        let Some(first) = header.entries.first() else {
            return Err(StoreError::Conflict(
                "a mail file needs an entry".to_owned(),
            ));
        };
        let body_len = pieces.iter().map(Octets::size).sum();
        let start = encode_start(header, body_len)?;
        let entries = header.entries.iter();
        let links = entries.map(|entry| self.path(entry.shelf(), entry.id()));
        let tmp = self.root.join("tmp").join(first.id().as_str());
        Ok(Draft::new(tmp, start, pieces, links.collect()))
    }

    /// Header and body, verified.
    pub(crate) fn read(&self, shelf: Shelf, id: Id) -> Result<(MailHeader, Vec<u8>), StoreError> {
        let (mut file, header, body_len) = self.open_file(shelf, id)?;
        let body = read_body(&mut file, body_len).map_err(|error| self.failed(shelf, id, error))?;
        Ok((header, body))
    }

    /// The header, verified; of the body only its length is looked at.
    pub(crate) fn read_header(&self, shelf: Shelf, id: Id) -> Result<MailHeader, StoreError> {
        self.open_file(shelf, id).map(|(_, header, _)| header)
    }

    /// Whether a file is whole, verified to its end; it is durable then, its names not yet
    /// ([`Mails::sync_folders`]). `settled` has the inodes of earlier calls: a file with many names is
    /// read once.
    pub(crate) fn settle(
        &self,
        shelf: Shelf,
        id: Id,
        settled: &mut HashSet<u64>,
    ) -> Result<bool, StoreError> {
        let Ok((mut file, _, body_len)) = self.open_file(shelf, id) else {
            return Ok(false);
        };
        let failed = |error| self.failed(shelf, id, error);
        let about = file.metadata().map_err(failed)?;
        if settled.contains(&about.ino()) {
            return Ok(true);
        }
        if check_body(&mut file, body_len).is_err() {
            return Ok(false);
        }
        file.sync_all().map_err(failed)?;
        if about.nlink() > 1 {
            settled.insert(about.ino());
        }
        Ok(true)
    }

    /// Makes all names durable.
    pub(crate) fn sync_folders(&self) -> Result<(), StoreError> {
        let folders = Shelf::ALL.map(|shelf| self.root.join(shelf.name()));
        let mut shards = folders
            .iter()
            .flat_map(|folder| shards().map(|shard| folder.join(shard)));
        shards.try_for_each(|shard| sync_folder(&shard))
    }

    /// Removes a link; whether it was there.
    pub(crate) fn remove(&self, shelf: Shelf, id: Id) -> Result<bool, StoreError> {
        let path = self.path(shelf, id);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io(&path, error)),
        }
    }

    /// Where a link lies.
    pub(crate) fn path(&self, shelf: Shelf, id: Id) -> PathBuf {
        let shard = &id.as_str()[id.as_str().len().saturating_sub(1)..];
        let folder = self.root.join(shelf.name()).join(shard);
        folder.join(id.as_str())
    }

    /// All links of a folder, in no order; what has no id for a name is not ours and left alone.
    pub(crate) fn walk(
        &self,
        shelf: Shelf,
    ) -> impl Iterator<Item = Result<(Id, PathBuf), StoreError>> + '_ {
        shards().flat_map(move |shard| list(&self.root.join(shelf.name()).join(shard)))
    }

    /// A file behind its verified header, and the length of its body.
    fn open_file(&self, shelf: Shelf, id: Id) -> Result<(File, MailHeader, usize), StoreError> {
        let open = || {
            let mut file = File::open(self.path(shelf, id))?;
            let file_len = file.metadata()?.len();
            let (header, body_len) = read_start(&mut file, file_len)?;
            Ok((file, header, body_len))
        };
        open().map_err(|error| self.failed(shelf, id, error))
    }

    fn failed(&self, shelf: Shelf, id: Id, error: io::Error) -> StoreError {
        let path = self.path(shelf, id);
        match error.kind() {
            io::ErrorKind::NotFound => StoreError::NotFound(id.to_string()),
            io::ErrorKind::UnexpectedEof => {
                StoreError::Damaged(format!("{}: cut off", path.display()))
            }
            io::ErrorKind::InvalidData => {
                StoreError::Damaged(format!("{}: {error}", path.display()))
            }
            _ => StoreError::io(&path, error),
        }
    }
}

/// Syncs a folder, so that the names in it are durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder)
        .and_then(|open| open.sync_all())
        .map_err(|error| StoreError::io(folder, error))
}

/// Makes a folder that only we may enter; one that is there is no error.
pub(crate) fn make_folder(folder: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(StoreError::io(folder, error))
        }
        _ => Ok(()),
    }
}

fn shards() -> impl Iterator<Item = &'static str> {
    (0..SHARDS.len()).map(|at| &SHARDS[at..=at])
}

fn encode_start(header: &MailHeader, body_len: u64) -> Result<Vec<u8>, StoreError> {
    let json =
        serde_json::to_vec(header).map_err(|error| StoreError::Damaged(error.to_string()))?;
    seal_start(&json, body_len)
}

/// What stands before the body, around a header's JSON.
pub(super) fn seal_start(json: &[u8], body_len: u64) -> Result<Vec<u8>, StoreError> {
    if json.len() > MAX_HEADER {
        return Err(StoreError::TooLarge(format!(
            "a mail file header of {} octets, {MAX_HEADER} are allowed",
            json.len()
        )));
    }
    let header_len = u32::try_from(json.len()).unwrap_or(u32::MAX);
    let mut start = Vec::with_capacity(PREAMBLE + HASH + json.len());
    start.extend_from_slice(MAGIC);
    start.extend_from_slice(&VERSION.to_le_bytes());
    start.extend_from_slice(&header_len.to_le_bytes());
    start.extend_from_slice(&body_len.to_le_bytes());
    let hash = header_hash(&start, json);
    start.extend_from_slice(hash.as_bytes());
    start.extend_from_slice(json);
    Ok(start)
}

/// The verified header of a file of this length, and the length of its body.
///
/// # Errors
/// `InvalidData` and `UnexpectedEof` for what is no whole mail file; those of the reader.
pub(super) fn read_start(file: &mut impl Read, file_len: u64) -> io::Result<(MailHeader, usize)> {
    let mut start = [0; PREAMBLE + HASH];
    file.read_exact(&mut start)?;
    let (preamble, hash) = start.split_at(PREAMBLE);
    let (header_len, body_len) = decode_preamble(preamble).map_err(damaged)?;
    let whole = PREAMBLE + HASH + header_len + HASH + END.len();
    let whole = u64::try_from(whole).unwrap_or(u64::MAX);
    if whole.checked_add(body_len) != Some(file_len) {
        return Err(damaged("wrong length"));
    }
    let mut json = vec![0; header_len];
    file.read_exact(&mut json)?;
    if hash != header_hash(preamble, &json).as_bytes() {
        return Err(damaged("wrong checksum of the header"));
    }
    let header = serde_json::from_slice(&json).map_err(|error| damaged(&error.to_string()))?;
    let body_len = usize::try_from(body_len).map_err(|_| damaged("wrong length"))?;
    Ok((header, body_len))
}

/// The verified body of a file that was read up to its header's end.
///
/// # Errors
/// As [`read_start`].
pub(super) fn read_body(file: &mut impl Read, body_len: usize) -> io::Result<Vec<u8>> {
    let mut body = buffer(body_len.saturating_add(HASH + END.len()));
    file.read_to_end(&mut body)?;
    let Some((content, trailer)) = body.split_at_checked(body_len) else {
        return Err(damaged("cut off"));
    };
    check_trailer(trailer, &blake3::hash(content))?;
    body.truncate(body_len);
    Ok(body)
}

/// As [`read_body`], and keeps nothing of it.
fn check_body(file: &mut impl Read, body_len: usize) -> io::Result<()> {
    let mut hasher = blake3::Hasher::new();
    let content = file
        .by_ref()
        .take(u64::try_from(body_len).unwrap_or(u64::MAX));
    hasher.update_reader(content)?;
    let mut trailer = Vec::new();
    file.read_to_end(&mut trailer)?;
    check_trailer(&trailer, &hasher.finalize())
}

fn check_trailer(trailer: &[u8], body: &blake3::Hash) -> io::Result<()> {
    if trailer.get(..HASH) != Some(body.as_bytes().as_slice()) {
        return Err(damaged("wrong checksum of the body"));
    }
    if trailer.get(HASH..) != Some(END.as_slice()) {
        return Err(damaged("wrong end"));
    }
    Ok(())
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Header and body length.
fn decode_preamble(preamble: &[u8]) -> Result<(usize, u64), &'static str> {
    let rest = preamble
        .strip_prefix(MAGIC.as_slice())
        .ok_or("not a mail file")?;
    let (version, rest) = rest.split_first_chunk::<4>().ok_or("cut off")?;
    let (header_len, rest) = rest.split_first_chunk::<4>().ok_or("cut off")?;
    let (body_len, _) = rest.split_first_chunk::<8>().ok_or("cut off")?;
    if u32::from_le_bytes(*version) != VERSION {
        return Err("unknown version");
    }
    let header_len = usize::try_from(u32::from_le_bytes(*header_len)).unwrap_or(usize::MAX);
    if header_len > MAX_HEADER {
        return Err("header too long");
    }
    Ok((header_len, u64::from_le_bytes(*body_len)))
}

fn header_hash(preamble: &[u8], json: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(preamble);
    hasher.update(json);
    hasher.finalize()
}

/// What stands behind the body that the hasher was given.
pub(super) fn trailer(hasher: &blake3::Hasher) -> Vec<u8> {
    [hasher.finalize().as_bytes().as_slice(), END].concat()
}

fn list(folder: &Path) -> Vec<Result<(Id, PathBuf), StoreError>> {
    let failed = |error| StoreError::io(folder, error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return vec![Err(failed(error))],
    };
    let named = entries.filter_map(|entry| match entry {
        Ok(entry) => {
            let id = entry.file_name().to_str()?.parse().ok()?;
            Some(Ok((id, entry.path())))
        }
        Err(error) => Some(Err(failed(error))),
    });
    named.collect()
}
