//! A round: one store, load from several clients, any number of deaths, and the account at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crate::client::{self, Load};
use crate::letter::{Letter, Rng};
use crate::oracle::{Counts, Evidence, Table};
use crate::sink::Sink;
use crate::site::{Daemon, Method, Site};

/// Clients at once.
const CLIENTS: usize = 8;

/// Servers behind the daemon, and what the clients share.
pub(crate) struct Round {
    pub(crate) load: Load,
    relay: Sink,
    hop: Sink,
    in_maildir: bool,
    deaths: Vec<Instant>,
}

impl Round {
    /// The site is made by `site`, from the place of kept mail and the relay's port.
    pub(crate) fn new(in_maildir: bool, site: impl FnOnce(Method, u16) -> Site) -> (Self, Site) {
        let life: Arc<AtomicU32> = Arc::default();
        let relay = Sink::new(false, life.clone());
        let hop = Sink::new(true, life.clone());
        let method = match in_maildir {
            true => Method::Maildir,
            false => Method::Lmtp(hop.port),
        };
        let site = site(method, relay.port);
        let load = Load::new(site.path("lmtp.sock"), life);
        let round = Self {
            load,
            relay,
            hop,
            in_maildir,
            deaths: Vec::new(),
        };
        (round, site)
    }

    /// Runs `trials` under load, then finishes what waits and judges. `trials` starts and kills.
    pub(crate) fn run(
        mut self,
        site: &Site,
        rng: &mut Rng,
        trials: impl FnOnce(&mut Trials<'_>),
        point_of: impl Fn(usize) -> &'static str,
        table: &mut Table,
    ) {
        let (load, deaths) = (&self.load, &mut self.deaths);
        let (letters, released, daemon) = std::thread::scope(|scope| {
            let ends = Ends(load);
            let seeds: Vec<u64> = (0..CLIENTS).map(|_| rng.next()).collect();
            let clients: Vec<_> = seeds
                .into_iter()
                .map(|seed| scope.spawn(move || client::run(load, seed)))
                .collect();
            let owner = scope.spawn(move || client::release(load, site));
            trials(&mut Trials { load, deaths });
            let mut daemon = site.start(None);
            daemon.await_ready();
            drop(ends);
            let letters = clients
                .into_iter()
                .flat_map(|client| client.join().unwrap());
            let letters: Vec<_> = letters.collect();
            (letters, owner.join().unwrap(), daemon)
        });
        self.relay.relent();
        self.hop.relent();
        self.settle(site, daemon, letters, released, point_of, table);
    }

    fn settle(
        self,
        site: &Site,
        daemon: Daemon,
        letters: Vec<Letter>,
        released: Vec<u64>,
        point_of: impl Fn(usize) -> &'static str,
        table: &mut Table,
    ) {
        site.await_empty_queue();
        let mut evidence = Evidence::gather(site, letters, released, self.in_maildir, self.deaths);
        daemon.stop();
        evidence.relay = self.relay.taken();
        evidence.hop = self.hop.taken();
        let strange = [self.relay.strange(), self.hop.strange()].concat();
        assert!(strange.is_empty(), "{strange:?}");
        let (clean, report) = site.json(&["store", "verify"]);
        assert!(clean, "{report}");
        evidence.judge(point_of, table);
    }
}

/// What a series of trials works with.
pub(crate) struct Trials<'a> {
    pub(crate) load: &'a Load,
    deaths: &'a mut Vec<Instant>,
}

impl Trials<'_> {
    /// A life of the daemon is over, which began with this daemon's start.
    pub(crate) fn note_death(&mut self, daemon: &Daemon, counts: &mut Counts) {
        counts.trials += 1;
        counts.rebuilt += u64::from(daemon.log().contains("is made anew"));
        self.deaths.push(daemon.killed());
        self.load.life.fetch_add(1, Ordering::SeqCst);
    }
}

/// The clients end even where the trials panic.
struct Ends<'a>(&'a Load);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.draining.store(true, Ordering::SeqCst);
        self.0
            .given_up
            .store(std::thread::panicking(), Ordering::SeqCst);
    }
}
