//! The records of the index: JSON of at most 4 KiB, which lies in sled as [`packed`] has it.
//!
//! Values over 8 KiB were lost or broke the database in power cuts (RELIABILITY F2), so a record
//! that is too long has its free texts shortened; one that consists of addresses is refused.
//! All times are wall-clock unix milliseconds.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Id, StoreError, packed};

/// The most octets a value in sled may have.
pub const MAX_VALUE: usize = 4096;
/// Version octet and checksum.
const OVERHEAD: usize = 5;
/// Free texts are not shortened below this; what is then still too long is refused.
const MIN_TEXT: usize = 16;
/// Texts of a why-record are not shortened below this: ids, times and words stay whole.
const MIN_WHY_TEXT: usize = 64;
/// The lists of a why-record that go last.
const KEPT_LISTS: [&str; 2] = ["/effects", "/steps"];

/// Where a quarantined mail is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuarantineState {
    /// Nothing asked for it.
    Held,
    /// A release is on its way; a crash here releases it again (RELIABILITY C13).
    Releasing,
    /// It was released; the entry stays until it expires.
    Released,
}

/// One held mail of one mailbox; serializes to the fields of `quarantine list --json`
/// (CONTRACT section 4) but for the times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineEntry {
    /// Its name, also of its file.
    pub id: Id,
    /// Whose it is.
    pub mailbox: String,
    /// The stage that held it, such as `reject.subject_contains`.
    pub stage: String,
    /// `user_rule`, `spam` or `virus`.
    pub class: String,
    /// The entry that decided, as written; may be shortened.
    pub entry: Option<String>,
    /// File and line of the entry; may be shortened.
    pub origin: Option<String>,
    /// Reverse path, empty for the null path.
    pub sender: String,
    /// Header From; may be shortened.
    pub from: String,
    /// Decoded Subject; may be shortened.
    pub subject: String,
    /// Octets of the mail as received.
    pub size: u64,
    /// When it came in.
    pub received_at: i64,
    /// From this moment on it is gone.
    pub expires_at: i64,
    /// On its way out or not.
    pub state: QuarantineState,
    /// While it is being released: the address that was asked for instead of its mailbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_to: Option<String>,
    /// The hand-off that prepared it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handoff: Option<super::HandoffKey>,
}

/// What an outgoing mail is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutgoingKind {
    /// The original octets to a forwarding target.
    Forward,
    /// A receipt notice.
    Notify,
    /// An automatic reply.
    AutoReply,
    /// The report that replaces an infected mail.
    VirusReport,
    /// The owner is told of a held mail.
    QuarantineNotice,
    /// A quarantined mail that was released.
    Release,
}

impl OutgoingKind {
    /// The word of JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Notify => "notify",
            Self::AutoReply => "auto_reply",
            Self::VirusReport => "virus_report",
            Self::QuarantineNotice => "quarantine_notice",
            Self::Release => "release",
        }
    }

    /// Replies and notices are sent at most once (RFC 5436 2.7): where it is not known whether they
    /// left they are dropped, while mail itself is sent again (RELIABILITY C10, C14). A quarantine
    /// notice goes to its owner's own next hop, and a crash in the middle sends it again.
    pub fn at_most_once(self) -> bool {
        match self {
            Self::Notify | Self::AutoReply | Self::QuarantineNotice => true,
            Self::Forward | Self::VirusReport | Self::Release => false,
        }
    }
}

/// Where an outgoing mail is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutgoingState {
    /// Prepared, its hand-off not committed: never sent, gone after six days.
    Held,
    /// Due at `next_attempt_at`.
    Ready,
    /// The courier has it; nothing of it has left yet, or it may leave twice.
    Sending,
    /// It goes out at most once and its data are on their way: it may have arrived.
    Transmitting,
    /// Given up, kept seven days for the operator to see (`next_attempt_at` is when it goes); where it
    /// is the only copy of a mail (`fallback`), until the operator retries or drops it.
    Dead,
}

impl OutgoingState {
    /// The courier has it.
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Sending | Self::Transmitting)
    }

    /// The word of JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Ready => "ready",
            Self::Sending => "sending",
            Self::Transmitting => "transmitting",
            Self::Dead => "dead",
        }
    }
}

/// One mail on its way out. Its addresses are never shortened: about eight recipients of the
/// longest legal size fit, so a caller with more makes several items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutgoingItem {
    /// Its name, also of its file.
    pub id: Id,
    /// What it is.
    pub kind: OutgoingKind,
    /// On whose behalf.
    pub mailbox: String,
    /// Reverse path, empty for the null path.
    pub sender: String,
    /// Forward paths that are still open.
    pub recipients: Vec<String>,
    /// When it was prepared.
    pub created_at: i64,
    /// Tries so far.
    pub attempts: u32,
    /// The next try; meaningful with [`OutgoingState::Ready`].
    pub next_attempt_at: i64,
    /// The next hop's last words; may be shortened.
    pub last_reply: Option<String>,
    /// Where it is.
    pub state: OutgoingState,
    /// After this moment a failed try is the last.
    pub give_up_at: i64,
    /// Forwards: a copy is in the mailbox already, so a refusal needs no fallback.
    pub copy_kept: bool,
    /// Forwards: refused for good, it now goes into its owner's mailbox with a note.
    pub fallback: bool,
    /// The hand-off that prepared it.
    pub handoff: Option<super::HandoffKey>,
    /// The envelope needs `SMTPUTF8` (RFC 6531).
    pub smtputf8: bool,
    /// The body has 8-bit octets (RFC 6152).
    pub eight_bit: bool,
    /// Forward paths that are not open any more, since they refused for good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refusal>,
}

/// A forward path that took nothing, and nothing more is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The address.
    pub to: String,
    /// The next hop's words; may be shortened.
    pub reply: String,
}

impl OutgoingItem {
    /// A mail of our own (null reverse path, ASCII) that is ready at once. `give_up` is its age at
    /// which a failed try is the last.
    pub fn new(
        id: Id,
        kind: OutgoingKind,
        mailbox: String,
        recipients: Vec<String>,
        now: i64,
        give_up: Duration,
    ) -> Self {
        let give_up = i64::try_from(give_up.as_millis()).unwrap_or(i64::MAX);
        Self {
            id,
            kind,
            smtputf8: !mailbox.is_ascii() || recipients.iter().any(|to| !to.is_ascii()),
            mailbox,
            sender: String::new(),
            recipients,
            created_at: now,
            attempts: 0,
            next_attempt_at: now,
            last_reply: None,
            state: OutgoingState::Ready,
            give_up_at: now.saturating_add(give_up),
            copy_kept: true,
            fallback: false,
            handoff: None,
            eight_bit: false,
            refused: Vec::new(),
        }
    }

    /// Some have refused for good and keep their words; the last reply is that to those who are open.
    pub fn refuse(&mut self, refused: Vec<Refusal>, put_off: Option<String>) {
        self.refused.extend(refused);
        self.last_reply = put_off.or(self.last_reply.take());
    }
}

/// Why a mail went where it went, kept for the history's retention.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhyRecord<B = Value> {
    /// The `q=` of the reply.
    pub id: Id,
    /// Whose decision it is.
    pub mailbox: String,
    /// When the mail came in.
    pub received_at: i64,
    /// The rest, as `why ID --json` shows it. Its long texts and then its long lists are shortened
    /// until the record fits: a text then ends with `…`, and `left_out` has the length that a list
    /// had, under its name.
    pub body: B,
}

/// What the reply said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// `q=`.
    pub id: Id,
    /// `verdict=`.
    pub verdict: String,
    /// `stage=`, where there is one.
    pub stage: Option<String>,
}

/// One hand-off of one mail to one mailbox that was carried out: a retry gets the same answer and
/// nothing is done again. Kept six days (longer than an MTA retries).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handoff {
    /// What was replied.
    pub answer: Answer,
    /// Its outgoing items.
    pub outgoing: Vec<Id>,
    /// Its quarantine entry.
    pub quarantine: Option<Id>,
    /// When it was first seen.
    pub created_at: i64,
}

/// What can lie in the index as a checked value.
pub(crate) trait Record: Serialize + DeserializeOwned + Clone {
    /// It does not fit and is about to be shortened.
    fn shorten(&mut self) {}

    /// The texts that may be shortened.
    fn texts(&mut self) -> Vec<&mut String>;

    /// Drops what else can be missed; `false` when nothing is left to drop.
    fn reduce(&mut self) -> bool {
        false
    }
}

impl Record for QuarantineEntry {
    fn texts(&mut self) -> Vec<&mut String> {
        let places = self.entry.iter_mut().chain(self.origin.iter_mut());
        places.chain([&mut self.from, &mut self.subject]).collect()
    }
}

impl Record for OutgoingItem {
    fn texts(&mut self) -> Vec<&mut String> {
        let refused = self.refused.iter_mut().map(|refusal| &mut refusal.reply);
        self.last_reply.iter_mut().chain(refused).collect()
    }
}

impl Record for WhyRecord {
    fn texts(&mut self) -> Vec<&mut String> {
        let mut texts = Vec::new();
        collect_texts(&mut self.body, &mut texts);
        texts.retain(|text| text.len() > MIN_WHY_TEXT);
        texts
    }

    fn reduce(&mut self) -> bool {
        let mut lists = Vec::new();
        collect_lists(&self.body, String::new(), &mut lists);
        let rank = |at: &str| KEPT_LISTS.iter().position(|kept| *kept == at);
        let next = lists
            .into_iter()
            .max_by_key(|(len, at)| (std::cmp::Reverse(rank(at).map(|rank| rank + 1)), *len));
        if let Some((len, at)) = next
            && let Some(list) = self.body.pointer_mut(&at).and_then(Value::as_array_mut)
        {
            list.truncate(len / 2);
            note_left_out(&mut self.body, &at, len);
            return true;
        }
        let had = !self.body.is_null();
        self.body = Value::Null;
        had
    }
}

impl Record for Handoff {
    fn texts(&mut self) -> Vec<&mut String> {
        Vec::new()
    }
}

/// As much of a text as a record could hold at most. A longer one is shortened in any case, so no
/// record needs a copy of the rest: a header field may have a megabyte, and a mail 1,000 mailboxes.
pub fn beginning(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_VALUE))
        .unwrap_or(text)
}

/// The octets of a record for sled, at most [`MAX_VALUE`].
///
/// # Errors
/// [`StoreError::TooLarge`] when it cannot be shortened enough.
pub(crate) fn encode<R: Record>(record: &R) -> Result<Vec<u8>, StoreError> {
    let mut json = to_json(record)?;
    if !fits(&json) {
        json = to_short_json(record.clone())?;
    }
    Ok(packed::seal(&json))
}

/// [`encode`] of a why-record whose body is anything that says itself.
///
/// # Errors
/// As [`encode`].
pub(crate) fn encode_why<B: Serialize>(why: &WhyRecord<B>) -> Result<Vec<u8>, StoreError> {
    let mut json = to_json(why)?;
    if !fits(&json) {
        let known = serde_json::from_slice::<WhyRecord>(&json);
        json = to_short_json(known.map_err(|error| StoreError::Damaged(error.to_string()))?)?;
    }
    Ok(packed::seal(&json))
}

/// The record of such octets.
///
/// # Errors
/// [`StoreError::Damaged`] for anything that [`encode`] did not make.
pub(crate) fn decode<R: Record>(value: &[u8]) -> Result<R, StoreError> {
    let json = packed::open(value)?;
    serde_json::from_slice(&json)
        .map_err(|error| StoreError::Damaged(format!("index record: {error}")))
}

/// The first four octets of a BLAKE3 hash: enough to find damage, not meant against forgery.
pub(crate) fn checksum(bytes: &[u8]) -> [u8; 4] {
    let hash = blake3::hash(bytes);
    let [a, b, c, d, ..] = *hash.as_bytes();
    [a, b, c, d]
}

fn to_json(record: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let mut json = Vec::with_capacity(MAX_VALUE / 2);
    serde_json::to_writer(&mut json, record)
        .map_err(|error| StoreError::Damaged(error.to_string()))?;
    Ok(json)
}

fn fits(json: &[u8]) -> bool {
    json.len() + OVERHEAD <= MAX_VALUE
}

/// Cuts all texts to half as long, again and again, and then drops the rest bit by bit.
fn to_short_json<R: Record>(mut record: R) -> Result<Vec<u8>, StoreError> {
    record.shorten();
    let mut limit = MAX_VALUE / 2;
    while limit >= MIN_TEXT {
        record.texts().into_iter().for_each(|text| cut(text, limit));
        let json = to_json(&record)?;
        if fits(&json) {
            return Ok(json);
        }
        limit /= 2;
    }
    while record.reduce() {
        let json = to_json(&record)?;
        if fits(&json) {
            return Ok(json);
        }
    }
    Err(StoreError::TooLarge(format!(
        "a record that does not fit into {MAX_VALUE} octets"
    )))
}

/// Cuts a text over `limit` octets on a character boundary and ends it with `…`.
fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        let end = text.floor_char_boundary(limit.saturating_sub('…'.len_utf8()));
        text.truncate(end);
        text.push('…');
    }
}

fn collect_texts<'a>(value: &'a mut Value, found: &mut Vec<&'a mut String>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(items) => items.iter_mut().for_each(|item| collect_texts(item, found)),
        Value::Object(members) => {
            members
                .values_mut()
                .for_each(|member| collect_texts(member, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Says how long a list was before it was cut for the first time.
fn note_left_out(body: &mut Value, at: &str, len: usize) {
    let Some(members) = body.as_object_mut() else {
        return;
    };
    let noted = members.entry("left_out").or_insert_with(|| json!({}));
    if let Some(noted) = noted.as_object_mut() {
        let name = at.trim_start_matches('/').replace('/', ".");
        noted.entry(name).or_insert_with(|| len.into());
    }
}

/// Length and JSON pointer (RFC 6901) of every list that is not empty.
fn collect_lists(value: &Value, at: String, found: &mut Vec<(usize, String)>) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect_lists(item, format!("{at}/{index}"), found);
            }
            if !items.is_empty() {
                found.push((items.len(), at));
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                collect_lists(member, format!("{at}/{name}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{HandoffKey, MailDigest};
    use proptest::prelude::*;

    fn entry(texts: [&str; 4]) -> QuarantineEntry {
        let [entry, origin, from, subject] = texts.map(str::to_owned);
        QuarantineEntry {
            id: Id::new(5),
            mailbox: "taro@example.jp".to_owned(),
            stage: "spam".to_owned(),
            class: "spam".to_owned(),
            entry: Some(entry),
            origin: Some(origin),
            sender: "a@b.example".to_owned(),
            from,
            subject,
            size: 1,
            received_at: 2,
            expires_at: 3,
            state: QuarantineState::Held,
            release_to: None,
            handoff: None,
        }
    }

    fn item(recipients: usize, reply: &str) -> OutgoingItem {
        OutgoingItem {
            id: Id::new(5),
            kind: OutgoingKind::Forward,
            mailbox: format!("{}@example.jp", "m".repeat(300)),
            sender: format!("{}@example.jp", "s".repeat(300)),
            recipients: vec![format!("{}@example.jp", "r".repeat(300)); recipients],
            created_at: 1,
            attempts: 1,
            next_attempt_at: 2,
            last_reply: Some(reply.to_owned()),
            state: OutgoingState::Ready,
            give_up_at: 3,
            copy_kept: false,
            fallback: false,
            handoff: Some(HandoffKey::new("a", "b", &MailDigest::of(b"c"))),
            smtputf8: false,
            eight_bit: true,
            refused: Vec::new(),
        }
    }

    #[test]
    fn long_records_are_shortened_or_refused() {
        let long = "あ".repeat(5000);
        let controls = "\u{1}".repeat(5000);
        for texts in [
            [long.as_str(); 4],
            [controls.as_str(); 4],
            ["", "", "", &long],
            // What was left out of its making counts as shortened too.
            ["", "", "", beginning(&long)],
        ] {
            let value = encode(&entry(texts)).unwrap();
            assert!(value.len() <= MAX_VALUE, "{}", value.len());
            let back: QuarantineEntry = decode(&value).unwrap();
            assert!(back.subject.ends_with('…'));
            assert_eq!(back.sender, "a@b.example");
        }
        let table = [(1, true), (8, true), (20, false)];
        for (recipients, expected) in table {
            let item = item(recipients, &long);
            let value = encode(&item);
            assert_eq!(value.is_ok(), expected, "{recipients}");
            if let Ok(value) = value {
                assert!(value.len() <= MAX_VALUE);
                assert_eq!(
                    decode::<OutgoingItem>(&value).unwrap().recipients,
                    item.recipients
                );
            }
        }
    }

    #[test]
    fn a_why_record_always_fits() {
        let long = "x".repeat(100_000);
        let many = vec![json!({"stage": "reject.subject_contains", "n": 1}); 2000];
        let table = [
            json!({"subject": long, "verdict": "deliver"}),
            json!({"steps": many, "verdict": "deliver"}),
            json!({"a/b~c": {"d": [[1, 2, 3], vec![0; 9000]]}, "verdict": "deliver"}),
        ];
        for body in table {
            let why = WhyRecord {
                id: Id::new(1),
                mailbox: "taro@example.jp".to_owned(),
                received_at: 1,
                body,
            };
            let value = encode(&why).unwrap();
            assert!(value.len() <= MAX_VALUE);
            let back: WhyRecord = decode(&value).unwrap();
            assert_eq!(back.body["verdict"], "deliver");
        }
        let keys: serde_json::Map<String, Value> = (0..3000)
            .map(|n| (format!("key{n}"), Value::Bool(true)))
            .collect();
        let why = WhyRecord {
            id: Id::new(1),
            mailbox: String::new(),
            received_at: 1,
            body: Value::Object(keys),
        };
        assert!(
            decode::<WhyRecord>(&encode(&why).unwrap())
                .unwrap()
                .body
                .is_null()
        );
    }

    #[test]
    fn a_shortened_why_record_says_what_went_and_keeps_what_names_things() {
        let ids: Vec<Id> = (0..12).map(|_| Id::new(1)).collect();
        let effect = |id: &Id| json!({"id": id, "kind": "forward", "state": "ready", "to": vec!["t".repeat(200); 4]});
        let stage = "reject.subject_contains";
        let why = WhyRecord {
            id: Id::new(1),
            mailbox: "taro@example.jp".to_owned(),
            received_at: 1,
            body: json!({
                "stage": stage,
                "steps": vec![json!({"stage": stage, "outcome": "pass"}); 9],
                "forward": {"to": vec!["t".repeat(200); 10]},
                "effects": ids.iter().map(effect).collect::<Vec<_>>(),
            }),
        };
        let value = encode(&why).unwrap();
        assert!(value.len() <= MAX_VALUE);
        let back: WhyRecord = decode(&value).unwrap();
        assert_eq!(back.body["stage"], stage);
        assert_eq!(back.body["steps"], why.body["steps"]);
        assert_eq!(back.body["left_out"]["forward.to"], 10, "{}", back.body);
        let effects = back.body["effects"].as_array().unwrap();
        assert_eq!(effects.len(), ids.len());
        for (effect, id) in effects.iter().zip(&ids) {
            assert_eq!(effect["id"], id.as_str());
        }
        // Shortened once more, it still says what was there at first.
        let again: WhyRecord = decode(&encode(&back).unwrap()).unwrap();
        assert_eq!(again.body["left_out"], back.body["left_out"]);
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let value = encode(&entry(["e", "o", "f", "s"])).unwrap();
        for at in 0..value.len() {
            for bit in 0..8 {
                let mut bad = value.clone();
                bad[at] ^= 1 << bit;
                assert!(decode::<QuarantineEntry>(&bad).is_err(), "{at} {bit}");
            }
            assert!(decode::<QuarantineEntry>(&value[..at]).is_err());
        }
    }

    proptest! {
        #[test]
        fn records_come_back(texts in prop::array::uniform4(".{0,60}"), size: u64, time: i64) {
            let mut entry = entry([&texts[0], &texts[1], &texts[2], &texts[3]]);
            entry.size = size;
            entry.received_at = time;
            prop_assert_eq!(decode::<QuarantineEntry>(&encode(&entry).unwrap()).unwrap(), entry);
        }

        #[test]
        fn no_octets_panic(value in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(decode::<Handoff>(&value).is_err());
        }
    }
}
