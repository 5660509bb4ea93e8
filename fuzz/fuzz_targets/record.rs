//! Any octets as what the disk gives back: a value of the index, a mark, a mail file, an id. What
//! is no record is an error; what is one, written and read again, is the same and fits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sekimori::store::fuzzing::{Record, decode_mark, encode_mark, read_file, seal, seal_file};
use sekimori::store::{
    Handoff, HandoffKey, Id, MAX_VALUE, MailDigest, MailHeader, OutgoingItem, QuarantineEntry,
    WhyRecord,
};
use sekimori_fuzz::within;

fuzz_target!(|input: &[u8]| {
    let Some((&kind, octets)) = input.split_first() else {
        return;
    };
    // A JSON list of numbers is 16 times as large in memory, and a record is copied while it is
    // shortened.
    within((1 << 20) + 400 * octets.len(), || match kind % 8 {
        0 => record::<QuarantineEntry>(octets),
        1 => record::<OutgoingItem>(octets),
        2 => record::<Handoff>(octets),
        3 => why(octets),
        4 => file(octets),
        5 => names(octets),
        6 => raw(octets),
        _ => digest(octets),
    });
});

/// JSON with a good checksum around it.
fn record<R: Record>(json: &[u8]) {
    let Ok(read) = R::decode(&seal(json)) else {
        return;
    };
    let Ok(value) = read.encode() else {
        assert!(
            json.len() + 8 > MAX_VALUE / 2,
            "a short record does not fit"
        );
        return;
    };
    assert!(value.len() <= MAX_VALUE);
    let again = R::decode(&value).expect("what was written is read");
    let twice = again.encode().expect("what fits, fits");
    assert!(twice.len() <= MAX_VALUE);
    let third = R::decode(&twice).expect("what was written is read");
    // Written without a loss unless it was too long.
    if value.len() < MAX_VALUE / 2 && json.len() < MAX_VALUE / 2 {
        assert_eq!(format!("{read:?}"), format!("{again:?}"));
    }
    assert_eq!(again, third);
}

fn why(json: &[u8]) {
    // The last digit of a fraction may change; we write none.
    if !json.contains(&b'.') && !json.contains(&b'e') && !json.contains(&b'E') {
        record::<WhyRecord>(json);
    } else {
        let _ = WhyRecord::decode(&seal(json)).map(|read| read.encode().map(|value| value.len()));
    }
}

/// A mail file: the header's JSON, 0xFF, the body.
fn file(octets: &[u8]) {
    let at = octets
        .iter()
        .position(|&octet| octet == 0xff)
        .unwrap_or(octets.len());
    let (json, body) = octets.split_at(at);
    let sealed = seal_file(json, body).expect("a short header");
    let Ok((header, read)) = read_file(&sealed) else {
        assert!(serde_json::from_slice::<MailHeader>(json).is_err());
        return;
    };
    assert_eq!(read, body);
    let json = serde_json::to_vec(&header).expect("JSON");
    let again = seal_file(&json, body).expect("a short header");
    assert_eq!(
        read_file(&again).expect("what was written is read"),
        (header, read)
    );
    // One octet more, less or other is damage.
    assert!(read_file(&[again.as_slice(), b"x"].concat()).is_err());
    assert!(read_file(&again[..again.len() - 1]).is_err());
    let mut other = again;
    let at = octets.len() * 7 % other.len();
    other[at] ^= 1;
    assert!(read_file(&other).is_err(), "octet {at} is not looked at");
}

fn names(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    if let Ok(id) = text.parse::<Id>() {
        assert_eq!(id.to_string(), text);
        assert_eq!(text.len(), 26);
        assert!(
            text.bytes()
                .all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit())
        );
        assert!(Id::floor(id.millis()) <= id);
    }
    if let Ok(key) = text.parse::<HandoffKey>() {
        assert_eq!(key.to_string(), text.to_ascii_lowercase());
    }
    if let Some(expires_at) = octets
        .first_chunk::<8>()
        .map(|time| i64::from_le_bytes(*time))
    {
        assert_eq!(decode_mark(&encode_mark(expires_at)), Some(expires_at));
    }
}

/// Without a checksum of ours.
fn raw(octets: &[u8]) {
    let _ = QuarantineEntry::decode(octets);
    let _ = WhyRecord::decode(octets);
    let _ = decode_mark(octets);
    if let Ok((_, body)) = read_file(octets) {
        assert!(body.len() < octets.len());
    }
}

/// What a delivering MTA writes anew at each try changes nothing.
fn digest(mail: &[u8]) {
    let digest = MailDigest::of(mail);
    for line in [
        "Return-Path: <a@b>\r\n",
        "delivered-to:\r\n c@d\r\n",
        "X-Original-To: e\n",
    ] {
        let retried = [line.as_bytes(), mail].concat();
        // A line that begins with white space would go on in ours.
        if !mail
            .first()
            .is_some_and(|octet| matches!(octet, b' ' | b'\t'))
        {
            assert_eq!(MailDigest::of(&retried), digest);
        }
    }
    let received = [b"Received: x\r\n".as_slice(), mail].concat();
    assert_ne!(MailDigest::of(&received), digest);
}
