//! The codecs of records and mail files for `fuzz/`: their checksums are put on, as no fuzzer finds
//! one by itself.

use super::{MailHeader, StoreError, mailfile, packed, record, seen};

/// A record of the index.
pub trait Record: Sized + PartialEq + std::fmt::Debug {
    /// See `record::encode`.
    fn encode(&self) -> Result<Vec<u8>, StoreError>;
    /// See `record::decode`.
    fn decode(value: &[u8]) -> Result<Self, StoreError>;
}

impl<R: record::Record + PartialEq + std::fmt::Debug> Record for R {
    fn encode(&self) -> Result<Vec<u8>, StoreError> {
        record::encode(self)
    }

    fn decode(value: &[u8]) -> Result<Self, StoreError> {
        record::decode(value)
    }
}

/// The value of a record whose JSON this is.
pub fn seal(json: &[u8]) -> Vec<u8> {
    packed::seal(json)
}

/// The mail file whose header's JSON this is.
pub fn seal_file(json: &[u8], body: &[u8]) -> Result<Vec<u8>, StoreError> {
    let start = mailfile::seal_start(json, body.len() as u64)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(body);
    Ok([start.as_slice(), body, &mailfile::trailer(&hasher)].concat())
}

/// Header and body of a mail file.
pub fn read_file(mut file: &[u8]) -> std::io::Result<(MailHeader, Vec<u8>)> {
    let len = u64::try_from(file.len()).unwrap_or(u64::MAX);
    let (header, body_len) = mailfile::read_start(&mut file, len)?;
    let body = mailfile::read_body(&mut file, body_len)?;
    Ok((header, body))
}

/// The value of a mark in the 24 h ledger.
pub fn encode_mark(expires_at: i64) -> Vec<u8> {
    seen::encode(expires_at)
}

/// The expiry of a mark.
pub fn decode_mark(value: &[u8]) -> Option<i64> {
    seen::decode(value)
}
