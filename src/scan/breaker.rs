//! When an engine that keeps failing is left alone, so that it does not cost its timeout on every
//! mail. Pure: the time is an argument.
//!
//! [`FAILURES`] failures in a row open it: everything is refused with the last error for
//! [`FIRST_PAUSE`]. Then one exchange at a time is let through as a probe; a failure of it doubles
//! the pause, up to [`LONGEST_PAUSE`]. Any success closes it.

use std::time::{Duration, Instant};

/// So many failures in a row open it.
pub(super) const FAILURES: u32 = 3;
/// How long nobody is let through after that.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// A pause is never longer.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The state of one engine; `E` is its error.
#[derive(Debug, Clone)]
pub(super) struct Breaker<E> {
    state: State<E>,
    /// Probes so far.
    probes: u64,
}

#[derive(Debug, Clone)]
enum State<E> {
    /// Failures since the last success.
    Well(u32),
    Resting(Rest<E>),
}

/// Why and how long nobody is let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rest<E> {
    /// The last failure.
    pub(super) last: E,
    /// When it opened.
    pub(super) since: Instant,
    /// When a probe is let through.
    pub(super) until: Instant,
    pause: Duration,
    /// The probe that is under way.
    probing: Option<u64>,
}

/// Whether an exchange may begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admission<E> {
    /// Yes. It must be reported, whatever becomes of it.
    Go {
        /// It alone is let through, under this number.
        probe: Option<u64>,
    },
    /// No: the last failure, and until when.
    Refused(E, Instant),
}

/// What became of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome<E> {
    /// The engine answered.
    Answered,
    /// It failed.
    Failed(E),
    /// It was broken off before that could be told.
    Unknown,
}

/// What a report changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is resting now.
    Opened,
    /// It is asked again.
    Closed,
}

impl<E> Default for Breaker<E> {
    fn default() -> Self {
        Self {
            state: State::Well(0),
            probes: 0,
        }
    }
}

impl<E: Clone> Breaker<E> {
    /// Asks for an exchange at `now`.
    pub(super) fn admit(&mut self, now: Instant) -> Admission<E> {
        if let Some((last, until)) = self.refusal(now) {
            return Admission::Refused(last, until);
        }
        match &mut self.state {
            State::Well(_) => Admission::Go { probe: None },
            State::Resting(rest) => {
                self.probes = self.probes.wrapping_add(1);
                rest.probing = Some(self.probes);
                Admission::Go {
                    probe: rest.probing,
                }
            }
        }
    }

    /// Why [`admit`](Self::admit) would refuse at `now`; takes no probe.
    pub(super) fn refusal(&self, now: Instant) -> Option<(E, Instant)> {
        match &self.state {
            State::Well(_) => None,
            State::Resting(rest) if now >= rest.until && rest.probing.is_none() => None,
            State::Resting(rest) => Some((rest.last.clone(), rest.until)),
        }
    }

    /// Tells what became of an exchange that was let through (`probe`: as
    /// this one).
    pub(super) fn report(
        &mut self,
        probe: Option<u64>,
        outcome: Outcome<E>,
        now: Instant,
    ) -> Option<Change> {
        match (&mut self.state, outcome) {
            (State::Well(failures), Outcome::Answered) => {
                *failures = 0;
                None
            }
            (State::Well(failures), Outcome::Failed(error)) => {
                *failures = failures.saturating_add(1);
                if *failures < FAILURES {
                    return None;
                }
                self.state = State::Resting(Rest {
                    last: error,
                    since: now,
                    until: now + FIRST_PAUSE,
                    pause: FIRST_PAUSE,
                    probing: None,
                });
                Some(Change::Opened)
            }
            (State::Resting(_), Outcome::Answered) => {
                self.state = State::Well(0);
                Some(Change::Closed)
            }
            (State::Resting(rest), Outcome::Failed(error)) if rest.is_probed_by(probe) => {
                rest.last = error;
                rest.probing = None;
                rest.pause = (rest.pause * 2).min(LONGEST_PAUSE);
                rest.until = now + rest.pause;
                None
            }
            (State::Resting(rest), Outcome::Unknown) if rest.is_probed_by(probe) => {
                rest.probing = None;
                None
            }
            (State::Well(_) | State::Resting(_), Outcome::Failed(_) | Outcome::Unknown) => None,
        }
    }

    /// Why nobody, or only a probe, is let through; `None` = all is well.
    pub(super) fn rest(&self) -> Option<&Rest<E>> {
        match &self.state {
            State::Well(_) => None,
            State::Resting(rest) => Some(rest),
        }
    }
}

impl<E> Rest<E> {
    fn is_probed_by(&self, probe: Option<u64>) -> bool {
        probe.is_some() && self.probing == probe
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A step at a second: ask, or report an ordinary exchange or a probe.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Ask,
        Answered(bool),
        Failed(bool),
        Broken(bool),
    }
    use Step::{Answered, Ask, Broken, Failed};

    /// `g`: go, `p`: go as a probe, `r`: refused, `O` opened, `C` closed, `.` nothing new.
    fn play(steps: &[(u64, Step)]) -> String {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        let mut last = None;
        let play = |&(second, step): &(u64, Step)| {
            let now = start + Duration::from_secs(second);
            let (probe, outcome) = match step {
                Ask => {
                    return match breaker.admit(now) {
                        Admission::Go { probe: None } => 'g',
                        Admission::Go { probe } => {
                            last = probe;
                            'p'
                        }
                        Admission::Refused(..) => 'r',
                    };
                }
                Answered(probe) => (probe, Outcome::Answered),
                Failed(probe) => (probe, Outcome::Failed(second)),
                Broken(probe) => (probe, Outcome::Unknown),
            };
            match breaker.report(last.filter(|_| probe), outcome, now) {
                Some(Change::Opened) => 'O',
                Some(Change::Closed) => 'C',
                None => '.',
            }
        };
        steps.iter().map(play).collect()
    }

    const DOWN: [(u64, Step); 3] = [(0, Failed(false)), (1, Failed(false)), (2, Failed(false))];

    #[test]
    fn when_it_opens_and_closes() {
        let rows: &[(&[(u64, Step)], &str)] = &[
            (&[(0, Failed(false)), (0, Failed(false)), (0, Ask)], "..g"),
            (
                &[
                    (0, Failed(false)),
                    (0, Failed(false)),
                    (0, Answered(false)),
                    (0, Failed(false)),
                    (0, Ask),
                ],
                "....g",
            ),
            (
                &[(0, Failed(false)), (0, Failed(false)), (0, Broken(false))],
                "...",
            ),
            (&DOWN, "..O"),
        ];
        for (steps, expected) in rows {
            assert_eq!(play(steps), *expected, "{steps:?}");
        }
        let after_down: &[(&[(u64, Step)], &str)] = &[
            (&[(2, Ask), (11, Ask), (12, Ask), (12, Ask)], "rrpr"),
            (&[(12, Ask), (12, Answered(true)), (12, Ask)], "pCg"),
            (
                &[(12, Ask), (13, Failed(true)), (32, Ask), (33, Ask)],
                "p.rp",
            ),
            (&[(12, Ask), (13, Broken(true)), (13, Ask)], "p.p"),
            (&[(12, Ask), (13, Broken(false)), (13, Ask)], "p.r"),
            (&[(3, Failed(false)), (11, Ask), (12, Ask)], ".rp"),
            (&[(3, Answered(false)), (3, Ask)], "Cg"),
            (
                &[
                    (12, Ask),
                    (12, Failed(true)),
                    (32, Ask),
                    (32, Failed(true)),
                    (72, Ask),
                    (72, Failed(true)),
                    (131, Ask),
                    (132, Ask),
                    (132, Failed(true)),
                    (191, Ask),
                    (192, Ask),
                ],
                "p.p.p.rp.rp",
            ),
        ];
        for (steps, expected) in after_down {
            let all = [&DOWN, *steps].concat();
            assert_eq!(play(&all).strip_prefix("..O"), Some(*expected), "{steps:?}");
        }
    }

    #[test]
    fn it_says_why_and_since_when() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        assert_eq!(breaker.rest(), None);
        for word in ["a", "b", "c", "d"] {
            breaker.report(None, Outcome::Failed(word), start);
        }
        let rest = breaker.rest().unwrap();
        assert_eq!((rest.last, rest.since), ("c", start));
        assert_eq!(breaker.refusal(start), Some(("c", start + FIRST_PAUSE)));
        let later = start + FIRST_PAUSE;
        assert_eq!(breaker.admit(later), Admission::Go { probe: Some(1) });
        breaker.report(Some(1), Outcome::Failed("e"), later);
        let rest = breaker.rest().unwrap();
        assert_eq!(
            (rest.last, rest.since, rest.until),
            ("e", start, later + 2 * FIRST_PAUSE)
        );
    }

    proptest! {
        #[test]
        fn one_probe_and_never_before_its_time(
            steps in proptest::collection::vec((0u64..30, 0u8..4, any::<bool>()), 1..200),
        ) {
            let mut now = Instant::now();
            let mut breaker = Breaker::default();
            // What was let through and not reported yet.
            let mut open: Vec<Option<u64>> = Vec::new();
            // The probe of this rest.
            let mut probe = None;
            let mut row = 0;
            for (seconds, kind, latest) in steps {
                now += Duration::from_secs(seconds);
                if kind == 0 {
                    let rest = breaker.rest().cloned();
                    let refusal = breaker.refusal(now);
                    match (breaker.admit(now), rest) {
                        (Admission::Go { probe: None }, None) => open.push(None),
                        (Admission::Go { probe: given }, Some(rest)) => {
                            prop_assert!(now >= rest.until && probe.is_none());
                            prop_assert!(given.is_some() && !open.contains(&given));
                            probe = given;
                            open.push(given);
                        }
                        (Admission::Refused(..), Some(rest)) => {
                            prop_assert!(now < rest.until || probe.is_some());
                            prop_assert!(refusal.is_some());
                        }
                        other => prop_assert!(false, "{:?}", other),
                    }
                    continue;
                }
                if open.is_empty() {
                    continue;
                }
                let ended = open.remove(if latest { open.len() - 1 } else { 0 });
                let was_well = breaker.rest().is_none();
                let outcome = match kind {
                    1 => Outcome::Answered,
                    2 => Outcome::Failed(0u8),
                    _ => Outcome::Unknown,
                };
                match &outcome {
                    Outcome::Answered => row = 0,
                    Outcome::Failed(_) if was_well => row += 1,
                    Outcome::Failed(_) | Outcome::Unknown => {}
                }
                let change = breaker.report(ended, outcome, now);
                let well = breaker.rest().is_none();
                prop_assert_eq!(change == Some(Change::Opened), was_well && !well);
                prop_assert_eq!(change == Some(Change::Closed), !was_well && well);
                prop_assert_eq!(well, if was_well { row < FAILURES } else { row == 0 });
                if let Some(rest) = breaker.rest() {
                    prop_assert!(rest.until <= now + LONGEST_PAUSE);
                }
                if well || ended == probe {
                    probe = None;
                }
            }
        }
    }
}
