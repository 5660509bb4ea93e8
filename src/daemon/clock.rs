//! What happens by the clock: expiry. The daily notices are [`super::notices`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Shared, now};
use crate::store::blocking;

/// New entries may expire before anything known at the last look: look so often.
const LOOK: Duration = Duration::from_secs(1);

/// Removes what has expired, when it expires.
pub(super) async fn sweep(shared: Arc<Shared>, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let started = Instant::now();
    loop {
        let (store, stopping) = (shared.store.clone(), shared.stopping.clone());
        let monotonic = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let sweep = move || store.sweep_while(now(), monotonic, || !*stopping.borrow());
        match blocking(sweep).await {
            Ok(swept) if swept.quarantine > 0 => {
                tracing::info!(quarantine = swept.quarantine, "expired")
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "expiry"),
        }
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let store = shared.store.clone();
            if matches!(blocking(move || store.next_expiry()).await, Ok(Some(at)) if at <= now()) {
                break;
            }
        }
    }
}
