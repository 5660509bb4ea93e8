//! Releases that a crash interrupts, step by step: each ends once, or as the operator said.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;

use sekimori::failpoint::Point;

use crate::client::{self, Load};
use crate::letter::{Kind, Letter, Recipient, Rng};
use crate::sink::Sink;
use crate::site::{Daemon, Method, Site, eventually};

/// A site with one held mail, and its id.
fn holding(method: Method) -> (Site, String) {
    let relay = Sink::new(false, Arc::default());
    let site = Site::new(method, relay.port, "7d");
    let mut daemon = site.start(None);
    daemon.await_ready();
    let load = Load::new(site.path("lmtp.sock"), Arc::default());
    let mut letter = Letter::new(1, 0, &mut Rng(1));
    letter.recipients = vec![Recipient {
        kind: Kind::Held,
        taken: None,
        late: false,
    }];
    assert!(client::give(&load, &mut letter));
    let held = site.get("/v1/quarantine");
    assert_eq!(held.len(), 1, "{held:?}");
    let id = held[0]["id"].as_str().unwrap().to_owned();
    daemon.stop();
    (site, id)
}

/// Asks a daemon that dies at `point` while it answers.
fn dies(site: &Site, point: Point, method: &str, path: &str) {
    let mut daemon = site.start(Some(&format!("{}:1", point.name())));
    daemon.await_ready();
    let answer = site.http(method, path);
    assert!(answer.is_err(), "{point:?}: {answer:?}");
    let status = eventually("it dies", || daemon.ended());
    assert_eq!(status.signal(), Some(9), "{point:?}: {}", daemon.log());
}

fn started(site: &Site) -> Daemon {
    let mut daemon = site.start(None);
    daemon.await_ready();
    daemon
}

fn await_state(site: &Site, state: &str) {
    eventually(state, || {
        let held = site.get("/v1/quarantine");
        (held[0]["state"] == state).then_some(())
    });
    site.await_empty_queue();
}

#[test]
fn a_release_that_dies_at_any_step_ends_once() {
    let points = [
        Point::ReleaseBegun,
        Point::ReleaseWritten,
        Point::ReleaseQueued,
        Point::CourierDue,
        Point::CourierBegun,
        Point::MaildirWritten,
        Point::MaildirLinked,
        Point::ReleaseDelivered,
        Point::ReleaseEnded,
    ];
    for point in points {
        let (site, id) = holding(Method::Maildir);
        dies(
            &site,
            point,
            "POST",
            &format!("/v1/quarantine/{id}/release"),
        );
        let daemon = started(&site);
        await_state(&site, "released");
        daemon.stop();
        assert_eq!(site.maildir("held").len(), 1, "{point:?}");
        let (clean, report) = site.json(&["store", "verify"]);
        assert!(clean && report["outgoing"] == 0, "{point:?}: {report}");
    }
}

#[test]
fn a_release_that_was_recorded_is_not_delivered_once_more() {
    let hop = Sink::new(true, Arc::default());
    let (site, id) = holding(Method::Lmtp(hop.port));
    dies(
        &site,
        Point::ReleaseEnded,
        "POST",
        &format!("/v1/quarantine/{id}/release"),
    );
    let daemon = started(&site);
    await_state(&site, "released");
    daemon.stop();
    assert_eq!(hop.taken().len(), 1);
}

#[test]
fn a_dropped_release_stays_dropped_and_its_mail_held() {
    // Nobody listens on the discard port: the release waits.
    let (site, id) = holding(Method::Lmtp(9));
    let daemon = started(&site);
    site.http("POST", &format!("/v1/quarantine/{id}/release"))
        .unwrap();
    eventually("the release waits", || {
        let queue = site.get("/v1/queue");
        (queue.len() == 1 && queue[0]["attempts"] != 0).then_some(())
    });
    drop(daemon);
    let mut daemon = site.start(Some(&format!("{}:1", Point::ReleaseEnded.name())));
    daemon.await_ready();
    // It may just be tried, and is not dropped then.
    let status = eventually("it is dropped, and dies", || {
        let _ = site.http("DELETE", &format!("/v1/queue/{id}"));
        daemon.ended()
    });
    assert_eq!(status.signal(), Some(9), "{}", daemon.log());
    let daemon = started(&site);
    await_state(&site, "held");
    daemon.stop();
}
