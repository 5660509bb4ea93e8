//! `sekimori explain`: what the settings of a mailbox would do with a mail, stage by stage.

use std::io::{Read, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use std::sync::Arc;

use super::{Done, Exit, Failure, Global, check, config_of, text};
use crate::agent;
use crate::config::{self, Config, Directory, Lookup, Mailbox};
use crate::mail::{Address, Message, ReversePath};
use crate::policy::{Arrival, AuthReport, Plan};
use crate::view;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Whose settings
    #[arg(long)]
    mailbox: String,
    /// The reverse path; without it the first Return-Path field's, else the null path
    #[arg(long)]
    sender: Option<String>,
    /// The mail; - is stdin
    file: PathBuf,
}

pub(super) fn explain(global: &Global, options: &Options, out: &mut dyn Write) -> Done {
    let config = Arc::new(config_of(global)?);
    let (recipient, mailbox) = named(&config, &options.mailbox)?;
    let raw = crlf(&read(&options.file)?);
    let message = Message::parse(&raw, &agent::bounds(&config.server.limits));
    let sender = sender(options.sender.as_deref(), &message)?;
    let plan = decide(&config, &mailbox, &recipient, &message, &sender);
    let decision = view::plan(&mailbox.policy.mailbox.to_string(), &plan);
    let value = view::with(json!({"schema": "sekimori.explain/1"}), decision);
    if global.json {
        writeln!(out, "{}", text::json(&value))?;
    } else {
        text::decision(&value, out)?;
    }
    Ok(())
}

/// The address that `--mailbox` names, and its settings.
pub(super) fn named(
    config: &Arc<Config>,
    name: &str,
) -> Result<(Address, Arc<Mailbox>), Failure> {
    let wrong = |error| Failure::new(Exit::Usage, format!("--mailbox {name}: {error}"));
    let address = complete(name, config).map_err(wrong)?;
    let mailbox = mailbox(config, &address)?;
    Ok((address, mailbox))
}

fn mailbox(config: &Arc<Config>, recipient: &Address) -> Result<Arc<Mailbox>, Failure> {
    let directory = Directory::new(config.clone());
    let mut found = directory.lookup(recipient);
    let own_file = matches!(&found, Lookup::Found(mailbox) if mailbox.path.is_some());
    if !own_file {
        // Only an alias can need the other files.
        directory.index_now();
        found = directory.lookup(recipient);
    }
    match found {
        Lookup::Found(mailbox) => {
            if let Some(path) = directory.path_of(recipient) {
                // Of a bad file the daemon would have the settings from before, or the defaults.
                config::load_mailbox(config, &path).map_err(|errors| check::refused(&errors))?;
            }
            Ok(mailbox)
        }
        Lookup::UnknownDomain => Err(Failure::new(
            Exit::NoUser,
            format!("{recipient}: not one of mailboxes.domains"),
        )),
        Lookup::UnknownMailbox => Err(Failure::new(
            Exit::NoUser,
            format!("{recipient}: no such mailbox"),
        )),
        Lookup::Unavailable(reason) => Err(Failure::new(Exit::Io, reason)),
    }
}

/// The mail is taken as the MTA would hand it over: from a trusted client, now.
fn decide(
    config: &Config,
    mailbox: &Mailbox,
    recipient: &Address,
    message: &Message,
    sender: &ReversePath,
) -> Plan {
    let arrival = Arrival {
        now: jiff::Timestamp::now().as_second(),
        sender,
        recipient,
        trusted_client: true,
        auth: &AuthReport::default(),
        looping: false,
    };
    agent::decide(
        mailbox,
        message,
        &arrival,
        &agent::scan(config, message, true),
    )
}

fn complete(text: &str, config: &Config) -> Result<Address, crate::mail::AddressError> {
    if text.contains('@') {
        Address::parse(text)
    } else {
        Address::parse(&format!("{text}@{}", config.server.default_domain))
    }
}

fn sender(given: Option<&str>, message: &Message) -> Result<ReversePath, Failure> {
    let text = match given {
        Some(given) => given.to_owned(),
        None => message
            .header
            .first("return-path")
            .map(|field| field.text())
            .unwrap_or_default(),
    };
    let bare = text
        .trim()
        .trim_start_matches('<')
        .trim_end_matches('>')
        .trim();
    if bare.is_empty() {
        return Ok(ReversePath::Null);
    }
    match Address::parse(bare) {
        Ok(address) => Ok(ReversePath::Address(address)),
        Err(error) if given.is_some() => Err(Failure::new(
            Exit::Usage,
            format!("--sender {bare}: {error}"),
        )),
        Err(_) => Ok(ReversePath::Null),
    }
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::io("stdin", &error))?;
    } else {
        bytes = std::fs::read(path).map_err(|error| Failure::io(path.display(), &error))?;
    }
    Ok(bytes)
}

/// Every line end as CRLF, as the mail would come over SMTP.
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
