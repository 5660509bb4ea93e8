//! The octets of one mail: in memory, or only their beginning.

use core::fmt;
use core::pin::Pin;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

/// Octets that are read at once of what is not in memory.
const PIECE: usize = if cfg!(test) { 7 } else { 256 * 1024 };

/// Where the octets of a mail lie that are not in memory.
pub trait Stored: fmt::Debug + Send + Sync {
    /// How many they are.
    fn size(&self) -> u64;

    /// Fills `room` with those from `at` on. It may block.
    ///
    /// # Errors
    /// There are not so many, or they cannot be read.
    fn read_at(&self, at: u64, room: &mut [u8]) -> io::Result<()>;

    /// The same for who must not block.
    fn fetch(&self, at: u64, length: usize) -> Fetching<'_>;

    /// All of them, once there is memory for them: `OutOfMemory` where there was none for too long.
    fn whole(&self) -> Fetching<'_>;
}

/// Octets that are being read.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send + 'a>>;

/// All octets of a mail, CRLF line ends. Cloning copies none.
#[derive(Debug, Clone)]
pub struct Octets {
    head: Bytes,
    stored: Option<Arc<dyn Stored>>,
}

impl Octets {
    /// Octets that lie in `stored`, of which these first ones are in memory. `None` where others
    /// than these may belong to the header block, or change where it ends.
    pub fn stored(head: Bytes, stored: Arc<dyn Stored>) -> Option<Self> {
        let closed = super::header::is_closed(&head);
        closed.then_some(Self {
            head,
            stored: Some(stored),
        })
    }

    /// What is in memory: all, or the beginning with the header block and the first octet behind it.
    pub fn head(&self) -> &Bytes {
        &self.head
    }

    /// How many they are.
    pub fn size(&self) -> u64 {
        let in_memory = u64::try_from(self.head.len()).unwrap_or(u64::MAX);
        self.stored.as_ref().map_or(in_memory, |all| all.size())
    }

    /// Some of those from `at` on; none at the end. It may block.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn piece(&self, at: u64) -> io::Result<Bytes> {
        match self.place(at) {
            Place::Memory(octets) => Ok(octets),
            Place::Stored(stored, length) => {
                let mut room = vec![0; length];
                stored.read_at(at, &mut room)?;
                Ok(room.into())
            }
        }
    }

    /// The same for who must not block.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn fetch(&self, at: u64) -> io::Result<Bytes> {
        match self.place(at) {
            Place::Memory(octets) => Ok(octets),
            Place::Stored(stored, length) => stored.fetch(at, length).await,
        }
    }

    /// Gives those from `at` on to `take`, in order and in pieces of any size. It may block.
    ///
    /// # Errors
    /// They cannot be read, or the first one of `take`.
    pub fn each(
        &self,
        mut at: u64,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while at < self.size() {
            let piece = self.piece(at)?;
            take(&piece)?;
            at = at.saturating_add(piece.len() as u64);
        }
        Ok(())
    }

    /// All of them in memory.
    ///
    /// # Errors
    /// There is no room for them, or they cannot be read.
    pub async fn whole(&self) -> io::Result<Bytes> {
        match &self.stored {
            None => Ok(self.head.clone()),
            Some(stored) => stored.whole().await,
        }
    }

    fn place(&self, at: u64) -> Place<'_> {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        match &self.stored {
            Some(stored) if start >= self.head.len() => {
                let length = stored.size().saturating_sub(at).min(PIECE as u64);
                Place::Stored(stored.as_ref(), usize::try_from(length).unwrap_or(PIECE))
            }
            _ => Place::Memory(self.head.slice(start.min(self.head.len())..)),
        }
    }
}

/// Where some octets are.
enum Place<'a> {
    Memory(Bytes),
    /// So many at a time.
    Stored(&'a dyn Stored, usize),
}

impl<T: Into<Bytes>> From<T> for Octets {
    fn from(octets: T) -> Self {
        Self {
            head: octets.into(),
            stored: None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::super::{Bounds, Message, header};
    use super::*;

    #[derive(Debug)]
    struct Elsewhere(Vec<u8>);

    impl Stored for Elsewhere {
        fn size(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&self, at: u64, room: &mut [u8]) -> io::Result<()> {
            let at = usize::try_from(at).unwrap();
            let octets = self.0.get(at..at + room.len());
            room.copy_from_slice(octets.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }

        fn fetch(&self, at: u64, length: usize) -> Fetching<'_> {
            let mut room = vec![0; length];
            let read = self.read_at(at, &mut room);
            Box::pin(std::future::ready(read.map(|()| room.into())))
        }

        fn whole(&self) -> Fetching<'_> {
            self.fetch(0, self.0.len())
        }
    }

    /// A mail of which this many octets at least are in memory.
    pub(crate) fn stored(raw: &[u8], least: usize) -> Octets {
        let all: Arc<dyn Stored> = Arc::new(Elsewhere(raw.to_vec()));
        (least..raw.len())
            .filter_map(|length| raw.get(..length))
            .find_map(|head| Octets::stored(Bytes::copy_from_slice(head), all.clone()))
            .unwrap_or_else(|| Octets::from(raw.to_vec()))
    }

    #[test]
    fn a_header_block_is_closed_by_what_follows_its_empty_line() {
        let rows: &[(&[u8], bool)] = &[
            (b"", false),
            (b"A: b\r\n", false),
            (b"A: b\r\n\r\n", false),
            (b"A: b\r\n\r\nx", true),
            (b"\r\n\r\n", false),
            (b"\r\nx", false),
            (b"\r\nx\r\n", false),
            (b"\r\nx\r\ny", true),
            (b"From a@b\r\n\r\n\r\n", false),
            (b"From a@b\r\n\r\nx\r\n\r\n", true),
            (b"body\r\n\r\nx", true),
        ];
        for (head, closed) in rows {
            assert_eq!(header::is_closed(head), *closed, "{}", head.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn a_closed_header_block_is_the_whole_ones(
            raw in "(\u{FEFF})?(>?From |A|Subject|[ \t]|:|x|\r\n|\r\n\r\n|\r|\n){0,16}",
            cut in 0_usize..40,
        ) {
            let raw = raw.as_bytes();
            let head = raw.get(..cut).unwrap_or(raw);
            if header::is_closed(head) {
                let (of_head, of_all) = (header::scan(head, &Bounds::default()), header::scan(raw, &Bounds::default()));
                prop_assert_eq!(of_head.header, of_all.header);
                prop_assert_eq!(of_head.body_start, of_all.body_start);
                prop_assert!(of_head.body_start < head.len());
            }
        }

        #[test]
        fn a_mail_is_read_the_same_from_elsewhere(
            head in "((From|Subject|Received|Return-Path): [a-z<>@=?]{0,6}\r\n){0,3}Content-Type: (text/plain|multipart/mixed; boundary=b)\r\n\r\n",
            body in "(--b(--)?|x|[ ]|Content-Type: (message/rfc822|text/plain; name=a)|\r\n|\r\n){0,40}",
            least in 0_usize..200,
        ) {
            let raw = [head, body].concat();
            let octets = stored(raw.as_bytes(), least);
            let bounds = Bounds { mime_depth: 3, ..Bounds::default() };
            let (read, parsed) = (Message::read(&octets, &bounds).unwrap(), Message::parse(raw.as_bytes(), &bounds));
            prop_assert_eq!(format!("{read:?}"), format!("{parsed:?}"));
            let mut all = Vec::new();
            octets.each(0, |piece| {
                all.extend_from_slice(piece);
                Ok(())
            }).unwrap();
            prop_assert_eq!(all, raw.as_bytes());
            prop_assert_eq!(octets.size(), raw.len() as u64);
        }
    }
}
