//! The memory of all mail in flight (`limits.memory`).
//!
//! One part is for mail that comes in and stays in memory: room there is had at once or not at all,
//! and who gets none keeps his octets in a file; a large mail leaves half of it to others. The second
//! part is for the beginnings of the mails in files, the third for those that must be in memory as a
//! whole: they wait for it in the order of their ends. Who waits holds room in no later part, so
//! there is no deadlock; and a client that trickles has room in the first only, and keeps nobody
//! waiting.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

const UNIT: u64 = 1024;
/// A mail that takes more units leaves half of the part for mail that comes in.
const LARGE: u32 = 1024;
/// As much of a mail may be header that is kept decoded and folded beside it
/// (`limits.header_bytes`).
const HEADER: u64 = 1 << 20;

/// What all connections share.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    octets: u64,
    arriving: Part,
    beginnings: Part,
    whole: Part,
}

impl Budget {
    /// A budget of `octets`; whatever is left of a KiB does not count.
    pub(super) fn new(octets: u64) -> Self {
        let (arriving, beginnings) = (octets / 2, octets / 8);
        Self {
            octets,
            arriving: Part::new(arriving),
            beginnings: Part::new(beginnings),
            whole: Part::new(octets - arriving - beginnings),
        }
    }

    /// Whether a mail of `octets` can ever have room.
    pub(super) fn fits(&self, octets: u64) -> bool {
        octets <= self.octets
    }

    /// The room of a mail that still comes in: nothing yet.
    pub(super) fn arriving(&self) -> Booking {
        Booking {
            part: self.arriving.clone(),
            permit: None,
        }
    }

    /// Room for a whole mail that [fits](Self::fits); the largest ones go alone. `None` where
    /// there was none within `patience`.
    pub(super) async fn whole(&self, octets: u64, patience: Duration) -> Option<Booking> {
        self.whole.wait(octets, patience).await
    }

    /// The same for the first `octets` of a mail that lies in a file.
    pub(super) async fn beginning(&self, octets: u64, patience: Duration) -> Option<Booking> {
        self.beginnings.wait(octets, patience).await
    }
}

/// What one mail holds; given back when dropped.
#[derive(Debug)]
pub(super) struct Booking {
    part: Part,
    permit: Option<OwnedSemaphorePermit>,
}

impl Booking {
    /// Books for `octets` in all if there is room at once.
    pub(super) fn extend(&mut self, octets: u64) -> bool {
        let held = self
            .permit
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        let wanted = units(octets);
        let more = wanted.saturating_sub(held);
        if more == 0 {
            return true;
        }
        let free = self.part.units.available_permits();
        let left = if wanted > LARGE {
            self.part.total / 2
        } else {
            0
        };
        if free < more.saturating_add(left) as usize {
            return false;
        }
        let Ok(permit) = self.part.units.clone().try_acquire_many_owned(more) else {
            return false;
        };
        match &mut self.permit {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        true
    }
}

#[derive(Debug, Clone)]
struct Part {
    units: Arc<Semaphore>,
    total: u32,
}

impl Part {
    fn new(octets: u64) -> Self {
        let total = u32::try_from(octets / UNIT).unwrap_or(u32::MAX);
        Self {
            units: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    async fn wait(&self, octets: u64, patience: Duration) -> Option<Booking> {
        let units = units(octets).min(self.total);
        let acquired = self.units.clone().acquire_many_owned(units);
        let permit = timeout(patience, acquired).await.ok()?.ok()?;
        Some(Booking {
            part: self.clone(),
            permit: Some(permit),
        })
    }
}

/// What a mail of `octets` takes while it is carried out: itself, and its header twice more.
fn units(octets: u64) -> u32 {
    let taken = octets.saturating_add(octets.min(HEADER).saturating_mul(2));
    u32::try_from(taken.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;
    const MIB: u64 = 1 << 20;

    #[test]
    fn what_comes_in_has_a_half_and_no_wait() {
        let budget = Budget::new(20 * KIB);
        let mut one = budget.arriving();
        let mut two = budget.arriving();
        assert!(one.extend(1));
        assert!(one.extend(2 * KIB));
        assert!(two.extend(KIB));
        assert!(!two.extend(2 * KIB));
        drop(one);
        assert!(two.extend(3 * KIB));
        assert!(!two.extend(20 * KIB), "more than there ever is");
    }

    #[test]
    fn large_mail_leaves_half_to_others() {
        let budget = Budget::new(32 * MIB);
        let mut large: Vec<_> = (0..3).map(|_| budget.arriving()).collect();
        let taken = large
            .iter_mut()
            .map(|one| one.extend(2 * MIB))
            .collect::<Vec<_>>();
        assert_eq!(taken, [true, true, false]);
        let mut small: Vec<_> = (0..9).map(|_| budget.arriving()).collect();
        let taken = small
            .iter_mut()
            .filter_map(|one| one.extend(256 * KIB).then_some(()));
        assert_eq!(taken.count(), 9);
    }

    #[tokio::test]
    async fn whole_mails_wait_for_each_other_in_their_order() {
        let budget = Budget::new(64 * MIB);
        assert!(budget.fits(64 * MIB) && !budget.fits(64 * MIB + 1));
        let first = budget.whole(50 * MIB, Duration::ZERO).await.unwrap();
        assert!(budget.whole(50 * MIB, Duration::ZERO).await.is_none());
        let large = {
            let budget = budget.clone();
            tokio::spawn(async move { budget.whole(64 * MIB, Duration::MAX).await })
        };
        tokio::task::yield_now().await;
        let small = budget.whole(1, Duration::ZERO).await;
        assert!(small.is_none(), "who came later does not overtake");
        assert!(budget.arriving().extend(KIB), "but others may go on coming");
        drop(first);
        assert!(large.await.unwrap().is_some(), "the largest goes alone");
        assert!(budget.whole(1, Duration::ZERO).await.is_some());
    }
}
