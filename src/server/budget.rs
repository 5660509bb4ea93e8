//! The memory of all mail in flight, booked as its octets arrive (`limits.memory`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

const UNIT: usize = 1024;

/// How much may be held at a time, shared by every connection. Counts whole KiB.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    units: Arc<Semaphore>,
    total: usize,
}

impl Budget {
    /// A budget of `octets`; whatever is left of a KiB does not count.
    pub(super) fn new(octets: u64) -> Self {
        let total = usize::try_from(octets / UNIT as u64)
            .unwrap_or(usize::MAX)
            .min(u32::MAX as usize);
        Self {
            units: Arc::new(Semaphore::new(total)),
            total,
        }
    }

    /// A booking of nothing yet.
    pub(super) fn booking(&self) -> Booking {
        Booking {
            budget: self.clone(),
            permit: None,
        }
    }
}

/// What one mail holds; given back when dropped.
#[derive(Debug)]
pub(super) struct Booking {
    budget: Budget,
    permit: Option<OwnedSemaphorePermit>,
}

impl Booking {
    /// Books up to `octets` in all. Waits for room at most `patience`; `false` when there is
    /// none, or can never be.
    pub(super) async fn cover(&mut self, octets: usize, patience: Duration) -> bool {
        let wanted = octets.div_ceil(UNIT);
        let held = self
            .permit
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        if wanted <= held {
            return true;
        }
        let Some(more) = u32::try_from(wanted - held)
            .ok()
            .filter(|_| wanted <= self.budget.total)
        else {
            return false;
        };
        let acquired = self.budget.units.clone().acquire_many_owned(more);
        let Ok(Ok(permit)) = timeout(patience, acquired).await else {
            return false;
        };
        match &mut self.permit {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        true
    }

    /// Gives everything back.
    pub(super) fn release(&mut self) {
        self.permit = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_is_shared_and_given_back() {
        let budget = Budget::new(10 * 1024);
        let now = Duration::ZERO;
        let mut one = budget.booking();
        let mut two = budget.booking();
        assert!(one.cover(1, now).await);
        assert!(one.cover(6 * 1024, now).await);
        assert!(two.cover(4 * 1024, now).await);
        assert!(!two.cover(4 * 1024 + 1, now).await);
        one.release();
        assert!(two.cover(10 * 1024, now).await);
        assert!(
            !two.cover(10 * 1024 + 1, Duration::MAX).await,
            "more than there ever is"
        );
        drop(two);
        assert!(one.cover(10 * 1024, now).await);
    }

    #[tokio::test]
    async fn waiting_ends_when_room_comes() {
        let budget = Budget::new(1024);
        let mut one = budget.booking();
        let mut two = budget.booking();
        assert!(one.cover(1024, Duration::ZERO).await);
        let waiting = tokio::spawn(async move { two.cover(1024, Duration::from_secs(60)).await });
        tokio::task::yield_now().await;
        drop(one);
        assert!(waiting.await.unwrap());
    }
}
