//! Power cuts: a kill leaves the page cache behind, so it cannot show a missing sync. Here store and
//! Maildirs lie on a file system that is shut down without a flush. Whatever was answered 2xx before,
//! and even while that happened, is there when it is mounted again.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::letter::Rng;
use crate::oracle::{Counts, Table, print};
use crate::round::{Round, Trials};
use crate::setting;
use crate::site::{Site, temporary};

/// Cuts of one disk, before its account.
const ROUND: usize = 8;
const ROW: &str = "power cut";

#[test]
fn without_power_nothing_is_lost_and_nothing_repeated() {
    let cuts = usize::try_from(setting("SEKIMORI_CRASH_CUTS", 8)).unwrap();
    let mut rng = Rng(setting("SEKIMORI_CRASH_SEED", 1));
    let mut table = Table::new();
    let started = Instant::now();
    let mut left = cuts;
    while left > 0 {
        let disk = match Disk::new() {
            Ok(disk) => disk,
            Err(reason) => {
                println!("SKIPPED, no disk whose power can be cut: {reason}");
                return;
            }
        };
        let now = left.min(ROUND);
        round(disk, now, &mut rng, &mut table);
        left -= now;
    }
    let all = print("power cuts", &table);
    println!("{} s", started.elapsed().as_secs());
    assert_eq!(all.faults(), 0, "{all:?}");
    assert!(all.accepted > 0);
}

fn round(mut disk: Disk, cuts: usize, rng: &mut Rng, table: &mut Table) {
    let mails = setting("SEKIMORI_CRASH_MAILS", 60);
    let place = disk.path();
    let (round, site) = Round::new(true, |method, relay| {
        Site::on(temporary(), place, method, relay, "7d")
    });
    let seed = rng.next();
    let mut counted = Counts::default();
    round.run(
        &site,
        rng,
        |trials| {
            let mut rng = Rng(seed);
            for _ in 0..cuts {
                cut(mails, &site, &mut disk, trials, &mut rng, &mut counted);
            }
        },
        |_| ROW,
        table,
    );
    table.entry(ROW).or_default().add(&counted);
}

/// Under load, or one time in four while it starts, the first time on an empty disk.
fn cut(
    mails: u64,
    site: &Site,
    disk: &mut Disk,
    trials: &mut Trials<'_>,
    rng: &mut Rng,
    counts: &mut Counts,
) {
    let load = trials.load;
    let before = load.taken.load(Ordering::SeqCst);
    let mut daemon = site.start(None);
    if rng.one_in(4) {
        std::thread::sleep(Duration::from_micros(rng.below(50_000)));
    } else {
        let enough = before + mails / 2 + rng.below(mails);
        daemon.await_taken(|| load.taken.load(Ordering::SeqCst) >= enough);
    }
    load.cut.store(true, Ordering::SeqCst);
    disk.cut();
    // Replies that were under way come, and new mail finds a dead disk.
    std::thread::sleep(Duration::from_millis(rng.below(30)));
    // It may have ended by itself, since a sync failed.
    daemon.end();
    trials.note_death(&daemon, counts);
    load.cut.store(false, Ordering::SeqCst);
    disk.restore();
}
