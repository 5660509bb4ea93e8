//! What stands before every exchange with an engine: its breaker, the number of exchanges at once,
//! and the time that is left.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::breaker::{Admission, Breaker, Change, Outcome};
use super::error::{ScanError, shown};
use super::{Endpoint, Settings};

/// Exchanges at once with one engine; more wait, within their deadline. clamd's own `MaxThreads`
/// is 10, rspamd and spamd have fewer workers: more would only queue there.
pub const EXCHANGES: usize = 32;

/// How an engine is, for `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is asked.
    Well,
    /// It failed too often and is left alone.
    Resting {
        /// Its last failure.
        last: Arc<ScanError>,
        /// When that began.
        since: Instant,
        /// When it is tried again.
        until: Instant,
    },
}

/// One engine seen from outside.
#[derive(Debug)]
pub(super) struct Gate {
    engine: &'static str,
    settings: Settings,
    permits: Semaphore,
    breaker: Mutex<Breaker<Arc<ScanError>>>,
}

impl Gate {
    pub(super) fn new(engine: &'static str, settings: Settings) -> Self {
        Self {
            engine,
            settings,
            permits: Semaphore::new(EXCHANGES),
            breaker: Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> State {
        self.breaker()
            .rest()
            .map_or(State::Well, |rest| State::Resting {
                last: Arc::clone(&rest.last),
                since: rest.since,
                until: rest.until,
            })
    }

    /// Runs one scan when it may begin, and notes what became of it. The scan ends by itself at
    /// [`Patience::until`]; when it is dropped, it counts for nothing.
    pub(super) async fn pass<'a, T, F>(
        &'a self,
        deadline: Instant,
        scan: impl FnOnce(Patience<'a>) -> F,
    ) -> Result<T, ScanError>
    where
        F: Future<Output = Result<T, ScanError>>,
    {
        let began = Instant::now();
        if let Some((last, until)) = self.breaker().refusal(began) {
            return Err(self.resting(last, until));
        }
        let own = began.checked_add(self.settings.timeout);
        let mut patience = Patience {
            engine: self.engine,
            address: &self.settings.address,
            began,
            until: own.map_or(deadline, |own| own.min(deadline)),
            full: own.is_some_and(|own| own <= deadline),
        };
        let _permit = self.permit(&mut patience).await?;
        let probe = match self.breaker().admit(Instant::now()) {
            Admission::Go { probe } => probe,
            Admission::Refused(last, until) => return Err(self.resting(last, until)),
        };
        let mut exchange = Exchange {
            gate: self,
            probe,
            outcome: Outcome::Unknown,
        };
        let result = scan(patience).await;
        exchange.outcome = match &result {
            Ok(_) => Outcome::Answered,
            Err(error) if error.is_an_answer() => Outcome::Answered,
            Err(error) if error.is_the_engines() => Outcome::Failed(Arc::new(error.clone())),
            Err(_) => Outcome::Unknown,
        };
        result
    }

    async fn permit(&self, patience: &mut Patience<'_>) -> Result<SemaphorePermit<'_>, ScanError> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        patience.full = false;
        let acquire = async { self.permits.acquire().await.map_err(io::Error::other) };
        patience
            .wait("waiting for other mails' scans", acquire)
            .await
    }

    fn resting(&self, last: Arc<ScanError>, until: Instant) -> ScanError {
        ScanError::Resting {
            engine: self.engine,
            last,
            until,
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker<Arc<ScanError>>> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An exchange that was let through; reports when it ends, however that is.
struct Exchange<'a> {
    gate: &'a Gate,
    probe: Option<u64>,
    outcome: Outcome<Arc<ScanError>>,
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, Outcome::Unknown);
        let change = self
            .gate
            .breaker()
            .report(self.probe, outcome.clone(), Instant::now());
        let engine = self.gate.engine;
        match (change, outcome) {
            (Some(Change::Opened), Outcome::Failed(error)) => {
                tracing::warn!(engine, %error, "the scanner fails and is left alone for now");
            }
            (Some(Change::Closed), _) => {
                tracing::info!(engine, address = %self.gate.settings.address, "the scanner answers again");
            }
            _ => {}
        }
    }
}

/// How long one scan may take, and who is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience<'a> {
    pub(super) engine: &'static str,
    pub(super) address: &'a Endpoint,
    began: Instant,
    pub(super) until: Instant,
    /// Until then the engine has its whole timeout.
    full: bool,
}

impl Patience<'_> {
    /// Waits for one step.
    pub(super) async fn wait<T>(
        self,
        step: &'static str,
        work: impl Future<Output = io::Result<T>>,
    ) -> Result<T, ScanError> {
        let done = self.within(step, work).await?;
        done.map_err(|error| self.broken(step, &error))
    }

    /// Waits for one step, whatever it comes to.
    pub(super) async fn within<T>(
        self,
        step: &'static str,
        work: impl Future<Output = T>,
    ) -> Result<T, ScanError> {
        let late = |_| ScanError::Late {
            engine: self.engine,
            address: self.address.to_string(),
            step,
            waited: self.until.saturating_duration_since(self.began),
            full: self.full,
        };
        tokio::time::timeout_at(self.until.into(), work)
            .await
            .map_err(late)
    }

    pub(super) fn broken(self, step: &'static str, error: &io::Error) -> ScanError {
        ScanError::Unreachable {
            engine: self.engine,
            address: self.address.to_string(),
            step,
            reason: error.to_string(),
        }
    }

    pub(super) fn nonsense(self, why: &'static str, said: &[u8]) -> ScanError {
        ScanError::Nonsense {
            engine: self.engine,
            address: self.address.to_string(),
            why,
            said: shown(said),
        }
    }

    pub(super) fn refused(self, said: &[u8]) -> ScanError {
        ScanError::Refused {
            engine: self.engine,
            address: self.address.to_string(),
            said: shown(said),
        }
    }

    pub(super) fn too_large(self, setting: &'static str, size: u64) -> ScanError {
        ScanError::TooLarge {
            engine: self.engine,
            address: self.address.to_string(),
            setting,
            size,
        }
    }

    /// What is left of it, at most `most`.
    pub(super) fn left(self, most: Duration) -> Duration {
        self.until
            .saturating_duration_since(Instant::now())
            .min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::breaker::FIRST_PAUSE;
    use std::io::Write;
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Log {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn gate() -> Gate {
        Gate::new(
            "clamd",
            Settings {
                address: Endpoint::Unix("/nowhere".into()),
                timeout: Duration::from_secs(60),
            },
        )
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    /// As if what is resting now had begun so much earlier.
    fn wait_for_probe(gate: &Gate) {
        let past = Instant::now().checked_sub(FIRST_PAUSE).unwrap();
        let mut breaker = gate.breaker();
        let last = Arc::clone(&breaker.rest().unwrap().last);
        *breaker = Breaker::default();
        for _ in 0..3 {
            breaker.report(None, Outcome::Failed(Arc::clone(&last)), past);
        }
    }

    #[tokio::test]
    async fn a_change_is_logged_once_and_a_probe_closes_it() {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(log.clone())
            .with_ansi(false)
            .without_time()
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let gate = gate();
        let fail = || gate.pass(far(), |patience| async move { patience_fails(patience) });
        for _ in 0..9 {
            fail().await.unwrap_err();
        }
        assert!(matches!(gate.state(), State::Resting { .. }));
        wait_for_probe(&gate);
        // A probe that is dropped leaves its place to the next.
        {
            let silent = gate.pass(far(), |_| std::future::pending::<Result<(), ScanError>>());
            let mut silent = std::pin::pin!(silent);
            assert!(
                tokio::time::timeout(Duration::ZERO, &mut silent)
                    .await
                    .is_err()
            );
            let other = gate.pass(far(), |_| async { Ok(()) }).await;
            assert!(matches!(other, Err(ScanError::Resting { .. })), "{other:?}");
        }
        assert_eq!(gate.pass(far(), |_| async { Ok(1) }).await, Ok(1));
        assert_eq!(gate.state(), State::Well);
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let levels: Vec<&str> = log
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(levels, ["WARN", "INFO"], "{log}");
        assert!(log.contains("connecting: no such thing"), "{log}");
    }

    fn patience_fails(patience: Patience<'_>) -> Result<(), ScanError> {
        Err(patience.broken("connecting", &io::Error::other("no such thing")))
    }

    #[tokio::test]
    async fn who_waits_for_a_place_has_no_full_timeout() {
        let gate = gate();
        let all = u32::try_from(EXCHANGES).unwrap();
        let permits = gate.permits.acquire_many(all).await.unwrap();
        let soon = Instant::now() + Duration::from_millis(20);
        let result = gate.pass(soon, |_| async { Ok(()) }).await;
        assert!(
            matches!(
                result,
                Err(ScanError::Late {
                    full: false,
                    step: "waiting for other mails' scans",
                    ..
                })
            ),
            "{result:?}"
        );
        drop(permits);
        assert_eq!(gate.pass(far(), |_| async { Ok(()) }).await, Ok(()));
        assert_eq!(gate.permits.available_permits(), EXCHANGES);
    }

    #[tokio::test]
    async fn a_deadline_that_has_passed_is_late() {
        let gate = gate();
        let result = gate
            .pass(Instant::now(), |patience| async move {
                patience.within("x", std::future::pending::<()>()).await
            })
            .await;
        assert!(matches!(result, Err(ScanError::Late { full: false, .. })));
    }
}
