//! Mailboxes in an address list header (RFC 5322 3.4, and the shapes of real mail).
//!
//! Linear. Never fails: what is no address is passed over.

/// Addresses of one header field name that are looked at: each costs a look-up a recipient.
pub(super) const MAX_ADDRESSES: usize = 1000;

/// One mailbox found in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mailbox {
    /// The local part, quotes kept.
    pub local: String,
    /// The domain without white space and trailing dot.
    pub domain: String,
}

/// Every mailbox of an address list: several addresses, groups, comments, quoted strings, source
/// routes; also with a comma or a bracket missing. Ends soon behind [`MAX_ADDRESSES`].
pub(super) fn list(text: &str) -> Vec<Mailbox> {
    let mut reader = Reader {
        rest: text,
        phrase: Vec::new(),
        word: String::new(),
        has_at: false,
        gap: false,
        found: Vec::new(),
        open: Open::default(),
    };
    while let Some(c) = reader.rest.chars().next() {
        reader.take(c);
        if reader.found.len() >= MAX_ADDRESSES {
            break;
        }
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

/// Octets that hold most addresses.
const USUAL: usize = 64;

struct Reader<'a> {
    rest: &'a str,
    /// The words of this entry, without the last.
    phrase: Vec<String>,
    word: String,
    /// The word has an `@` outside quotes.
    has_at: bool,
    /// White space or a comment came behind the word.
    gap: bool,
    found: Vec<Mailbox>,
    open: Open,
}

impl<'a> Reader<'a> {
    fn take(&mut self, c: char) {
        match c {
            '"' if !self.open.quote => match quoted_end(self.rest) {
                Some(end) => {
                    let quoted = self.advance(end);
                    self.push(quoted);
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
                self.clear();
                self.advance(1);
                self.angle();
            }
            ',' | ';' => {
                self.advance(1);
                self.separate();
            }
            ':' if !self.has_at => {
                self.advance(1);
                self.clear();
            }
            '\\' => {
                self.advance(1);
                let length = self.rest.chars().next().map_or(0, char::len_utf8);
                let escaped = self.advance(length);
                self.push(escaped);
            }
            c if c.is_whitespace() => {
                self.advance(c.len_utf8());
                self.gap = true;
            }
            c => {
                let plain = self.advance(c.len_utf8());
                self.push(plain);
            }
        }
    }

    fn advance(&mut self, octets: usize) -> &'a str {
        let (taken, rest) = self
            .rest
            .split_at_checked(octets)
            .unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    /// Adds to the word; a gap ends it, but not beside an `@` nor behind a dot of its domain.
    fn push(&mut self, text: &str) {
        let joins = text == "@"
            || self.word.ends_with('@')
            || self.has_at && (self.word.ends_with('.') || text == ".");
        if self.gap && !joins {
            self.end_word();
        }
        self.gap = false;
        self.has_at |= text == "@";
        self.word.push_str(text);
    }

    fn end_word(&mut self) {
        if !self.word.is_empty() {
            self.phrase.push(std::mem::take(&mut self.word));
        }
        self.has_at = false;
    }

    fn clear(&mut self) {
        self.phrase.clear();
        self.word.clear();
        self.has_at = false;
    }

    /// Ends one entry of the list: each word of it with an `@` is an address.
    fn separate(&mut self) {
        self.end_word();
        self.gap = false;
        for word in self.phrase.drain(..) {
            self.found.extend(mailbox(&word));
        }
    }

    /// Reads behind a `<` up to its `>`, or to where it must have been forgotten.
    fn angle(&mut self) {
        let mut spec = String::with_capacity(USUAL);
        while let Some(c) = self.rest.chars().next() {
            match c {
                '>' => {
                    self.advance(1);
                    break;
                }
                '<' => break,
                '"' if !self.open.quote => match quoted_end(self.rest) {
                    Some(end) => spec.push_str(self.advance(end)),
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
                c => spec.push_str(self.advance(c.len_utf8())),
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
    let word = match word.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').unwrap_or(inner),
        None => word,
    };
    let (local, domain) = word.rsplit_once('@')?;
    let domain = domain.trim_end_matches(['.', '>']);
    let local = local.trim_start_matches('@');
    let encoded_word = word.starts_with("=?") && word.ends_with("?=");
    if local.is_empty() || domain.is_empty() || encoded_word {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shapes_of_real_mail() {
        let rows = [
            ("a@b.c", "a@b.c"),
            ("<a@b.c>", "a@b.c"),
            ("Name <a@b.c>", "a@b.c"),
            ("\"Na, me <x@y>\" <a@b.c>", "a@b.c"),
            ("x@y <a@b.c>", "a@b.c"),
            ("a@b.c (x@y)", "a@b.c"),
            ("a@b.c, d@e.f", "a@b.c d@e.f"),
            ("A <a@b.c>; D <d@e.f>;", "a@b.c d@e.f"),
            ("a@b.c d@e.f", "a@b.c d@e.f"),
            ("<a@b.c> B <d@e.f>", "a@b.c d@e.f"),
            ("Group: a@b.c, D <d@e.f>;, g@h", "a@b.c d@e.f g@h"),
            ("Undisclosed recipients:;", ""),
            ("<>", ""),
            ("MAILER-DAEMON <>", ""),
            ("", ""),
            ("root", ""),
            ("=?utf-8?q?a@b?=", ""),
            ("=?utf-8?q?x@y?= <a@b.c>", "a@b.c"),
            ("<root>", ""),
            ("a@", ""),
            ("@b", ""),
            ("Big Bug bb@bug.com", "bb@bug.com"),
            ("Mr. bb@bug.com", "bb@bug.com"),
            ("pete(his account)@silly.test(his host)", "pete@silly.test"),
            ("jdoe@machine(comment).  example", "jdoe@machine.example"),
            ("foo @ bar.com", "foo@bar.com"),
            ("< a @ b . c >", "a@b.c"),
            ("<a@b.c.>", "a@b.c"),
            ("a@b.c.", "a@b.c"),
            ("<@r.x,@r.y:a@b.c>", "a@b.c"),
            ("<@test.com, @test.ru:test@attack.com>", "test@attack.com"),
            ("<a@b.c", "a@b.c"),
            ("<<a@b.c>>", "a@b.c"),
            ("<a@b.c, d@e.f>", "a@b.c d@e.f"),
            ("<mailto:a@b.c>", "a@b.c"),
            ("\\\"X\\\" <a@b.c>", "a@b.c"),
            ("\"unclosed <a@b.c>", "a@b.c"),
            ("(unclosed <a@b.c>", "a@b.c"),
            ("(((((a) <a@b.c>", "a@b.c"),
            ("\"a b\"@c.d", "\"a b\"@c.d"),
            ("<\"a>b\"@c.d>", "\"a>b\"@c.d"),
            ("\"a\".b@c.d", "\"a\".b@c.d"),
            ("joe]@x.y", "joe]@x.y"),
            ("[a@b.c]", "a@b.c"),
            ("a@[192.0.2.1]", "a@[192.0.2.1]"),
            ("user..name.@docomo.ne.jp", "user..name.@docomo.ne.jp"),
            ("太郎 <太郎@例え.jp>", "太郎@例え.jp"),
            ("山田，太郎 <a@b.c>", "a@b.c"),
            ("a@b@c.d", "a@b@c.d"),
            ("(c \\) d) a@b.c (e (f))", "a@b.c"),
        ];
        for (text, expected) in rows {
            let found: Vec<String> = list(text)
                .into_iter()
                .map(|found| format!("{}@{}", found.local, found.domain))
                .collect();
            assert_eq!(found.join(" "), expected, "{text:?}");
        }
    }

    #[test]
    fn unclosed_marks_are_sought_once() {
        for open in [
            "(", "\"", "<", "<\"", "(\"", "a@b <", "\\", "a.", "a. ", "a@b.", ":", "@:",
        ] {
            list(&open.repeat(200_000));
        }
    }

    proptest! {
        #[test]
        fn any_text(text in any::<String>()) {
            list(&text);
        }

        #[test]
        fn a_plain_address_is_found_anywhere(
            before in "[a-z ]{0,6}", local in "[a-z][a-z.+-]{0,6}", domain in "[a-z]{1,5}(\\.[a-z]{1,3})?",
        ) {
            let found = list(&format!("{before} <{local}@{domain}>, x"));
            prop_assert_eq!(found, vec![Mailbox { local, domain }]);
        }
    }
}
