//! Connections to one next hop, kept open between mails and bounded in number.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::client::{Connection, Patience};
use super::{DeliverError, Delivery, HopSettings, Outcome};
use crate::smtp::Reply;

/// How long a connection is kept for the next mail; shorter than the 5 minutes that a server
/// must wait (RFC 5321 4.5.3.2.7).
const IDLE: Duration = Duration::from_secs(30);

/// Connections to one next hop.
#[derive(Debug)]
pub struct Pool {
    settings: Arc<HopSettings>,
    permits: Semaphore,
    /// Those in step and not in use, the latest last.
    idle: Mutex<Vec<(Connection, Instant)>>,
}

impl Pool {
    /// Connects nothing yet.
    pub fn new(settings: HopSettings) -> Self {
        Self {
            permits: Semaphore::new(settings.max_connections.clamp(1, Semaphore::MAX_PERMITS)),
            settings: Arc::new(settings),
            idle: Mutex::default(),
        }
    }

    /// One transaction; one result for each recipient, in their order.
    ///
    /// Waits at most `settings.timeout` for a free connection, then all are `451 4.3.2`.
    pub async fn send(&self, delivery: &Delivery) -> Vec<Outcome> {
        let patience = Patience {
            step: self.settings.timeout,
            until: delivery.deadline,
        };
        let all = |error| vec![Err(error); delivery.recipients.len()];
        let (_permit, mut connection) = match self.connection(patience).await {
            Ok(connection) => connection,
            Err(error) => return all(error),
        };
        let mut outcomes = connection.transact(delivery, patience).await;
        if connection.was_left().await {
            connection = match self.open(patience).await {
                Ok(connection) => connection,
                Err(error) => return all(error),
            };
            outcomes = connection.transact(delivery, patience).await;
        }
        if connection.is_in_step() {
            self.idle().push((connection, Instant::now()));
        }
        outcomes
    }

    async fn connection(
        &self,
        patience: Patience,
    ) -> Result<(SemaphorePermit<'_>, Connection), DeliverError> {
        let acquire = async { self.permits.acquire().await.map_err(std::io::Error::other) };
        let permit = patience
            .wait("waiting for a free connection", acquire)
            .await
            .map_err(|error| DeliverError {
                reply: Reply::new(451, 3, 2, "all connections to the next hop are busy"),
                ..error
            })?;
        for (connection, _) in self.take_expired() {
            connection.quit().await;
        }
        while let Some((mut connection, since)) = self.take_idle() {
            if connection.revive(since, patience).await {
                return Ok((permit, connection));
            }
        }
        Ok((permit, self.open(patience).await?))
    }

    async fn open(&self, patience: Patience) -> Result<Connection, DeliverError> {
        Connection::open(Arc::clone(&self.settings), patience).await
    }

    fn take_idle(&self) -> Option<(Connection, Instant)> {
        self.idle().pop()
    }

    fn take_expired(&self) -> Vec<(Connection, Instant)> {
        let mut idle = self.idle();
        let fresh = idle.partition_point(|(_, since)| since.elapsed() >= IDLE);
        idle.drain(..fresh).collect()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(Connection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
