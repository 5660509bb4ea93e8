//! From a recipient to its mailbox's settings.
//!
//! Mailbox files load on first use, are compared with the disk (`mailboxes.watch`) and fall out of a
//! byte-bounded cache. A file that went bad keeps its old settings; one that was bad from the first
//! has the defaults (RELIABILITY D20). Neither touches another mailbox. `files` says who waits when
//! a file must be read.
//!
//! The order: the address's own file, the alias index, both again without the address extension,
//! then what `mailboxes.unknown` says.

mod cache;
mod files;
mod stamp;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::files::Files;
use super::aliases::Aliases;
use super::settings::{Config, Unknown};
use super::{Mailbox, location};
use crate::mail::Address;

/// All mailboxes.
#[derive(Debug)]
pub struct Directory {
    config: Arc<Config>,
    domains: HashSet<String>,
    files: Arc<Files>,
    aliases: Arc<Aliases>,
}

/// What is known of a recipient.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// Its settings; those of the defaults when it has no file and `mailboxes.unknown: accept`.
    Found(Arc<Mailbox>),
    /// `550 5.1.2`.
    UnknownDomain,
    /// `550 5.1.1`.
    UnknownMailbox,
    /// Its file cannot be read just now (`451 4.3.0`); the text is for the log.
    Unavailable(String),
}

/// What it has read and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryStats {
    /// Mailbox files read since the start, by look-ups and by the alias index.
    pub files_read: u64,
    /// Mailboxes in the cache.
    pub cached: usize,
    /// Octets they are booked with (approximate).
    pub cached_bytes: u64,
}

impl Directory {
    /// Reads nothing yet: mailbox files load on first use.
    pub fn new(config: Arc<Config>) -> Self {
        let files = Arc::new(Files::new(Arc::clone(&config)));
        Self::over(config, files, Arc::default())
    }

    /// The directory after a reload of the daemon file. What `old` has read goes on where the new
    /// file makes the same of it; else it counts until it is read anew, which every file is at its
    /// next use, and large ones at once. It stays what a file that is bad by now falls back to.
    pub fn reloaded(config: Arc<Config>, old: &Self) -> Self {
        let files = Files::reloaded(Arc::clone(&config), &old.files);
        let (now, before) = (&config.mailboxes, &old.config.mailboxes);
        // The old index serves until all files were looked through again.
        let aliases = if now.watch && before.watch && now.dir == before.dir {
            Arc::clone(&old.aliases)
        } else {
            Arc::default()
        };
        Self::over(config, files, aliases)
    }

    fn over(config: Arc<Config>, files: Arc<Files>, aliases: Arc<Aliases>) -> Self {
        Self {
            domains: config.mailboxes.domains.iter().cloned().collect(),
            config,
            files,
            aliases,
        }
    }

    /// The settings it serves.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// What it has read and holds.
    pub fn stats(&self) -> DirectoryStats {
        let cache = self.files.lock();
        DirectoryStats {
            files_read: self.files.read.load(Ordering::Relaxed) + self.aliases.files_read(),
            cached: cache.len(),
            cached_bytes: cache.total,
        }
    }

    /// Starts a thread that indexes the `aliases` of all mailbox files and then watches the folders
    /// (`mailboxes.watch`). It ends when the directory is dropped. Until the first index is done,
    /// [`Directory::lookup`] of an address without a file of its own waits, 30 s at most. Without
    /// this call or [`Directory::index_now`] no alias is known.
    pub fn start_indexing(&self) {
        let mailboxes = &self.config.mailboxes;
        self.aliases.start(&mailboxes.dir, mailboxes.watch);
    }

    /// Indexes the `aliases` of all mailbox files once, in this thread (for commands).
    pub fn index_now(&self) {
        self.aliases.read_all(&self.config.mailboxes.dir);
    }

    /// The settings for a recipient. Blocking (stat, on first use a read): call it where that is
    /// allowed.
    pub fn lookup(&self, recipient: &Address) -> Lookup {
        // A mailbox is named the same whoever asked for it first.
        let recipient = &recipient.canonical();
        if !self.serves(&recipient.key()) {
            return Lookup::UnknownDomain;
        }
        let base = self.without_extension(recipient);
        for address in std::iter::once(recipient).chain(&base) {
            match self.own_file(address).or_else(|| self.by_alias(address)) {
                Some(Ok(mailbox)) => return Lookup::Found(mailbox),
                Some(Err(why)) => return Lookup::Unavailable(why),
                None => {}
            }
        }
        match self.config.mailboxes.unknown {
            Unknown::Reject => Lookup::UnknownMailbox,
            Unknown::Accept => {
                let address = base.as_ref().unwrap_or(recipient);
                Lookup::Found(Arc::new(self.files.default(address)))
            }
        }
    }

    /// What [`Directory::lookup`] would say, as far as memory knows it: an unknown domain, or the
    /// settings of a recipient's own file that a look-up found unchanged within the last second.
    /// `None` is for [`Directory::lookup`] to answer. Never blocks.
    pub fn ready(&self, recipient: &Address) -> Option<Lookup> {
        let key = recipient.key();
        if !self.serves(&key) {
            return Some(Lookup::UnknownDomain);
        }
        let paths = location::candidates_of(&self.config.mailboxes.dir, &key);
        self.files.at_hand(&paths).map(Lookup::Found)
    }

    /// A look-up found the recipient's own file on the disk within the last second. Never blocks:
    /// enough to accept a recipient whose settings are looked up once its mail is here.
    pub fn has_lately(&self, recipient: &Address) -> bool {
        matches!(self.ready(recipient), Some(Lookup::Found(_)))
    }

    /// The recipient's own file was read before. Never blocks.
    pub fn has_read(&self, recipient: &Address) -> bool {
        let dir = &self.config.mailboxes.dir;
        self.files
            .has(&location::candidates_of(dir, &recipient.key()))
    }

    /// The file whose settings a recipient has, good or bad; `None` when the defaults alone count.
    pub fn path_of(&self, recipient: &Address) -> Option<PathBuf> {
        let base = self.without_extension(recipient);
        let file = |address: &Address| {
            let own = location::candidates(&self.config.mailboxes.dir, address);
            let own = own.into_iter().find(|path| path.exists());
            own.or_else(|| self.aliases.file_of(&address.key()))
        };
        std::iter::once(recipient).chain(&base).find_map(file)
    }

    /// The mailbox whose file gives a recipient its settings; `None` when no file does.
    pub fn owner_of(&self, recipient: &Address) -> Option<Address> {
        if !self.serves(&recipient.key()) {
            return None;
        }
        location::address_of(&self.path_of(recipient)?)
    }

    /// Whether `mailboxes.domains` has the domain of the address with this key.
    fn serves(&self, key: &str) -> bool {
        let domain = key.rsplit_once('@').map_or("", |(_, domain)| domain);
        self.domains.is_empty() || self.domains.contains(domain)
    }

    /// `taro@` for `taro+news@`.
    fn without_extension(&self, address: &Address) -> Option<Address> {
        let sign = self.config.mailboxes.address_extension?;
        let (base, _) = address.local().split_once(sign)?;
        Address::parse(&format!("{base}@{}", address.domain())).ok()
    }

    fn own_file(&self, address: &Address) -> Option<Result<Arc<Mailbox>, String>> {
        let candidates = location::candidates(&self.config.mailboxes.dir, address);
        candidates
            .iter()
            .find_map(|path| self.files.find(path, address))
    }

    fn by_alias(&self, alias: &Address) -> Option<Result<Arc<Mailbox>, String>> {
        let key = alias.key();
        let path = self.aliases.file_of(&key)?;
        let owner = location::address_of(&path)?.canonical();
        let found = self.files.find(&path, &owner)?;
        // The index may be a moment behind the file.
        let still = |mailbox: &Arc<Mailbox>| mailbox.policy.aliases.iter().any(|a| a.key() == key);
        match found {
            Ok(mailbox) => still(&mailbox).then_some(Ok(mailbox)),
            unavailable => Some(unavailable),
        }
    }
}

#[cfg(test)]
mod tests;
