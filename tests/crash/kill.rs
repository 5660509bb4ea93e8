//! SIGKILL: at random instants, while the daemon starts, and at each named point of the crash order.

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sekimori::failpoint::Point;

use crate::letter::Rng;
use crate::oracle::{Counts, Table, print};
use crate::round::{Round, Trials};
use crate::setting;
use crate::site::{Daemon, MOMENT, PATIENCE, Site};
use crate::sweep;

/// Trials on one store, before its account.
const ROUND: usize = 20;
/// One round in so many hands kept mail to an LMTP server, not to Maildirs.
const LMTP: usize = 3;
/// One trial in so many kills a daemon that just starts.
const STARTS: usize = 10;

/// When the daemon of a trial dies.
#[derive(Debug, Clone, Copy)]
enum Aim {
    Instant,
    Start,
    Point(Point),
}

impl Aim {
    fn name(self) -> &'static str {
        match self {
            Self::Instant => "any instant",
            Self::Start => "any instant of a start",
            Self::Point(point) => point.name(),
        }
    }
}

#[test]
fn killed_under_load_nothing_is_lost_and_nothing_repeated() {
    let points = Point::ALL
        .iter()
        .filter(|point| !is_reached_elsewhere(**point));
    let trials = usize::try_from(setting("SEKIMORI_CRASH_KILLS", 60)).unwrap();
    let mut rng = Rng(setting("SEKIMORI_CRASH_SEED", 1));
    let started = Instant::now();
    let mut table = Table::new();
    let mut cycle = points.cycle();
    let mut plan: Vec<Aim> = (0..trials)
        .map(|trial| match trial {
            _ if trial % STARTS == STARTS - 1 => Aim::Start,
            // Every point comes once in the short form.
            _ if trial % 2 == 0 => Aim::Point(*cycle.next().unwrap()),
            _ => Aim::Instant,
        })
        .collect();
    for (number, aims) in plan.chunks_mut(ROUND).enumerate() {
        let in_maildir = number % LMTP != LMTP - 1;
        if !in_maildir {
            replace_maildir_points(aims);
        }
        round(aims, in_maildir, &mut rng, &mut table);
    }
    sweep::trials(trials.div_ceil(50), &mut table);
    let all = print("killed", &table);
    println!("{} s", started.elapsed().as_secs());
    assert_eq!(all.faults(), 0, "{all:?}");
    assert!(all.missed <= all.trials / 20, "points were not reached");
    assert!(all.accepted > 0);
}

/// What has tests of its own: no load of mails comes to it.
fn is_reached_elsewhere(point: Point) -> bool {
    matches!(
        point,
        Point::SweepIndex | Point::IndexCopied | Point::IndexExchanged
    )
}

fn replace_maildir_points(aims: &mut [Aim]) {
    for aim in aims {
        if matches!(
            aim,
            Aim::Point(Point::MaildirWritten | Point::MaildirLinked)
        ) {
            *aim = Aim::Point(Point::Delivered);
        }
    }
}

fn round(aims: &[Aim], in_maildir: bool, rng: &mut Rng, table: &mut Table) {
    let mails = setting("SEKIMORI_CRASH_MAILS", 60);
    let (round, site) = Round::new(in_maildir, |method, relay| Site::new(method, relay, "7d"));
    let mut counted = Table::new();
    let seed = rng.next();
    round.run(
        &site,
        rng,
        |trials| {
            let mut rng = Rng(seed);
            for (number, aim) in aims.iter().enumerate() {
                trials.load.trial.store(number, Ordering::SeqCst);
                let counts = counted.entry(aim.name()).or_default();
                trial(*aim, mails, &site, trials, &mut rng, counts);
            }
        },
        |trial| aims[trial].name(),
        table,
    );
    for (name, counts) in counted {
        table.entry(name).or_default().add(&counts);
    }
}

/// One life of the daemon and its end.
fn trial(
    aim: Aim,
    mails: u64,
    site: &Site,
    trials: &mut Trials<'_>,
    rng: &mut Rng,
    counts: &mut Counts,
) {
    let before = trials.load.taken.load(Ordering::SeqCst);
    let taken = || trials.load.taken.load(Ordering::SeqCst) - before;
    let daemon = match aim {
        Aim::Start => {
            let mut daemon = site.start(None);
            std::thread::sleep(Duration::from_micros(rng.below(50_000)));
            daemon.kill();
            daemon
        }
        Aim::Instant => {
            let enough = mails / 2 + rng.below(mails);
            let mut daemon = site.start(None);
            daemon.await_taken(|| taken() >= enough);
            std::thread::sleep(Duration::from_micros(rng.below(3_000)));
            daemon.kill();
            daemon
        }
        Aim::Point(point) => {
            let nth = 1 + rng.below(times(point, mails));
            let mut daemon = site.start(Some(&format!("{}:{nth}", point.name())));
            if !dies(mails * 5, taken, &mut daemon) {
                counts.missed += 1;
                daemon.kill();
            }
            daemon
        }
    };
    trials.note_death(&daemon, counts);
}

/// How often a point is surely passed while `mails` recipients are accepted, or a little more.
fn times(point: Point, mails: u64) -> u64 {
    let share = match point {
        Point::ReleaseBegun
        | Point::ReleaseWritten
        | Point::ReleaseQueued
        | Point::ReleaseDelivered
        | Point::ReleaseEnded => 20,
        Point::CourierTransmitting => 6,
        Point::CommitApplied | Point::CommitFlushed | Point::Committed => 4,
        _ => 2,
    };
    (mails / share).max(1)
}

/// Whether it kills itself before `most` recipients are accepted.
fn dies(most: u64, taken: impl Fn() -> u64, daemon: &mut Daemon) -> bool {
    let give_up = Instant::now() + PATIENCE;
    while taken() < most {
        if let Some(status) = daemon.ended() {
            assert_eq!(status.signal(), Some(9), "{status}\n{}", daemon.log());
            return true;
        }
        assert!(
            Instant::now() < give_up,
            "no mail is taken\n{}",
            daemon.log()
        );
        std::thread::sleep(MOMENT);
    }
    false
}
