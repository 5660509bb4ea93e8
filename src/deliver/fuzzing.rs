//! One whole conversation with a next hop for `fuzz/`, over octets that stand ready.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{Connection, Patience};
use super::{Delivery, HopSettings, Outcome};

/// What a conversation came to.
#[derive(Debug)]
pub struct Heard {
    /// One for each recipient.
    pub outcomes: Vec<Outcome>,
    /// The connection would be used again.
    pub in_step: bool,
    /// What we said, in all.
    pub sent: Vec<u8>,
}

/// Greets, logs in and sends one mail to a next hop that says `said`, whatever it hears, and hangs
/// up. No more than 64 KiB either way.
///
/// # Errors
/// Those of the runtime; none comes from the next hop.
pub fn converse(settings: HopSettings, said: &[u8], delivery: &Delivery) -> io::Result<Heard> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    runtime.block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        theirs.write_all(said).await?;
        theirs.shutdown().await?;
        let patience = Patience {
            step: settings.timeout,
            until: delivery.deadline,
        };
        let mut connection = Connection::over(Box::new(ours), Arc::new(settings));
        let outcomes = match connection.introduce(patience).await {
            Ok(()) => connection.transact(delivery, patience).await,
            Err(error) => vec![Err(error); delivery.recipients.len()],
        };
        let in_step = connection.is_in_step();
        drop(connection);
        let mut sent = Vec::new();
        theirs.read_to_end(&mut sent).await?;
        Ok(Heard {
            outcomes,
            in_step,
            sent,
        })
    })
}
