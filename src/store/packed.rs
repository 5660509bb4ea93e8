//! How a record's JSON lies in sled: version octet, checksum, and the JSON without what all records
//! have in common, most of a why-record. LZ4 (block format) finds that in [`COMMON`].
//!
//! Values of version 1 have the JSON as it is: older ones, and what does not get shorter.

use std::borrow::Cow;
use std::sync::LazyLock;

use lz4_flex::block::decompress_with_dict;

use super::StoreError;
use super::dictionary::Dictionary;
use super::record::{MAX_VALUE, checksum};

/// The JSON as it is.
const PLAIN: u8 = 1;
/// LZ4 with [`COMMON`].
const PACKED: u8 = 2;
/// Version octet and checksum.
const OVERHEAD: usize = 5;

/// What records are made of. Every value of version 2 refers to these octets: they never change;
/// other ones would be a version of their own.
const COMMON: &[u8] = concat!(
    r#"{"answer":{"id":"01m8","verdict":"deliver","stage":null},"outgoing":[],"quarantine":null,"created_at":179"#,
    r#","verdict":"quarantine","stage":"reject.from_suffixes"},"outgoing":[],"quarantine":"01m8"#,
    r#","no_from":"empty_address","no_subject":"missing","attachment":true,"size":4096,"virus":"clean","spam":false,"#,
    r#""spam_score":0,"dmarc":true,"trusted":true,"looping":true,"cut":true,"verdict":"quarantine","stage":"spam","#,
    r#""forward":["],"recipient":"{"id":"01m8","kind":"auto_reply","kind":"notify","kind":"virus_report","#,
    r#""kind":"quarantine_notice","kind":"release","kind":"forward","mailbox":"@example.","sender":"","recipients":["@"],"#,
    r#""created_at":179,"attempts":0,"next_attempt_at":179,"last_reply":null,"state":"transmitting","state":"sending","#,
    r#""state":"ready","give_up_at":179,"copy_kept":true,"copy_kept":false,"fallback":false,"handoff":null,"#,
    r#""smtputf8":false,"eight_bit":true,"refused":[{"to":","reply":"{"id":"01m8","sender":"@mail.","from":["],"#,
    r#""subject":["],"size":4096,"trusted":true,"verdict":"quarantine","stage":"reject.from_suffixes","#,
    r#""entry":"@","origin":".yaml:"}{"id":"01m8","mailbox":"@","stage":"reject.subject_contains","#,
    r#""class":"user_rule","class":"virus","class":"spam","entry":null,"origin":null,"sender":"@","from":" <","#,
    r#""subject":"","size":4096,"received_at":179,"expires_at":179,"state":"released","state":"held","release_to":null,"#,
    r#""handoff":"{"id":"01m8","mailbox":"@","received_at":179,"body":{"mailbox":"@","#,
    r#""verdict":"quarantine","stage":"reject.from_suffixes","entry":"@","origin":".yaml:","mark":null,"#,
    r#""verdict":"forward","verdict":"virus_report","verdict":"deliver","stage":null,"entry":null,"origin":null,"mark":null,"#,
    r#""forward":{"rule":"all","rule":null,"to":[],"keep":true},"notify":[],"#,
    r#""auto_reply":{"would_send":true,"would_send":false,"reason":"off"},"steps":["#,
    r#"{"stage":"reject.from_suffixes","outcome":"match","entry":"@","origin":".yaml:"},"#,
    r#"{"stage":"reject.subject_contains","outcome":"match","entry":""#,
    r#"{"stage":"reject.from_suffixes","outcome":"off"},{"stage":"reject.subject_contains","outcome":"off"},{"stage":"reject.headers","outcome":"off"},{"stage":"allow","outcome":"pass"},"#,
    r#"{"stage":"virus","outcome":"pass"},{"stage":"spam","outcome":"pass"},{"stage":"forwarding","outcome":"match"},"#,
    r#"{"stage":"reject.subject_contains","outcome":"skipped"},{"stage":"reject.headers","outcome":"skipped"},"#,
    r#"{"stage":"reject.from_suffixes","outcome":"pass"},{"stage":"reject.subject_contains","outcome":"pass"},"#,
    r#"{"stage":"reject.headers","outcome":"pass"},{"stage":"allow","outcome":"off"},{"stage":"virus","outcome":"off"},"#,
    r#"{"stage":"spam","outcome":"off"},{"stage":"forwarding","outcome":"off"},{"stage":"notify","outcome":"off"},"#,
    r#"{"stage":"auto_reply","outcome":"off"}],"id":"01m8","recipient":"@","received_at":"2026-"#,
    r#"Z","sender":"@","client":"127.0.0.1","message_id":"<","#,
    r#"@mail.>","from":" <","subject":"","size":4096,"bounds":null,"#,
    r#""scan":{"virus":"clean","spam":"ham","scan":{"virus":"not_scanned","spam":"not_scanned"},"auth":{"dmarc":true},"auth":{"dmarc":false},"generation":""#,
    r#"","delivery":{"place":"new/","reply":null},"effects":[],"matched":null,"matches":{}}}"#,
    r#"","delivery":null,"effects":[{"id":"01m8","kind":"quarantine","to":["@"],"state":"expired","state":"sent","state":"held","#,
    r#""reply":null}],"matched":"@","matches":{"reject.from_suffixes":"@"}}}"#,
    r#""matches":{"reject.subject_contains":"#,
)
.as_bytes();

static DICTIONARY: LazyLock<Dictionary> = LazyLock::new(|| Dictionary::new(COMMON));

/// The value of a record's JSON; never longer than the JSON by more than 5 octets.
pub(crate) fn seal(json: &[u8]) -> Vec<u8> {
    let packed = DICTIONARY.pack(json);
    let (version, body) = match packed.len() < json.len() {
        true => (PACKED, packed.as_slice()),
        false => (PLAIN, json),
    };
    [[version].as_slice(), &checksum(body), body].concat()
}

/// The JSON of a value.
///
/// # Errors
/// [`StoreError::Damaged`] for anything that [`seal`] did not make.
pub(crate) fn open(value: &[u8]) -> Result<Cow<'_, [u8]>, StoreError> {
    let damaged = |what: &str| StoreError::Damaged(format!("index record: {what}"));
    let (head, body) = value
        .split_first_chunk::<OVERHEAD>()
        .ok_or_else(|| damaged("cut off"))?;
    let [version, sum @ ..] = *head;
    if !matches!(version, PLAIN | PACKED) {
        return Err(damaged("unknown version"));
    }
    if sum != checksum(body) {
        return Err(damaged("wrong checksum"));
    }
    if version == PLAIN {
        return Ok(Cow::Borrowed(body));
    }
    let json = decompress_with_dict(body, MAX_VALUE, COMMON);
    json.map(Cow::Owned)
        .map_err(|error| damaged(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_common_never_changes() {
        let hash = blake3::hash(COMMON).to_hex();
        assert_eq!(
            hash.as_str(),
            "6ee87c99a43ef3904dcfaa30fcca6909fcf68738d7c3f5236ed1633f3aa77965"
        );
    }

    #[test]
    fn values_of_the_first_version_are_read() {
        let json = br#"{"id":1}"#;
        let value = [[PLAIN].as_slice(), &checksum(json), json].concat();
        assert_eq!(open(&value).unwrap().as_ref(), json);
    }

    #[test]
    fn what_does_not_get_shorter_lies_as_it_is() {
        let noise: Vec<u8> = (0..MAX_VALUE - OVERHEAD)
            .scan(1_u32, |state, _| {
                *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes().first().copied()
            })
            .collect();
        let value = seal(&noise);
        assert_eq!((value.len(), value[0]), (MAX_VALUE, PLAIN));
        assert_eq!(open(&value).unwrap().as_ref(), noise);
    }

    #[test]
    fn a_value_that_unpacks_to_too_much_is_damaged() {
        let bomb = lz4_flex::block::compress(&vec![b' '; 1 << 20]);
        let value = [[PACKED].as_slice(), &checksum(&bomb), &bomb].concat();
        assert!(matches!(open(&value), Err(StoreError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn octets_come_back(json in prop::collection::vec(any::<u8>(), 0..MAX_VALUE - OVERHEAD)) {
            let value = seal(&json);
            prop_assert!(value.len() <= json.len() + OVERHEAD);
            let back = open(&value).unwrap();
            prop_assert_eq!(back.as_ref(), json);
        }

        #[test]
        fn what_is_common_comes_back(
            parts in prop::collection::vec(
                (0..COMMON.len(), 0..300_usize, prop::collection::vec(any::<u8>(), 0..20)),
                0..15,
            ),
        ) {
            let part = |(at, length, other): &(usize, usize, Vec<u8>)| {
                let end = COMMON.len().min(at + length);
                [&COMMON[*at..end], other].concat()
            };
            let mut json: Vec<u8> = parts.iter().flat_map(part).collect();
            json.truncate(MAX_VALUE - OVERHEAD);
            let back = open(&seal(&json)).unwrap().into_owned();
            prop_assert_eq!(back, json);
        }

        #[test]
        fn no_octets_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let value = [[PACKED].as_slice(), &checksum(&body), &body].concat();
            let _ = open(&value);
        }
    }
}
