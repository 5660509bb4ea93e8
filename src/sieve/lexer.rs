//! The words of a script (RFC 5228 section 8.1), each with its place, in one pass.

use super::script::Place;

/// Text that is no Sieve script, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    /// Where.
    pub place: Place,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl SyntaxError {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        Self {
            place,
            message: message.into(),
        }
    }
}

/// One word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// In lower case.
    Identifier(String),
    /// In lower case, without its colon.
    Tag(String),
    Number(u64),
    Text(String),
    /// One of `( ) [ ] { } , ;`.
    Mark(char),
    /// The lines of a comment.
    Comment(Vec<String>),
    End,
}

pub(super) struct Lexer<'a> {
    rest: &'a str,
    place: Place,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            rest: text.strip_prefix('\u{feff}').unwrap_or(text),
            place: Place { line: 1, col: 1 },
        }
    }

    pub(super) fn next(&mut self) -> Result<(Place, Token), SyntaxError> {
        self.take_while(|c| matches!(c, ' ' | '\t' | '\r' | '\n'));
        let place = self.place;
        let Some(c) = self.peek() else {
            return Ok((place, Token::End));
        };
        let token = match c {
            '#' => Token::Comment(vec![self.line_of_comment()]),
            '/' if self.rest.starts_with("/*") => self.bracket_comment()?,
            '"' => self.quoted_string()?,
            ':' => {
                self.advance();
                match self.identifier() {
                    Some(tag) => Token::Tag(tag),
                    None => return Err(SyntaxError::new(place, "a word is wanted behind `:`")),
                }
            }
            '(' | ')' | '[' | ']' | '{' | '}' | ',' | ';' => {
                self.advance();
                Token::Mark(c)
            }
            '0'..='9' => self.number()?,
            _ => match self.identifier() {
                Some(word) if word == "text" && self.peek() == Some(':') => self.multi_line()?,
                Some(word) => Token::Identifier(word),
                None => {
                    let message = format!("{c:?} begins no word of a script");
                    return Err(SyntaxError::new(place, message));
                }
            },
        };
        Ok((place, token))
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn advance(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = self.rest.get(c.len_utf8()..).unwrap_or_default();
        if c == '\n' {
            self.place.line = self.place.line.saturating_add(1);
            self.place.col = 1;
        } else {
            self.place.col = self.place.col.saturating_add(1);
        }
        Some(c)
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let begun = self.rest;
        while self.peek().is_some_and(&keep) {
            self.advance();
        }
        let taken = begun.len() - self.rest.len();
        begun.get(..taken).unwrap_or_default()
    }

    fn identifier(&mut self) -> Option<String> {
        if !self
            .peek()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        {
            return None;
        }
        let word = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        Some(word.to_ascii_lowercase())
    }

    fn number(&mut self) -> Result<Token, SyntaxError> {
        let place = self.place;
        let digits = self.take_while(|c| c.is_ascii_digit());
        let unit = match self.peek().map(|c| c.to_ascii_uppercase()) {
            Some('K') => 1 << 10,
            Some('M') => 1 << 20,
            Some('G') => 1 << 30,
            _ => 1_u64,
        };
        if unit > 1 {
            self.advance();
        }
        if self
            .peek()
            .is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            let message = "a number has digits and at most one of K, M, G behind them";
            return Err(SyntaxError::new(place, message));
        }
        let number = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
        let too_big = || SyntaxError::new(place, "a number over 64 bits");
        number.map(Token::Number).ok_or_else(too_big)
    }

    fn quoted_string(&mut self) -> Result<Token, SyntaxError> {
        let place = self.place;
        self.advance();
        let mut text = String::new();
        while let Some(c) = self.advance() {
            match c {
                '"' => return Ok(Token::Text(text)),
                '\\' => text.extend(self.advance()),
                '\0' => return Err(SyntaxError::new(place, "a NUL in a string")),
                _ => text.push(c),
            }
        }
        Err(SyntaxError::new(place, "a string without its closing `\"`"))
    }

    /// Behind the word `text`: its colon, the rest of that line, then lines up to one with a dot
    /// alone.
    fn multi_line(&mut self) -> Result<Token, SyntaxError> {
        let place = self.place;
        self.advance();
        self.take_while(|c| matches!(c, ' ' | '\t'));
        if self.peek() == Some('#') {
            self.line_of_comment();
        }
        self.take_while(|c| c == '\r');
        if self.peek() != Some('\n') {
            return Err(SyntaxError::new(
                place,
                "a new line is wanted behind `text:`",
            ));
        }
        self.advance();
        let mut text = String::new();
        while !self.rest.is_empty() {
            let line = self.take_while(|c| c != '\n');
            let ended = self.advance().is_some();
            let bare = line.strip_suffix('\r').unwrap_or(line);
            if bare == "." {
                return Ok(Token::Text(text));
            }
            text.push_str(
                bare.strip_prefix('.')
                    .filter(|_| bare.starts_with(".."))
                    .unwrap_or(bare),
            );
            if ended {
                text.push('\n');
            }
        }
        let message = "a text without a line that has only a dot, which ends it";
        Err(SyntaxError::new(place, message))
    }

    fn line_of_comment(&mut self) -> String {
        let line = self.take_while(|c| c != '\n');
        line.trim_start_matches('#').trim().to_owned()
    }

    fn bracket_comment(&mut self) -> Result<Token, SyntaxError> {
        let place = self.place;
        let Some(length) = self.rest.get(2..).and_then(|inner| inner.find("*/")) else {
            return Err(SyntaxError::new(
                place,
                "a comment without its closing `*/`",
            ));
        };
        let end = self.rest.len() - length - 4;
        let mut text = String::new();
        while self.rest.len() > end {
            text.extend(self.advance());
        }
        let inner = text.trim_start_matches("/*").trim_end_matches("*/");
        let lines = inner.lines().map(|line| line.trim().to_owned());
        Ok(Token::Comment(
            lines.filter(|line| !line.is_empty()).collect(),
        ))
    }
}
