//! The mark that tells our own mail apart (forwards, and the letters that we write), so that a mail
//! going round is stopped and kept (RFC 5321 6.3; RELIABILITY 4d).
//!
//! The mark is keyed: nobody else can write one and so stop a mailbox's forwarding.

use crate::mail::Header;

/// The field that carries the mark.
const LOOP_FIELD: &str = "X-Sekimori-Fwd";

/// The mark of one mailbox, 64 hexadecimal digits: keyed BLAKE3 of
/// [`Address::key`](crate::mail::Address::key).
fn loop_mark(secret: &[u8; 32], mailbox_key: &str) -> String {
    blake3::keyed_hash(secret, mailbox_key.as_bytes())
        .to_hex()
        .to_string()
}

/// Whether a mail was sent by this mailbox before: forwarded, or written for it.
pub fn is_marked(header: &Header, secret: &[u8; 32], mailbox_key: &str) -> bool {
    let mut marks = header.all(LOOP_FIELD).peekable();
    // Hardly any mail has one, and a key costs a hash.
    if marks.peek().is_none() {
        return false;
    }
    let mark = loop_mark(secret, mailbox_key);
    marks.any(|field| field.text() == mark)
}

/// The field as it is put before what is sent, with its CRLF.
pub fn loop_line(secret: &[u8; 32], mailbox_key: &str) -> Vec<u8> {
    format!("{LOOP_FIELD}: {}\r\n", loop_mark(secret, mailbox_key)).into_bytes()
}
