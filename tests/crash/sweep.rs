//! Expiry that a crash interrupts: the entry goes first, its file after it, at the latest when the
//! daemon runs again. Nothing of what has expired stays on the disk.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;

use sekimori::failpoint::Point;

use crate::client::{self, Load};
use crate::letter::{Kind, Letter, Rng};
use crate::oracle::Table;
use crate::sink::Sink;
use crate::site::{Method, Site, eventually, files_below};

/// Held mails in a trial.
const MAILS: u64 = 10;

/// Runs so many trials, and counts them.
pub(crate) fn trials(count: usize, table: &mut Table) {
    let counts = table.entry(Point::SweepIndex.name()).or_default();
    for _ in 0..count {
        counts.accepted += trial();
        counts.trials += 1;
    }
}

/// How many mails were held.
fn trial() -> u64 {
    let relay = Sink::new(false, Arc::default());
    let site = Site::new(Method::Maildir, relay.port, "1s");
    let load = Load::new(site.path("lmtp.sock"), Arc::default());
    let mut daemon = site.start(Some(&format!("{}:1", Point::SweepIndex.name())));
    let mut rng = Rng(1);
    let mut taken = 0;
    while taken < MAILS && daemon.ended().is_none() {
        let mut letter = Letter::new(taken, 0, &mut rng);
        letter
            .recipients
            .retain(|recipient| recipient.kind == Kind::Held);
        if !letter.recipients.is_empty() {
            taken += u64::from(client::give(&load, &mut letter));
        }
    }
    let status = eventually("the sweep is reached", || daemon.ended());
    assert_eq!(status.signal(), Some(9), "{status}\n{}", daemon.log());
    let shelf = site.store().join("mail/quarantine");
    assert!(
        !files_below(&shelf).is_empty(),
        "the files go after the entry"
    );
    let mut daemon = site.start(None);
    daemon.await_ready();
    eventually("nothing is held any more", || {
        let held = site.get("/v1/quarantine").len() + files_below(&shelf).len();
        (held == 0).then_some(())
    });
    daemon.stop();
    taken
}
