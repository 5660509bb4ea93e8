//! What `explain` and `test` share: a mail, the settings of its mailbox, and the daemon's own
//! decision, with nothing carried out.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::run::runtime;
use super::{Exit, Failure, check};
use crate::agent::{self, Question, Scanners, Wanted};
use crate::config::{self, Config, Directory, Lookup, Mailbox};
use crate::execute::Scanned;
use crate::mail::{Address, AddressError, Envelope, Message, ReversePath};
use crate::policy::{Alone, Arrival, AuthReport, Plan, Screening};

/// The settings that mail is tried on.
pub(super) struct DryRun {
    pub(super) config: Arc<Config>,
    directory: Directory,
}

impl DryRun {
    pub(super) fn new(config: Config) -> Self {
        let config = Arc::new(config);
        let directory = Directory::new(config.clone());
        Self { config, directory }
    }

    /// The recipient that `--mailbox` names, completed as one of a hand-off, and its settings.
    ///
    /// # Errors
    /// No address, and as [`DryRun::mailbox`].
    pub(super) fn named(&self, name: &str) -> Result<(Address, Arc<Mailbox>), Failure> {
        let address = complete(name, &self.config)
            .map_err(|error| Failure::new(Exit::Usage, format!("--mailbox {name}: {error}")))?;
        let mailbox = self.mailbox(&address)?;
        Ok((address, mailbox))
    }

    /// The settings that a recipient's mail would meet.
    ///
    /// # Errors
    /// No such mailbox, or its file is bad: the daemon would have its settings from before, or the
    /// defaults.
    pub(super) fn mailbox(&self, recipient: &Address) -> Result<Arc<Mailbox>, Failure> {
        let mut found = self.directory.lookup(recipient);
        let own_file = matches!(&found, Lookup::Found(mailbox) if mailbox.path.is_some());
        if !own_file {
            // Only an alias can need the other files.
            self.directory.index_now();
            found = self.directory.lookup(recipient);
        }
        let mailbox = settings(found, recipient)?;
        // A good file is where these settings come from; of a bad one they are the defaults.
        if mailbox.path.is_none()
            && let Some(path) = self.directory.path_of(recipient)
        {
            config::load_mailbox(&self.config, &path).map_err(|errors| check::refused(&errors))?;
        }
        Ok(mailbox)
    }

    /// A mail's octets and facts; its line ends count as CRLF, as they would come over SMTP.
    pub(super) fn message(&self, raw: &[u8]) -> (Bytes, Message) {
        let raw = Bytes::from(crlf(raw));
        let message = Message::parse(&raw, &agent::bounds(&self.config.server.limits));
        (raw, message)
    }

    /// What scanners before us say of it, by its header fields.
    pub(super) fn upstream(&self, raw: &[u8], trusted: bool) -> Scanned {
        Scanners::new(&self.config.scanners).upstream(Some(raw), trusted)
    }

    /// What the daemon's own scanners say of it, if the mailbox wants to know.
    ///
    /// # Errors
    /// A scanner failed and the mail would be put off.
    pub(super) fn ask(
        &self,
        raw: &Bytes,
        trial: &Trial<'_>,
        mailbox: &Mailbox,
    ) -> Result<Scanned, Failure> {
        let screening = mailbox.policy.screen(trial.message, &trial.arrival());
        let (sender, recipient) = (trial.sender.clone(), trial.recipient.clone());
        let envelope = Envelope::local(sender, recipient, trial.trusted_client);
        let question = Question {
            envelope: &envelope,
            message: trial.message,
            raw: &raw.clone().into(),
            bounds: Some(&agent::bounds(&self.config.server.limits)),
            hostname: &self.config.server.hostname,
            name: "explain",
        };
        let deadline = Instant::now() + self.config.server.timeouts.final_reply;
        let scanners = Scanners::new(&self.config.scanners);
        let ask = scanners.ask(&question, Wanted::of(&screening), deadline);
        let scanned = runtime()?.block_on(ask);
        match screening {
            Screening::Passed(passed) if passed.put_off(&scanned.report).is_some() => {
                let errors = scanned.errors().join("; ");
                let message = format!("the mail would be put off (451 4.3.0): {errors}");
                Err(Failure::new(Exit::TempFail, message))
            }
            _ => Ok(scanned),
        }
    }
}

/// One mail as the MTA would hand it over.
pub(super) struct Trial<'a> {
    pub(super) message: &'a Message,
    pub(super) recipient: &'a Address,
    pub(super) sender: ReversePath,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub(super) now: i64,
    pub(super) trusted_client: bool,
    pub(super) auth: AuthReport,
    pub(super) scanned: Scanned,
}

impl Trial<'_> {
    pub(super) fn decide(&self, mailbox: &Mailbox) -> Plan {
        agent::decide(mailbox, self.message, &self.arrival(), &self.scanned.report)
    }

    pub(super) fn all_stages(&self, mailbox: &Mailbox) -> Vec<Alone> {
        let arrival = self.arrival();
        mailbox
            .policy
            .all_stages(self.message, &arrival, &self.scanned.report)
    }

    fn arrival(&self) -> Arrival<'_> {
        Arrival {
            now: self.now,
            sender: &self.sender,
            recipient: self.recipient,
            trusted_client: self.trusted_client,
            auth: &self.auth,
            looping: false,
        }
    }
}

/// The settings that were found, or why there are none.
pub(super) fn settings(found: Lookup, recipient: &Address) -> Result<Arc<Mailbox>, Failure> {
    let unknown = |why| Failure::new(Exit::NoUser, format!("{recipient}: {why}"));
    match found {
        Lookup::Found(mailbox) => Ok(mailbox),
        Lookup::UnknownDomain => Err(unknown("not one of mailboxes.domains")),
        Lookup::UnknownMailbox => Err(unknown("no such mailbox (mailboxes.unknown: reject)")),
        Lookup::Unavailable(reason) => Err(Failure::new(Exit::Io, reason)),
    }
}

/// The address, or the mailbox of that name in `server.default_domain`.
pub(super) fn complete(name: &str, config: &Config) -> Result<Address, AddressError> {
    match name.contains('@') {
        true => Address::parse(name),
        false => Address::parse(&format!("{name}@{}", config.server.default_domain)),
    }
}

/// A reverse path with or without its angle brackets; nothing between them is the null path.
pub(super) fn reverse_path(text: &str) -> Result<ReversePath, AddressError> {
    let bare = text
        .trim()
        .trim_start_matches('<')
        .trim_end_matches('>')
        .trim();
    if bare.is_empty() {
        return Ok(ReversePath::Null);
    }
    Address::parse(bare).map(ReversePath::Address)
}

/// The first Return-Path field's; one that is no address counts as the null path. `None` without
/// the field.
pub(super) fn return_path(message: &Message) -> Option<ReversePath> {
    let field = message.header.first("return-path")?;
    Some(reverse_path(&field.text()).unwrap_or(ReversePath::Null))
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::io(path.display(), &error))
}

/// Every line end as CRLF.
fn crlf(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + raw.len() / 16);
    let mut last = 0;
    for &byte in raw {
        if last == b'\r' && byte != b'\n' {
            out.push(b'\n');
        }
        if byte == b'\n' && last != b'\r' {
            out.push(b'\r');
        }
        out.push(byte);
        last = byte;
    }
    if last == b'\r' {
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_line_end_counts_as_crlf() {
        for (given, expected) in [
            ("a\nb\r\nc\rd\r", "a\r\nb\r\nc\r\nd\r\n"),
            ("\r\r\n\n", "\r\n\r\n\r\n"),
            ("", ""),
        ] {
            assert_eq!(
                super::crlf(given.as_bytes()),
                expected.as_bytes(),
                "{given:?}"
            );
        }
    }
}
