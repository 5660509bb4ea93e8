//! Mailboxes in an address list header (RFC 5322 3.4, and the shapes of real mail).
//!
//! Linear. Never fails: what is no address is passed over.

/// One mailbox found in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mailbox {
    /// The local part, quotes kept.
    pub local: String,
    /// The domain without white space and trailing dot.
    pub domain: String,
}

/// Every mailbox of an address list: several addresses, groups, comments, quoted strings, source
/// routes; also with a comma or a bracket missing.
pub(super) fn list(text: &str) -> Vec<Mailbox> {
    let mut reader = Reader {
        rest: text,
        phrase: Vec::new(),
        word: String::new(),
        gap: false,
        found: Vec::new(),
        open: Open::default(),
    };
    while let Some(c) = reader.rest.chars().next() {
        reader.take(c);
    }
    reader.separate();
    reader.found
}

/// Which closing characters are known not to come any more; so that none is sought twice.
#[derive(Default)]
struct Open {
    quote: bool,
    comment: bool,
}

struct Reader<'a> {
    rest: &'a str,
    phrase: Vec<String>,
    word: String,
    gap: bool,
    found: Vec<Mailbox>,
    open: Open,
}

impl Reader<'_> {
    fn take(&mut self, c: char) {
        match c {
            '"' if !self.open.quote => match quoted_end(self.rest) {
                Some(end) => {
                    let quoted = self.advance(end);
                    self.push(&quoted);
                }
                None => self.open.quote = true,
            },
            '(' if !self.open.comment => match comment_end(self.rest) {
                Some(end) => {
                    self.advance(end);
                    self.gap = true;
                }
                None => self.open.comment = true,
            },
            '<' => {
                self.phrase.clear();
                self.word.clear();
                self.advance(1);
                self.angle();
            }
            ',' | ';' => {
                self.advance(1);
                self.separate();
            }
            ':' if !self.word.contains('@') => {
                self.advance(1);
                self.phrase.clear();
                self.word.clear();
            }
            '\\' => {
                self.advance(1);
                let length = self.rest.chars().next().map_or(0, char::len_utf8);
                let escaped = self.advance(length);
                self.push(&escaped);
            }
            c if c.is_whitespace() => {
                self.advance(c.len_utf8());
                self.gap = true;
            }
            c => {
                let plain = self.advance(c.len_utf8());
                self.push(&plain);
            }
        }
    }

    fn advance(&mut self, octets: usize) -> String {
        let (taken, rest) = self
            .rest
            .split_at_checked(octets)
            .unwrap_or((self.rest, ""));
        self.rest = rest;
        taken.to_owned()
    }

    /// Adds to the word; a gap ends it, but not beside an `@` nor behind a dot of its domain.
    fn push(&mut self, text: &str) {
        let joins = text.starts_with('@')
            || self.word.ends_with('@')
            || (self.word.ends_with('.') && self.word.contains('@'))
            || (text.starts_with('.') && self.word.contains('@'));
        if self.gap && !joins && !self.word.is_empty() {
            self.phrase.push(std::mem::take(&mut self.word));
        }
        self.gap = false;
        self.word.push_str(text);
    }

    /// Ends one entry of the list: each word of it with an `@` is an address.
    fn separate(&mut self) {
        self.phrase.push(std::mem::take(&mut self.word));
        self.gap = false;
        for word in self.phrase.drain(..) {
            self.found.extend(mailbox(&word));
        }
    }

    /// Reads behind a `<` up to its `>`, or to where it must have been forgotten.
    fn angle(&mut self) {
        let mut spec = String::new();
        while let Some(c) = self.rest.chars().next() {
            match c {
                '>' => {
                    self.advance(1);
                    break;
                }
                '<' => break,
                '"' if !self.open.quote => match quoted_end(self.rest) {
                    Some(end) => spec.push_str(&self.advance(end)),
                    None => self.open.quote = true,
                },
                '(' if !self.open.comment => match comment_end(self.rest) {
                    Some(end) => {
                        self.advance(end);
                    }
                    None => self.open.comment = true,
                },
                c if c.is_whitespace() => {
                    self.advance(c.len_utf8());
                }
                c => spec.push_str(&self.advance(c.len_utf8())),
            }
        }
        self.found.extend(angle_spec(&spec));
        self.gap = true;
    }
}

/// The mailboxes between angle brackets: one, behind a source route if there is one
/// (RFC 5321 4.1.2); several where they were listed there.
fn angle_spec(spec: &str) -> Vec<Mailbox> {
    let spec = match spec.split_once(':') {
        Some((route, rest)) if spec.starts_with('@') || !route.contains('"') => rest,
        _ => spec,
    };
    if spec.starts_with('"') {
        return mailbox(spec).into_iter().collect();
    }
    spec.split([',', ';']).filter_map(mailbox).collect()
}

fn mailbox(word: &str) -> Option<Mailbox> {
    let (local, domain) = word.rsplit_once('@')?;
    let domain = domain.trim_end_matches(['.', '>']);
    let local = local.trim_start_matches('@');
    if local.is_empty() || domain.is_empty() {
        return None;
    }
    Some(Mailbox {
        local: local.to_owned(),
        domain: domain.to_owned(),
    })
}

/// Where the quoted string ends that `text` begins with.
fn quoted_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Where the comment ends that `text` begins with; comments nest.
fn comment_end(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' if depth == 1 => return Some(at + 1),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}
