//! What an owner may not have of his held mail: what is infected, or may be.
//!
//! Mail that a stage before the virus scan holds was seen by no scanner, and signatures are newer
//! now than when it came. So each mail is scanned when its owner asks for it. The operator may have
//! all.

use std::time::Instant;

use bytes::Bytes;

use super::Shared;
use crate::agent::{self, Question, Wanted};
use crate::config::Lookup;
use crate::mail::{Address, Envelope, Message, ReversePath};
use crate::policy::{Class, OnError, VirusScan};
use crate::store::{QuarantineEntry, Shelf, StoreError, blocking};

/// Why an owner does not get a held mail.
#[derive(Debug, thiserror::Error)]
pub enum Withheld {
    /// It is held for a virus, or one is found in it now.
    #[error("held for a virus: only the operator can release or export it")]
    Virus,
    /// The virus scanner fails, and `on_error` lets nothing pass.
    #[error("the mail cannot be scanned for viruses now: try again later")]
    NotScanned,
    /// The mail cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Shared {
    /// Whether the owner may have a held mail: asks the virus scanner where the mailbox wants it.
    ///
    /// # Errors
    /// [`Withheld`].
    pub async fn owner_may_have(&self, entry: &QuarantineEntry) -> Result<(), Withheld> {
        if entry.class == Class::Virus.as_str() {
            return Err(Withheld::Virus);
        }
        let active = self.active();
        let Ok(owner) = Address::parse(&entry.mailbox) else {
            return Ok(());
        };
        match active.directory.lookup(&owner) {
            Lookup::Found(mailbox) if mailbox.policy.virus => {}
            _ => return Ok(()),
        }
        let (store, id, config) = (self.store.clone(), entry.id, active.config.clone());
        let bounds = agent::bounds(&config.server.limits);
        let read = blocking(move || {
            let raw = Bytes::from(store.read_body(Shelf::Quarantine, id)?);
            let message = Message::parse(&raw, &bounds);
            Ok((raw, message))
        });
        let (raw, message) = read.await?;
        let question = Question {
            // Only trusted clients hand mail over, so that the field of a scanner before us counts.
            envelope: &Envelope::local(ReversePath::Null, owner, true),
            message: &message,
            raw: &raw.into(),
            bounds: Some(&agent::bounds(&config.server.limits)),
            hostname: &config.server.hostname,
            name: &id.to_string(),
        };
        let wanted = Wanted {
            virus: true,
            spam: false,
        };
        let deadline = Instant::now() + config.server.timeouts.final_reply;
        let scanned = active.scanners.ask(&question, wanted, deadline).await;
        match scanned.report.virus {
            VirusScan::Infected(_) => Err(Withheld::Virus),
            VirusScan::Failed(OnError::Tempfail | OnError::Quarantine) => Err(Withheld::NotScanned),
            VirusScan::Failed(OnError::Deliver) | VirusScan::Clean | VirusScan::NotScanned => {
                Ok(())
            }
        }
    }
}
