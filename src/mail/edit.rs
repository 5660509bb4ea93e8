//! The few changes that are ever made to a message: header lines put before it, an older
//! `Return-Path` taken out, the mark put before the local copy's Subject. The body is never touched.

use super::{Envelope, Message};

/// A `Received:` line for a mail that we took over (RFC 5321 4.4), CRLF included.
///
/// `date` is an RFC 5322 date; `for` is named only when the mail has one recipient (7.2).
pub fn received(_envelope: &Envelope, _hostname: &str, _id: &str, _date: &str) -> Vec<u8> {
    unimplemented!()
}

/// The header block with `mark` and one space before the text of the first Subject; a Subject
/// field with the mark alone where there is none. Everything else stays as it is.
/// Returns the new octets of `raw[..message.body_start]`.
pub fn mark_subject(_raw: &[u8], _message: &Message, _mark: &str) -> Vec<u8> {
    unimplemented!()
}

/// A header block without its fields of that name.
pub fn without_field(_header_block: &[u8], _name: &str) -> Vec<u8> {
    unimplemented!()
}
