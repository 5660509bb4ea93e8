//! The key of a hand-off (RELIABILITY 5c) and what lets a retry wait for its first try (D12).

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::mail::Octets;

/// Header fields that a delivering MTA writes anew at each try.
const VOLATILE: [&str; 5] = [
    "Delivery-date",
    "Envelope-to",
    "Return-Path",
    "Delivered-To",
    "X-Original-To",
];

/// What the received octets of a mail are, but for what changes from try to try. Computed once a
/// mail, used for each of its recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailDigest([u8; 32]);

impl MailDigest {
    /// Hashes `raw` without the volatile fields that stand above the first `Received` field.
    /// Linear in the length of `raw`.
    pub fn of(raw: &[u8]) -> Self {
        Self(*hasher_of(raw).finalize().as_bytes())
    }

    /// The same of octets that need not be in memory. It may block.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn read(octets: &Octets) -> io::Result<Self> {
        let mut hasher = hasher_of(octets.head());
        octets.each(octets.head().len() as u64, |piece| {
            hasher.update(piece);
            Ok(())
        })?;
        Ok(Self(*hasher.finalize().as_bytes()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Has been given `raw`, whose header block is whole, but for the volatile fields.
fn hasher_of(raw: &[u8]) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    let mut rest = raw;
    while let Some((field, after)) = next_field(rest) {
        if has_name(field, "Received") {
            break;
        }
        if !VOLATILE.iter().any(|name| has_name(field, name)) {
            hasher.update(field);
        }
        rest = after;
    }
    hasher.update(rest);
    hasher
}

/// The name of one hand-off of one mail to one mailbox: the same over the MTA's retries, new for a
/// real re-send, because the MTA's own `Received` field is in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HandoffKey([u8; 32]);

impl HandoffKey {
    /// The key of a mail whose digest is known. `mailbox` is the mailbox's key (address without
    /// extension, folded), `sender` the reverse path as text, empty for the null path.
    pub fn new(mailbox: &str, sender: &str, digest: &MailDigest) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in [
            "sekimori-v1".as_bytes(),
            mailbox.as_bytes(),
            sender.as_bytes(),
            &digest.0,
        ] {
            hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hasher.update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// Its octets.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for HandoffKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for HandoffKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a hand-off key (64 hexadecimal digits)")]
pub struct HandoffKeyError;

impl FromStr for HandoffKey {
    type Err = HandoffKeyError;

    fn from_str(text: &str) -> Result<Self, HandoffKeyError> {
        let hash = blake3::Hash::from_hex(text).map_err(|_| HandoffKeyError)?;
        Ok(Self(*hash.as_bytes()))
    }
}

impl TryFrom<String> for HandoffKey {
    type Error = HandoffKeyError;

    fn try_from(text: String) -> Result<Self, HandoffKeyError> {
        text.parse()
    }
}

impl From<HandoffKey> for String {
    fn from(key: HandoffKey) -> Self {
        key.to_string()
    }
}

/// The hand-offs that are under way. A mail's begin together and end together, in constant time each.
#[derive(Debug, Default)]
pub(crate) struct Inflight {
    /// Each with the end of its mail's hand-offs: it is there once the sender has gone.
    keys: Mutex<HashMap<HandoffKey, watch::Receiver<()>, RandomState>>,
}

impl Inflight {
    pub(crate) async fn begin_all(self: &Arc<Self>, keys: &[HandoffKey]) -> InflightGuard {
        loop {
            match self.try_begin_all(keys) {
                Ok(guard) => return guard,
                // An error says that it has ended, as is waited for.
                Err(mut ended) => drop(ended.changed().await),
            }
        }
    }

    /// The error is the end of an identical hand-off that is under way.
    pub(crate) fn try_begin_all(
        self: &Arc<Self>,
        keys: &[HandoffKey],
    ) -> Result<InflightGuard, watch::Receiver<()>> {
        let mut under_way = self.keys();
        if let Some(ended) = keys.iter().find_map(|key| under_way.get(key)) {
            return Err(ended.clone());
        }
        let (end, ended) = watch::channel(());
        under_way.extend(keys.iter().map(|key| (*key, ended.clone())));
        drop(under_way);
        Ok(InflightGuard {
            inflight: Arc::clone(self),
            keys: keys.into(),
            _end: Some(end),
        })
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<HandoffKey, watch::Receiver<()>, RandomState>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held while a mail's hand-offs are under way; dropping it lets identical ones go on. The default is
/// one of no hand-offs.
#[derive(Debug, Default)]
pub struct InflightGuard {
    inflight: Arc<Inflight>,
    keys: Box<[HandoffKey]>,
    /// Goes behind the keys: who waited finds them free.
    _end: Option<watch::Sender<()>>,
}

impl Drop for InflightGuard {
    fn drop(&mut self) {
        let mut under_way = self.inflight.keys();
        for key in &self.keys {
            under_way.remove(key);
        }
    }
}

/// The first header field of `text` with its continuation lines, and what follows; `None` at the
/// end of the header section and at whatever is no field.
fn next_field(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text.is_empty() || text.starts_with(b"\n") || text.starts_with(b"\r\n") {
        return None;
    }
    let mut end = line_end(text, 0);
    if !text[..end].contains(&b':') {
        return None;
    }
    while matches!(text.get(end), Some(b' ' | b'\t')) {
        end = line_end(text, end);
    }
    Some(text.split_at(end))
}

fn line_end(text: &[u8], from: usize) -> usize {
    memchr::memchr(b'\n', &text[from..]).map_or(text.len(), |at| from + at + 1)
}

fn has_name(field: &[u8], name: &str) -> bool {
    field
        .split_at_checked(name.len())
        .is_some_and(|(start, rest)| {
            start.eq_ignore_ascii_case(name.as_bytes()) && rest.trim_ascii_start().starts_with(b":")
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(raw: &str) -> HandoffKey {
        let digest = MailDigest::of(raw.as_bytes());
        HandoffKey::new("taro@example.jp", "a@b.example", &digest)
    }

    #[test]
    fn only_volatile_fields_of_the_top_block_are_left_out() {
        let base = "Received: by mx id 1\r\nSubject: x\r\n\r\nReturn-Path: <b>\r\n";
        let table = [
            ("Return-Path: <a@b>\r\n", "", true),
            ("return-path : <a@b>\r\n", "", true),
            (
                "Delivery-date: Mon\r\n\tmore\r\nEnvelope-to: t@e\r\n",
                "",
                true,
            ),
            ("Delivered-To: t@e\nX-Original-To: t@e\n", "", true),
            ("X-Foo: 1\r\n", "", false),
            ("X-Foo: 1\r\nDelivered-To: t@e\r\n", "X-Foo: 1\r\n", true),
            ("Return-Pathology: 1\r\n", "", false),
            ("Received: by other\r\n", "", false),
            (
                "Received: a\r\nDelivered-To: t\r\n",
                "Received: a\r\n",
                false,
            ),
        ];
        for (top, other, same) in table {
            let left = key(&format!("{top}{base}"));
            let right = key(&format!("{other}{base}"));
            assert_eq!(left == right, same, "{top:?} and {other:?}");
        }
        assert_ne!(
            key("Subject: x\r\n\r\nReturn-Path: <b>\r\n"),
            key("Subject: x\r\n\r\n")
        );
    }

    #[test]
    fn mailbox_and_sender_are_in_the_key_and_do_not_run_together() {
        let digest = MailDigest::of(b"x");
        let table = [
            ("a", "bc"),
            ("ab", "c"),
            ("abc", ""),
            ("", "abc"),
            ("a", "b"),
        ];
        for (index, left) in table.iter().enumerate() {
            for right in &table[index + 1..] {
                let keys = [left, right].map(|(m, s)| HandoffKey::new(m, s, &digest));
                assert_ne!(keys[0], keys[1], "{left:?} {right:?}");
            }
        }
    }

    #[test]
    fn an_identical_hand_off_waits() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let inflight = Arc::new(Inflight::default());
            let (same, other) = (key("a"), key("b"));
            let first = inflight.begin_all(&[same]).await;
            drop(inflight.begin_all(&[other, other]).await);
            assert!(inflight.try_begin_all(&[other, same]).is_err());
            let both = [other, same];
            let mut second = Box::pin(inflight.begin_all(&both));
            let mut third = Box::pin(inflight.begin_all(&both[1..]));
            tokio::select! {
                biased;
                _ = &mut second => panic!("two hold the same key"),
                _ = &mut third => panic!("two hold the same key"),
                () = std::future::ready(()) => {}
            }
            assert!(
                inflight.try_begin_all(&[other]).is_ok(),
                "who waits holds nothing"
            );
            drop(first);
            drop(second.await);
            drop(third.await);
            assert!(inflight.keys().is_empty());
        });
    }

    proptest! {
        #[test]
        fn any_octets_have_a_digest(raw in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(MailDigest::of(&raw), MailDigest::of(&raw));
        }

        #[test]
        fn a_digest_is_the_same_from_elsewhere(
            top in "((Received|Return-Path|Delivered-To|X-A): [a-z]{0,4}\r\n( x\r\n)?){0,5}",
            body in "(x|\r\n|Return-Path: y\r\n){0,12}",
            least in 0_usize..60,
        ) {
            let raw = [top.as_bytes(), b"\r\n", body.as_bytes()].concat();
            let octets = crate::mail::octets::tests::stored(&raw, least);
            prop_assert_eq!(MailDigest::read(&octets).unwrap(), MailDigest::of(&raw));
        }

        #[test]
        fn a_key_comes_back_from_its_text(raw in ".{0,20}") {
            let key = key(&raw);
            prop_assert_eq!(key.to_string().parse::<HandoffKey>(), Ok(key));
        }
    }
}
