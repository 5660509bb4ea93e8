//! What became of tries, on its way into the store: many in one commit.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::store::{EffectState, OutgoingItem, Store, StoreError};

/// A result to be written down, and who waits for that.
type Tried = (
    (OutgoingItem, EffectState),
    oneshot::Sender<Result<(), StoreError>>,
);

/// The results of tries, on their way into the store.
#[derive(Debug, Clone, Default)]
pub(super) struct Results(Arc<Mutex<ToWrite>>);

#[derive(Debug, Default)]
struct ToWrite {
    waiting: Vec<Tried>,
    /// A thread writes them down, and those that come meanwhile.
    are_written: bool,
}

impl Results {
    fn lock(&self) -> MutexGuard<'_, ToWrite> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a result written down, also where nobody waits for that any more. Within a tokio runtime.
    pub(super) fn add(
        &self,
        end: (OutgoingItem, EffectState),
        store: &Store,
    ) -> oneshot::Receiver<Result<(), StoreError>> {
        let (told, written) = oneshot::channel();
        let mut results = self.lock();
        results.waiting.push((end, told));
        if !mem::replace(&mut results.are_written, true) {
            let (results, store) = (self.clone(), store.clone());
            spawn_blocking(move || results.write_down(&store));
        }
        written
    }

    /// Until none waits.
    fn write_down(&self, store: &Store) {
        while let Some(tried) = self.next() {
            let (ends, told): (Vec<_>, Vec<_>) = tried.into_iter().unzip();
            let written = catch_unwind(AssertUnwindSafe(|| store.outgoing_settle(&ends)));
            // Who is not told learns that it was not written.
            for (told, result) in told.into_iter().zip(written.unwrap_or_default()) {
                // Perhaps nobody waits any more.
                let _ = told.send(result);
            }
        }
    }

    fn next(&self) -> Option<Vec<Tried>> {
        let mut results = self.lock();
        let waiting = mem::take(&mut results.waiting);
        results.are_written = !waiting.is_empty();
        results.are_written.then_some(waiting)
    }
}
