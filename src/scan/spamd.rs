//! spamd: SPAMC protocol 1.5 (spamd/PROTOCOL of SpamAssassin), one connection a request, as spamd
//! has it. No `User`: the rules are the site's, for all recipients.

use std::io;
use std::time::Instant;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::error::name;
use super::gate::{Gate, Patience};
use super::wire::{self, Fault, Source};
use super::{Learned, MAX_SYMBOLS, Mail, ScanError, Settings, SpamFinding, State, Symbol};
use crate::mail::Octets;

/// Octets of an answer; all rules of SpamAssassin together are a third of that.
const MAX_REPLY: usize = 64 * 1024;
/// Octets of its head.
const MAX_HEAD: usize = 4096;

/// A spamd.
#[derive(Debug)]
pub struct Spamd {
    gate: Gate,
}

impl Spamd {
    /// Connects nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            gate: Gate::new("spamd", settings),
        }
    }

    /// How it is.
    pub fn state(&self) -> State {
        self.gate.state()
    }

    /// Has one mail looked at, before `deadline` and within its own timeout. spamd learns the
    /// envelope from the mail's own header fields.
    ///
    /// # Errors
    /// Those of [`ScanError`].
    pub async fn scan(&self, mail: &Mail<'_>, deadline: Instant) -> Result<SpamFinding, ScanError> {
        self.gate
            .pass(deadline, |patience| {
                ask(patience, "SYMBOLS SPAMC/1.5\r\n", mail, symbols)
            })
            .await
    }

    /// Tells it that this mail is no spam. It must run with `--allow-tell`.
    ///
    /// # Errors
    /// Those of [`ScanError`]; [`ScanError::Refused`] with spamd's words when it does not learn.
    pub async fn learn_ham(
        &self,
        mail: &Mail<'_>,
        deadline: Instant,
    ) -> Result<Learned, ScanError> {
        let head = "TELL SPAMC/1.5\r\nMessage-class: ham\r\nSet: local\r\n";
        self.gate
            .pass(deadline, |patience| ask(patience, head, mail, told))
            .await
    }
}

async fn ask<T>(
    patience: Patience<'_>,
    head: &str,
    mail: &Mail<'_>,
    parse: impl Fn(&[u8]) -> Result<Option<T>, Fault>,
) -> Result<T, ScanError> {
    let head = format!("{head}Content-length: {}\r\n\r\n", mail.size());
    let (mut reader, mut writer) = tokio::io::split(wire::connect(patience).await?);
    let mut said = Vec::new();
    let writing = send(&mut writer, head.as_bytes(), mail.pieces);
    let reading = wire::listen(&mut reader, &mut said, MAX_REPLY, parse);
    let heard = wire::converse(patience, writing, reading).await?;
    heard
        .answer
        .map_err(|fault| fault.into_error(patience, &said, mail.size()))
}

async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    head: &[u8],
    pieces: &[Octets],
) -> io::Result<()> {
    writer.write_all(head).await?;
    let mut source = Source::new(pieces);
    while let Some(octets) = source.next().await? {
        writer.write_all(&octets).await?;
    }
    writer.flush().await
}

/// Reads the answer to `SYMBOLS`; `None` = it is not whole yet.
///
/// # Errors
/// What spamd says instead of a verdict, or that this is no answer to it.
pub(super) fn symbols(said: &[u8]) -> Result<Option<SpamFinding>, Fault> {
    let Some((fields, body)) = head(said)? else {
        return Ok(None);
    };
    let (mut length, mut verdict) = (None, None);
    for (field, value) in fields {
        if field.eq_ignore_ascii_case("Content-length") {
            length = value.parse::<usize>().ok();
        } else if field.eq_ignore_ascii_case("Spam") {
            verdict = spam(value);
        }
    }
    let (spam, score, required) = verdict.ok_or(Fault::Nonsense("it has no proper Spam field"))?;
    let length = length
        .filter(|length| *length <= MAX_REPLY - MAX_HEAD)
        .ok_or(Fault::Nonsense("it has no proper Content-length"))?;
    let Some(names) = body.get(..length) else {
        return Ok(None);
    };
    let symbols = names
        .split(|octet| *octet == b',')
        .filter_map(|rule| std::str::from_utf8(rule).ok())
        .filter_map(|rule| Symbol::new(rule.trim(), None))
        .take(MAX_SYMBOLS)
        .collect();
    Ok(Some(SpamFinding {
        engine: "spamd",
        version: None,
        spam,
        score,
        required,
        action: None,
        symbols,
    }))
}

/// Reads the answer to `TELL`; `None` = it is not whole yet.
///
/// # Errors
/// What spamd says instead, or that this is no answer to it.
pub(super) fn told(said: &[u8]) -> Result<Option<Learned>, Fault> {
    let Some((fields, _)) = head(said)? else {
        return Ok(None);
    };
    let learned = fields
        .filter(|(field, _)| field.eq_ignore_ascii_case("DidSet"))
        .any(|(_, value)| value.split(',').any(|set| set.trim() == "local"));
    Ok(Some(if learned {
        Learned::New
    } else {
        Learned::Already
    }))
}

/// The fields of a good answer's head, and what stands behind it; `None` = it is not whole yet.
fn head(said: &[u8]) -> Result<Option<(impl Iterator<Item = (&str, &str)>, &[u8])>, Fault> {
    let window = said.get(..MAX_HEAD).unwrap_or(said);
    let not_yet = if said.len() < MAX_HEAD {
        Ok(None)
    } else {
        Err(Fault::Nonsense("its head is too long"))
    };
    let Some(end) = memchr::memmem::find(window, b"\r\n") else {
        return not_yet;
    };
    let (status, rest) = window.split_at(end);
    let (code, words) = code(status).ok_or(Fault::Nonsense("it is no SPAMD status line"))?;
    if code != 0 {
        return Err(Fault::Refused(name(words).into_bytes()));
    }
    let Some(blank) = memchr::memmem::find(rest, b"\r\n\r\n") else {
        return not_yet;
    };
    let fields = rest
        .get(..blank)
        .and_then(|fields| std::str::from_utf8(fields).ok())
        .ok_or(Fault::Nonsense("its head is no text"))?;
    let fields = fields
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .map(|(field, value)| (field.trim(), value.trim()));
    Ok(Some((
        fields,
        said.get(end + blank + 4..).unwrap_or_default(),
    )))
}

/// `SPAMD/1.1 76 Bad header line`: 76, and all behind the version.
fn code(status: &[u8]) -> Option<(u32, &[u8])> {
    let version = status.strip_prefix(b"SPAMD/")?;
    let space = memchr::memchr(b' ', version)?;
    let (version, words) = version.split_at_checked(space)?;
    let numeric = |octet: &u8| octet.is_ascii_digit() || *octet == b'.';
    let words = words.get(1..)?;
    let digits = words.split(|octet| *octet == b' ').next()?;
    let code = std::str::from_utf8(digits).ok()?.parse().ok()?;
    version.iter().all(numeric).then_some((code, words))
}

/// `True ; 7.2 / 5.0`
fn spam(value: &str) -> Option<(bool, f64, f64)> {
    let (word, points) = value.split_once(';')?;
    let (score, required) = points.split_once('/')?;
    let word = word.trim();
    let is = |words: [&str; 2]| words.iter().any(|known| word.eq_ignore_ascii_case(known));
    let spam = is(["True", "Yes"]);
    let number = |text: &str| {
        let number: f64 = text.trim().parse().ok()?;
        number.is_finite().then_some(number)
    };
    (spam || is(["False", "No"])).then_some((spam, number(score)?, number(required)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Verdict, score, required, rules.
    type Found = (bool, f64, f64, Vec<String>);

    fn found(said: &[u8]) -> Result<Option<Found>, Fault> {
        let names = |finding: &SpamFinding| {
            let names = finding.symbols.iter().map(|symbol| symbol.name.clone());
            names.collect()
        };
        Ok(symbols(said)?.map(|finding| {
            (
                finding.spam,
                finding.score,
                finding.required,
                names(&finding),
            )
        }))
    }

    #[test]
    fn what_spamd_says() {
        let good = |spam, score, required, rules: &[&str]| {
            let rules = rules.iter().map(|rule| (*rule).to_owned()).collect();
            Ok(Some((spam, score, required, rules)))
        };
        let nonsense = |why| Err(Fault::Nonsense(why));
        let refused = |text: &str| Err(Fault::Refused(text.into()));
        let rows: &[(&str, Result<Option<Found>, Fault>)] = &[
            (
                "SPAMD/1.1 0 EX_OK\r\nContent-length: 16\r\nSpam: True ; 1000.0 / 5.0\r\n\r\nGTUBE,NO_RELAYS\n",
                good(true, 1000.0, 5.0, &["GTUBE", "NO_RELAYS"]),
            ),
            (
                "SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nSpam: False ; -0.1 / 5.0\r\n\r\n",
                good(false, -0.1, 5.0, &[]),
            ),
            (
                "SPAMD/1.5 0 EX_OK\r\nspam: yes;7/5\r\ncontent-LENGTH:5\r\n\r\nA, B ,trailing",
                good(true, 7.0, 5.0, &["A", "B"]),
            ),
            ("SPAMD/1.1 0 EX_OK\r\n", Ok(None)),
            (
                "SPAMD/1.1 0 EX_OK\r\nContent-length: 9\r\nSpam: False ; 1 / 5\r\n\r\nGTUBE",
                Ok(None),
            ),
            (
                "SPAMD/1.0 76 Bad header line: BOGUS SPAMC/1.5\r\n",
                refused("76 Bad header line: BOGUS SPAMC/1.5"),
            ),
            (
                "SPAMD/1.1 79 Timeout: (30 second timeout while trying to SYMBOLS)\r\n",
                refused("79 Timeout: (30 second timeout while trying to SYMBOLS)"),
            ),
            ("220 mx ESMTP\r\n", nonsense("it is no SPAMD status line")),
            (
                "SPAMD/1.1 EX_OK\r\n\r\n",
                nonsense("it is no SPAMD status line"),
            ),
            (
                "SPAMD/x 0 EX_OK\r\n\r\n",
                nonsense("it is no SPAMD status line"),
            ),
            (
                "SPAMD/1.1 0 EX_OK\r\nSpam: True ; 7 / 5\r\n\r\nA",
                nonsense("it has no proper Content-length"),
            ),
            (
                "SPAMD/1.1 0 EX_OK\r\nContent-length: -1\r\nSpam: True ; 7 / 5\r\n\r\nA",
                nonsense("it has no proper Content-length"),
            ),
            (
                "SPAMD/1.1 0 EX_OK\r\nContent-length: 9999999\r\nSpam: True ; 7 / 5\r\n\r\nA",
                nonsense("it has no proper Content-length"),
            ),
            (
                "SPAMD/1.1 0 EX_OK\r\nContent-length: 1\r\n\r\nA",
                nonsense("it has no proper Spam field"),
            ),
            (
                "SPAMD/1.1 0 EX_OK\r\nContent-length: 1\r\nSpam: True ; nan / 5\r\n\r\nA",
                nonsense("it has no proper Spam field"),
            ),
            (
                "SPAMD/1.1 0 EX_OK\r\nContent-length: 1\r\nSpam: Maybe ; 7 / 5\r\n\r\nA",
                nonsense("it has no proper Spam field"),
            ),
        ];
        for (said, expected) in rows {
            assert_eq!(&found(said.as_bytes()), expected, "{said:?}");
        }
        let endless = "x".repeat(MAX_HEAD);
        assert_eq!(found(&endless.as_bytes()[1..]), Ok(None));
        assert_eq!(found(endless.as_bytes()), nonsense("its head is too long"));
    }

    #[test]
    fn what_it_says_to_a_lesson() {
        let rows = [
            ("SPAMD/1.1 0 EX_OK\r\nDidSet: local\r\n\r\n\r\n", Ok(Some(Learned::New))),
            ("SPAMD/1.1 0 EX_OK\r\nDidSet: remote, local\r\n\r\n", Ok(Some(Learned::New))),
            ("SPAMD/1.1 0 EX_OK\r\n\r\n\r\n", Ok(Some(Learned::Already))),
            ("SPAMD/1.1 0 EX_OK\r\n", Ok(None)),
            (
                "SPAMD/1.0 69 Service Unavailable: TELL commands are not enabled, set the --allow-tell switch.\r\n",
                Err(Fault::Refused(
                    "69 Service Unavailable: TELL commands are not enabled, set the --allow-tell switch.".into(),
                )),
            ),
        ];
        for (said, expected) in rows {
            assert_eq!(told(said.as_bytes()), expected, "{said:?}");
        }
    }

    #[test]
    fn symbols_are_printable_and_few() {
        let rules = format!("a b,\u{1b}[2J,,{},{}", "x".repeat(201), "R,".repeat(1000));
        let said = format!(
            "SPAMD/1.1 0 EX_OK\r\nContent-length: {}\r\nSpam: True ; 7 / 5\r\n\r\n{rules}",
            rules.len()
        );
        let symbols = symbols(said.as_bytes()).unwrap().unwrap().symbols;
        assert_eq!(symbols.len(), MAX_SYMBOLS);
        assert!(symbols.iter().all(|symbol| symbol.name == "R"));
    }

    proptest! {
        #[test]
        fn any_octets(said in any::<Vec<u8>>()) {
            let _ = (symbols(&said), told(&said));
            let _ = symbols(&[b"SPAMD/1.1 0 EX_OK\r\n".as_slice(), &said].concat());
        }

        #[test]
        fn a_finding_is_read_back(
            spam in any::<bool>(),
            tenths in -10_000i32..10_000,
            rules in proptest::collection::vec("[A-Z0-9_]{1,30}", 0..20),
        ) {
            let (score, rule_names) = (f64::from(tenths) / 10.0, rules.join(","));
            let word = if spam { "True" } else { "False" };
            let said = format!(
                "SPAMD/1.1 0 EX_OK\r\nContent-length: {}\r\nSpam: {word} ; {score:.1} / 5.0\r\n\r\n{rule_names}",
                rule_names.len()
            );
            for cut in 0..said.len() {
                prop_assert_eq!(found(&said.as_bytes()[..cut]), Ok(None));
            }
            prop_assert_eq!(found(said.as_bytes()), Ok(Some((spam, score, 5.0, rules))));
        }
    }
}
