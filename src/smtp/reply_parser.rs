//! Replies that a next hop sends us (RFC 5321 4.2), read strictly and bounded.
//!
//! Contract: a reply is whole or an error; after an error, or when octets are left that no
//! command asked for, the connection is out of step and must not be used again.

use std::collections::VecDeque;

use super::{EnhancedCode, Reply};

const LINE_OCTETS: usize = 4096;
const REPLY_OCTETS: usize = 64 * 1024;

/// One reply of a server, all its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerReply {
    /// 200-599.
    pub code: u16,
    /// The code of the first line, if there is one and its class is the code's (RFC 2034 4).
    pub enhanced: Option<EnhancedCode>,
    /// The text of each line, without codes and line end; octets that are no UTF-8 are replaced.
    pub lines: Vec<String>,
}

impl ServerReply {
    /// 2yz.
    pub fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

/// The lines joined and escaped; a reply without enhanced code stays without.
impl From<ServerReply> for Reply {
    fn from(reply: ServerReply) -> Self {
        let escaped = Reply::new(reply.code, 0, 0, reply.lines.join(" "));
        Self {
            enhanced: reply.enhanced,
            ..escaped
        }
    }
}

/// Why what a server sent is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A line over 4 KiB or a reply over 64 KiB.
    #[error("the server's reply is too long")]
    TooLong,
    /// No three-digit code of 200-599 followed by a space, a hyphen or the line's end; or a line
    /// end that is not CRLF.
    #[error("the server's reply is not one of SMTP")]
    Syntax,
    /// A multi-line reply whose lines have different codes.
    #[error("the server's reply changes its code between lines")]
    CodeChanged,
}

/// Reads replies out of octets that come in pieces.
#[derive(Debug, Default)]
pub struct ReplyParser {
    line: Vec<u8>,
    current: Option<ServerReply>,
    octets: usize,
    done: VecDeque<ServerReply>,
    error: Option<ReplyError>,
}

impl ReplyParser {
    /// A parser that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes octets as they were read. What comes after an error is not looked at.
    pub fn feed(&mut self, octets: &[u8]) {
        for piece in octets.split_inclusive(|&octet| octet == b'\n') {
            if self.error.is_some() {
                return;
            }
            if let Err(error) = self.piece(piece) {
                self.error = Some(error);
                self.line = Vec::new();
            }
        }
    }

    /// The next whole reply, in order; `None` when more octets are needed.
    ///
    /// # Errors
    /// [`ReplyError`] once the whole replies before the fault are taken, and from then on.
    pub fn next_reply(&mut self) -> Result<Option<ServerReply>, ReplyError> {
        match (self.done.pop_front(), self.error) {
            (Some(reply), _) => Ok(Some(reply)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    /// Nothing is left over: no whole reply, no part of one, no error. A connection that is not
    /// at rest when no command is open must not be reused.
    pub fn is_at_rest(&self) -> bool {
        self.line.is_empty()
            && self.current.is_none()
            && self.done.is_empty()
            && self.error.is_none()
    }

    fn piece(&mut self, piece: &[u8]) -> Result<(), ReplyError> {
        self.octets += piece.len();
        if self.line.len() + piece.len() > LINE_OCTETS || self.octets > REPLY_OCTETS {
            return Err(ReplyError::TooLong);
        }
        self.line.extend_from_slice(piece);
        if !piece.ends_with(b"\n") {
            return Ok(());
        }
        let line = std::mem::take(&mut self.line);
        let text = line.strip_suffix(b"\r\n").ok_or(ReplyError::Syntax)?;
        self.line_of_reply(text)
    }

    fn line_of_reply(&mut self, line: &[u8]) -> Result<(), ReplyError> {
        let (code, last, text) = split_code(line).ok_or(ReplyError::Syntax)?;
        let (enhanced, text) = split_enhanced(code, text);
        let text = String::from_utf8_lossy(text).into_owned();
        let mut reply = match self.current.take() {
            Some(reply) if reply.code != code => return Err(ReplyError::CodeChanged),
            Some(reply) => reply,
            None => ServerReply {
                code,
                enhanced,
                lines: Vec::new(),
            },
        };
        reply.lines.push(text);
        if last {
            self.octets = 0;
            self.done.push_back(reply);
        } else {
            self.current = Some(reply);
        }
        Ok(())
    }
}

fn split_code(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    if line.iter().any(|&octet| octet == b'\r' || octet == 0) {
        return None;
    }
    let (digits, rest) = line.split_at_checked(3)?;
    let code = number(digits)?;
    let (last, text) = match rest.split_first() {
        None => (true, rest),
        Some((b' ', text)) => (true, text),
        Some((b'-', text)) => (false, text),
        Some(_) => return None,
    };
    (200..600).contains(&code).then_some((code, last, text))
}

fn split_enhanced(code: u16, text: &[u8]) -> (Option<EnhancedCode>, &[u8]) {
    let end = memchr::memchr(b' ', text).unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end).unwrap_or((text, &[]));
    let mut numbers = word.split(|&octet| octet == b'.').map(number);
    match (
        numbers.next().flatten(),
        numbers.next().flatten(),
        numbers.next().flatten(),
        numbers.next(),
    ) {
        (Some(class @ 2..=5), Some(subject), Some(detail), None) if class == code / 100 => {
            let enhanced = EnhancedCode(class as u8, subject, detail);
            (Some(enhanced), rest.strip_prefix(b" ").unwrap_or(rest))
        }
        _ => (None, text),
    }
}

fn number(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(octets: &[u8]) -> (Vec<ServerReply>, Option<ReplyError>) {
        let mut parser = ReplyParser::new();
        parser.feed(octets);
        drain(&mut parser)
    }

    fn drain(parser: &mut ReplyParser) -> (Vec<ServerReply>, Option<ReplyError>) {
        let mut replies = Vec::new();
        loop {
            match parser.next_reply() {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => return (replies, None),
                Err(error) => return (replies, Some(error)),
            }
        }
    }

    #[test]
    fn whole_replies() {
        let rows: &[(&str, u16, Option<EnhancedCode>, &[&str])] = &[
            ("250 ok\r\n", 250, None, &["ok"]),
            ("250\r\n", 250, None, &[""]),
            (
                "250 2.0.0 ok\r\n",
                250,
                Some(EnhancedCode(2, 0, 0)),
                &["ok"],
            ),
            ("250 5.0.0 odd\r\n", 250, None, &["5.0.0 odd"]),
            ("550 5.1.1\r\n", 550, Some(EnhancedCode(5, 1, 1)), &[""]),
            ("452 4.2.2.1 x\r\n", 452, None, &["4.2.2.1 x"]),
            (
                "250-mx\r\n250-SIZE 10\r\n250 PIPELINING\r\n",
                250,
                None,
                &["mx", "SIZE 10", "PIPELINING"],
            ),
            (
                "550-5.7.1 a\r\n550 5.7.1 b\r\n",
                550,
                Some(EnhancedCode(5, 7, 1)),
                &["a", "b"],
            ),
        ];
        for (wire, code, enhanced, lines) in rows {
            let (replies, error) = all(wire.as_bytes());
            assert_eq!(error, None, "{wire:?}");
            assert_eq!(replies.len(), 1, "{wire:?}");
            assert_eq!(
                (replies[0].code, replies[0].enhanced),
                (*code, *enhanced),
                "{wire:?}"
            );
            assert_eq!(replies[0].lines, *lines, "{wire:?}");
        }
    }

    #[test]
    fn faults() {
        let long_line = format!("250 {}\r\n", "x".repeat(LINE_OCTETS));
        let long_reply = "250-x\r\n".repeat(REPLY_OCTETS / 7 + 1);
        let rows: &[(&str, usize, ReplyError)] = &[
            ("250 ok\n", 0, ReplyError::Syntax),
            ("250 a\rb\r\n", 0, ReplyError::Syntax),
            ("25 ok\r\n", 0, ReplyError::Syntax),
            ("2500 ok\r\n", 0, ReplyError::Syntax),
            ("100 ok\r\n", 0, ReplyError::Syntax),
            ("+OK\r\n", 0, ReplyError::Syntax),
            ("\r\n", 0, ReplyError::Syntax),
            ("250 ok\r\nHTTP/1.1\r\n", 1, ReplyError::Syntax),
            ("250-a\r\n550 b\r\n", 0, ReplyError::CodeChanged),
            (&long_line, 0, ReplyError::TooLong),
            (&long_reply, 0, ReplyError::TooLong),
        ];
        for (wire, whole, error) in rows {
            let (replies, found) = all(wire.as_bytes());
            assert_eq!(
                (replies.len(), found),
                (*whole, Some(*error)),
                "{wire:.40?}"
            );
        }
    }

    #[test]
    fn rest_is_seen() {
        let rows: &[(&str, bool)] = &[
            ("", true),
            ("2", false),
            ("250-a\r\n", false),
            ("250 a\r\n", false),
        ];
        for (wire, rest) in rows {
            let mut parser = ReplyParser::new();
            parser.feed(wire.as_bytes());
            assert_eq!(parser.is_at_rest(), *rest, "{wire:?}");
        }
        let mut parser = ReplyParser::new();
        parser.feed(b"250 a\r\n");
        drain(&mut parser);
        assert!(parser.is_at_rest());
    }

    #[test]
    fn as_one_clean_line() {
        let (replies, _) = all("550-5.7.1 a\u{1b}[2J\r\n550 5.7.1 \u{3042}\r\n".as_bytes());
        let reply = Reply::from(replies[0].clone());
        assert_eq!(reply.to_string(), "550 5.7.1 a\\u{1b}[2J \\u{3042}");
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(wire in "(250[ -](2\\.0\\.[0-9] )?[a-z]{0,3}\r?\n|[0-9 -]{0,4}\r\n){0,4}", cut in 0usize..40) {
            let (head, tail) = wire.as_bytes().split_at(cut.min(wire.len()));
            let mut parser = ReplyParser::new();
            parser.feed(head);
            parser.feed(tail);
            prop_assert_eq!(drain(&mut parser), all(wire.as_bytes()));
        }

        #[test]
        fn any_octets(wire in proptest::collection::vec(any::<u8>(), 0..200)) {
            all(&wire);
        }
    }
}
