//! Named places of the crash order at which a test may end the process, as SIGKILL does: at once.
//!
//! `SEKIMORI_KILL_AT=NAME:N` kills this process when it reaches the place for the N-th time. Only in
//! builds with debug assertions or with the feature `failpoints`; in all others [`reach`] is empty.
//!
//! In the same builds `SEKIMORI_CRASH_ON=abort:TEXT` or `panic:TEXT` makes every mail that contains
//! TEXT poison: reading it ends so.

/// A place at which a crash must lose and repeat nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// The mail file has its links, nothing of it is synced.
    MailFileLinked,
    /// File and folders are synced.
    MailFileSynced,
    /// All effects of a mail are written, nothing is delivered.
    Prepared,
    /// The next hop has the mail, nothing is recorded.
    Delivered,
    /// sled has the batch, in memory.
    CommitApplied,
    /// sled has flushed the batch; our own sync comes.
    CommitFlushed,
    /// The batch is durable, nobody knows.
    Committed,
    /// A file lies in a Maildir's `tmp`.
    MaildirWritten,
    /// It lies in `new`, whose folder is not synced.
    MaildirLinked,
    /// An outgoing mail is due, its try is not recorded.
    CourierDue,
    /// Its try is recorded, nothing is sent.
    CourierBegun,
    /// A letter is recorded as perhaps sent, its data is not.
    CourierTransmitting,
    /// The relay has answered, its answer is not recorded.
    CourierReplied,
    /// The index does not name a sent mail any more, its file is there.
    OutgoingRemoved,
    /// The index does not name what has expired, its files are there.
    SweepIndex,
    /// A smaller copy of the index is whole and durable beside it.
    IndexCopied,
    /// The copy is in the index's place, its folder is not synced.
    IndexExchanged,
    /// A release is recorded, it is not in the queue.
    ReleaseBegun,
    /// Its file is in the queue's folder, unnamed.
    ReleaseWritten,
    /// It is in the queue, not yet tried.
    ReleaseQueued,
    /// The mailbox or the relay has it, that is not recorded.
    ReleaseDelivered,
    /// It is recorded as over, its file is there.
    ReleaseEnded,
}

impl Point {
    /// All of them, in the order in which a mail may meet them.
    pub const ALL: [Self; 22] = [
        Self::MailFileLinked,
        Self::MailFileSynced,
        Self::Prepared,
        Self::MaildirWritten,
        Self::MaildirLinked,
        Self::Delivered,
        Self::CommitApplied,
        Self::CommitFlushed,
        Self::Committed,
        Self::CourierDue,
        Self::CourierBegun,
        Self::CourierTransmitting,
        Self::CourierReplied,
        Self::OutgoingRemoved,
        Self::SweepIndex,
        Self::IndexCopied,
        Self::IndexExchanged,
        Self::ReleaseBegun,
        Self::ReleaseWritten,
        Self::ReleaseQueued,
        Self::ReleaseDelivered,
        Self::ReleaseEnded,
    ];

    /// What `SEKIMORI_KILL_AT` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MailFileLinked => "mail-file-linked",
            Self::MailFileSynced => "mail-file-synced",
            Self::Prepared => "prepared",
            Self::Delivered => "delivered",
            Self::CommitApplied => "commit-applied",
            Self::CommitFlushed => "commit-flushed",
            Self::Committed => "committed",
            Self::MaildirWritten => "maildir-written",
            Self::MaildirLinked => "maildir-linked",
            Self::CourierDue => "courier-due",
            Self::CourierBegun => "courier-begun",
            Self::CourierTransmitting => "courier-transmitting",
            Self::CourierReplied => "courier-replied",
            Self::OutgoingRemoved => "outgoing-removed",
            Self::SweepIndex => "sweep-index",
            Self::IndexCopied => "index-copied",
            Self::IndexExchanged => "index-exchanged",
            Self::ReleaseBegun => "release-begun",
            Self::ReleaseWritten => "release-written",
            Self::ReleaseQueued => "release-queued",
            Self::ReleaseDelivered => "release-delivered",
            Self::ReleaseEnded => "release-ended",
        }
    }
}

/// The process is at `point`; it does not return when it was told to die here.
#[cfg(any(debug_assertions, feature = "failpoints"))]
pub fn reach(point: Point) {
    use rustix::process::{Signal, getpid, kill_process};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static AIM: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static REACHED: AtomicU64 = AtomicU64::new(0);
    let aim = AIM.get_or_init(|| {
        let text = std::env::var("SEKIMORI_KILL_AT").ok()?;
        let (name, times) = text.split_once(':')?;
        Some((name.to_owned(), times.parse().ok()?))
    });
    if let Some((name, times)) = aim
        && name == point.name()
        && REACHED.fetch_add(1, Ordering::SeqCst) + 1 == *times
    {
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

/// Nothing.
#[cfg(not(any(debug_assertions, feature = "failpoints")))]
#[inline(always)]
pub fn reach(_: Point) {}

/// This mail is being read; it does not return when the mail was called poison.
#[cfg(any(debug_assertions, feature = "failpoints"))]
pub fn strike(raw: &[u8]) {
    let Ok(aim) = std::env::var("SEKIMORI_CRASH_ON") else {
        return;
    };
    let hits = |text: &str| memchr::memmem::find(raw, text.as_bytes()).is_some();
    match aim.split_once(':') {
        Some(("abort", text)) if hits(text) => std::process::abort(),
        Some(("panic", text)) if hits(text) => std::panic::resume_unwind(Box::new("poison")),
        _ => {}
    }
}

/// Nothing.
#[cfg(not(any(debug_assertions, feature = "failpoints")))]
#[inline(always)]
pub fn strike(_: &[u8]) {}
