//! Mail that goes round: two daemons and the MTA between them. Each loop ends after the number of
//! mails that its test names, counted at the MTA.

use crate::harness::{Daemon, Site, crlf, eventually};
use crate::hop::{Captured, Hop};

const A: &str = "a@east.example.jp";
const B: &str = "b@west.example.jp";
const C: &str = "c@east.example.jp";
const USER: &str = "user@friend.example";

/// The MTA of two mail domains, each behind a daemon of its own.
struct World {
    relay: Hop,
    east: Daemon,
    west: Daemon,
    /// What the MTA does to a mail before it hands it over.
    meddle: fn(&mut Captured),
}

impl World {
    /// `settings` are mailbox files.
    fn new(settings: &[(&str, &str)]) -> Self {
        let relay = Hop::smtp();
        let daemon = |domain: &str| {
            let mut site = Site::new().with_relay(relay.port).with(
                "domains: [east.example.jp, west.example.jp]",
                &format!("domains: [{domain}]"),
            );
            for (mailbox, text) in settings.iter().filter(|row| row.0.ends_with(domain)) {
                site = site.with_mailbox(mailbox, text);
            }
            site.start()
        };
        Self {
            east: daemon("east.example.jp"),
            west: daemon("west.example.jp"),
            relay,
            meddle: |_| {},
        }
    }

    fn meddling(mut self, meddle: fn(&mut Captured)) -> Self {
        self.meddle = meddle;
        self
    }

    fn of(&self, address: &str) -> Option<&Daemon> {
        match address.rsplit_once('@')?.1 {
            "east.example.jp" => Some(&self.east),
            "west.example.jp" => Some(&self.west),
            _ => None,
        }
    }

    /// Hands one mail in and carries what comes of it until nothing moves; the mails at the MTA.
    fn run(&self, from: &str, to: &str, fields: &str) -> Vec<Captured> {
        let text = format!(
            "Received: by mta.example.net id 0; Sun, 22 Nov 2026 09:00:00 +0900\n{fields}From: {from}\nTo: {to}\nSubject: round\nMessage-ID: <round@friend.example>\n\nbody\n"
        );
        self.hand_over(from, to, &crlf(&text));
        let mut carried = 0;
        loop {
            self.east.await_empty_queue();
            self.west.await_empty_queue();
            let mails = self.relay.mails();
            if carried == mails.len() {
                return mails;
            }
            assert!(mails.len() < 200, "a loop without end");
            for mail in &mails[carried..] {
                let mut mail = mail.clone();
                (self.meddle)(&mut mail);
                let trace = format!("Received: by mta.example.net id {carried}; now\r\n");
                let data = [trace.as_bytes(), &mail.data].concat();
                for to in &mail.recipients {
                    self.hand_over(&mail.sender, to, &data);
                }
                carried += 1;
            }
        }
    }

    fn hand_over(&self, sender: &str, to: &str, data: &[u8]) {
        if let Some(daemon) = self.of(to) {
            let reply = daemon.give(sender, to, data).0;
            assert!(reply.starts_with("250 2.0.0 "), "{reply}");
        }
    }

    fn kept(&self, mailbox: &str) -> usize {
        self.of(mailbox).unwrap().mailbox(mailbox).len()
    }
}

fn forward(to: &str, keep: bool) -> String {
    format!("forwarding:\n  mode: all\n  all: {{to: [{to}], keep_copy: {keep}}}\n")
}

/// The recipients in order.
fn route(mails: &[Captured]) -> Vec<&str> {
    let recipients = mails.iter().flat_map(|mail| &mail.recipients);
    recipients.map(String::as_str).collect()
}

#[test]
fn two_that_forward_to_each_other_end_after_two_mails() {
    for keep in [false, true] {
        let world = World::new(&[(A, &forward(B, keep)), (B, &forward(A, keep))]);
        assert_eq!(route(&world.run(USER, A, "")), [B, A]);
        assert_eq!(world.kept(A), 1 + usize::from(keep));
        assert_eq!(world.kept(B), usize::from(keep));
    }
}

#[test]
fn three_that_forward_in_a_ring_end_after_three_mails() {
    let world = World::new(&[
        (A, &forward(B, false)),
        (B, &forward(C, false)),
        (C, &forward(A, false)),
    ]);
    assert_eq!(route(&world.run(USER, A, "")), [B, C, A]);
    assert_eq!((world.kept(A), world.kept(B), world.kept(C)), (1, 0, 0));
}

#[test]
fn a_forward_to_oneself_is_no_mail_at_all() {
    for to in [
        A,
        "A@EAST.example.jp.",
        "\"a\"@east.example.jp",
        "alias@east.example.jp",
    ] {
        let settings = format!(
            "aliases: [alias@east.example.jp]\n{}",
            forward(&format!("'{to}'"), false)
        );
        let world = World::new(&[(A, &settings)]);
        assert!(world.run(USER, A, "").is_empty(), "{to}");
        assert_eq!(world.kept(A), 1, "{to}");
    }
}

/// The extension is an address of its own to the settings; the mark ends it.
#[test]
fn a_forward_to_an_extension_of_oneself_ends_after_one_mail() {
    let world = World::new(&[(A, &forward("a+x@east.example.jp", false))]);
    let mails = world.run(USER, A, "");
    assert!(mails.len() <= 1, "{:?}", route(&mails));
    assert_eq!(world.kept(A), 1);
}

#[test]
fn a_way_back_to_an_alias_ends_after_two_mails() {
    for back in ["alias@east.example.jp", "a+x@east.example.jp"] {
        let own = format!("aliases: [alias@east.example.jp]\n{}", forward(B, false));
        let world = World::new(&[(A, &own), (B, &forward(back, false))]);
        assert_eq!(route(&world.run(USER, A, "")), [B, back]);
        assert_eq!((world.kept(A), world.kept(B)), (1, 0));
    }
}

/// A hop that takes our mark away leaves the `Received` fields: more than 100 are a loop.
#[test]
fn a_loop_whose_marks_are_taken_away_ends_at_a_hundred_trace_fields() {
    let world = World::new(&[(A, &forward(B, false)), (B, &forward(A, false))]).meddling(|mail| {
        let text = mail.text();
        let kept = text
            .split_inclusive("\r\n")
            .filter(|line| !line.starts_with("X-Sekimori-Fwd:"));
        mail.data = kept.collect::<String>().into_bytes();
    });
    let mails = world.run(USER, A, "");
    assert_eq!(mails.len(), 50, "two trace fields a round");
    assert_eq!(world.kept(A) + world.kept(B), 1);
}

#[test]
fn a_mail_with_more_than_a_hundred_trace_fields_goes_nowhere() {
    let settings = format!(
        "{}notify: {{to: [mobile@else.example]}}\nauto_reply: {{enabled: true, message: away}}\n",
        forward("home@else.example", false)
    );
    let world = World::new(&[(A, &settings), (C, &settings)]);
    let trace = |count: usize| "Received: from x by y; now\n".repeat(count);
    assert!(
        world.run(USER, A, &trace(100)).is_empty(),
        "101 with the MTA's own"
    );
    assert_eq!(world.kept(A), 1);
    assert_eq!(
        world.run(USER, C, &trace(99)).len(),
        3,
        "100 are none too many"
    );
}

const AWAY: &str = "auto_reply: {enabled: true, message: away}\n";

/// The MTA as a hop that makes a new mail: nothing tells it from one that a person wrote.
fn as_a_person(mail: &mut Captured) {
    let from = mail.field("From").unwrap();
    mail.sender = from.trim_matches(['<', '>']).to_owned();
    let told = [
        "Auto-Submitted:",
        "X-Sekimori-Fwd:",
        "X-Auto-Response-Suppress:",
        "Precedence:",
        "In-Reply-To:",
        "References:",
    ];
    let text = mail.text();
    let kept = text
        .split_inclusive("\r\n")
        .filter(|line| !told.iter().any(|name| line.starts_with(name)));
    mail.data = kept.collect::<String>().into_bytes();
}

#[test]
fn an_answer_is_not_answered() {
    let world = World::new(&[(A, AWAY), (B, AWAY)]);
    assert_eq!(route(&world.run(B, A, "")), [B]);
    assert_eq!((world.kept(A), world.kept(B)), (1, 1));
}

#[test]
fn answers_that_pass_for_a_persons_end_after_one_each() {
    let world = World::new(&[(A, AWAY), (B, AWAY)]).meddling(as_a_person);
    assert_eq!(route(&world.run(B, A, "")), [B, A]);
    assert_eq!((world.kept(A), world.kept(B)), (2, 1));
}

#[test]
fn an_answer_to_an_address_that_forwards_back_ends_after_two_mails() {
    let settings = format!("{AWAY}notify: {{to: [{B}]}}\n");
    let back = forward(A, false);
    let world = World::new(&[(A, &settings), (B, &back)]);
    let mails = world.run(B, A, "");
    let mut route = route(&mails);
    route.sort_unstable();
    assert_eq!(route, [A, A, B, B], "notice and answer, there and back");
    assert_eq!((world.kept(A), world.kept(B)), (3, 0));
}

#[test]
fn a_notice_to_an_address_that_forwards_back_ends_after_two_mails() {
    let notify = format!("notify: {{to: [{B}]}}\n");
    let meddlers: [fn(&mut Captured); 2] = [
        |_| {},
        // The null reverse path must be able to cause a notice (RFC 5436): the mark ends it.
        |mail| {
            let text = mail.text();
            let kept = text
                .split_inclusive("\r\n")
                .filter(|line| !line.starts_with("Auto-Submitted:"));
            mail.data = kept.collect::<String>().into_bytes();
        },
    ];
    for meddle in meddlers {
        let world = World::new(&[(A, &notify), (B, &forward(A, false))]).meddling(meddle);
        assert_eq!(route(&world.run(USER, A, "")), [B, A]);
        assert_eq!((world.kept(A), world.kept(B)), (2, 0));
    }
}

#[test]
fn two_that_notify_each_other_end_after_one_mail() {
    let (a, b) = (
        format!("notify: {{to: [{B}]}}\n"),
        format!("notify: {{to: [{A}]}}\n"),
    );
    let world = World::new(&[(A, &a), (B, &b)]);
    assert_eq!(route(&world.run(USER, A, "")), [B]);
    assert_eq!((world.kept(A), world.kept(B)), (1, 1));
}

/// A mail store that sends what it gets back to the MTA, as an owner's Sieve script may.
#[test]
fn a_quarantine_notice_that_is_held_itself_causes_no_other() {
    let store = Hop::lmtp();
    let daemon = Site::new()
        .with(
            "method: maildir\n",
            &format!(
                "method: lmtp\n  lmtp: {{address: \"127.0.0.1:{}\"}}\n",
                store.port
            ),
        )
        .with_mailbox(
            A,
            "spam: {scan: true, quarantine: true, notice: each}\nvirus: {scan: true}\n",
        )
        .start();
    for (round, field) in [(1, "X-Spam-Flag: YES"), (2, "X-Virus-Status: Infected")] {
        let raw = crlf(&format!("{field}\nFrom: {USER}\nSubject: x\n\nx\n"));
        daemon.give(USER, A, &raw);
        let told = eventually("the notice or report", || {
            store.mails().get(round - 1).cloned()
        });
        // It comes round and is thought to be spam.
        let back = [b"X-Spam-Flag: YES\r\n", told.data.as_slice()].concat();
        daemon.give(&told.sender, A, &back);
        daemon.await_empty_queue();
        assert_eq!(store.mails().len(), round, "{field}");
        assert_eq!(daemon.quarantine().len(), 2 * round, "{field}");
    }
}

/// The far MTA takes the forward and bounces it to the reverse path, which is one of ours.
#[test]
fn a_bounce_of_a_forward_ends_after_two_mails() {
    let world = World::new(&[
        (A, &forward("gone@else.example", false)),
        (B, &forward("gone@else.example", false)),
    ]);
    let mails = world.run(B, A, "");
    assert_eq!(route(&mails), ["gone@else.example"]);
    assert_eq!(mails[0].sender, B);
    let bounce = [
        b"Auto-Submitted: auto-replied\r\nContent-Type: multipart/report\r\nSubject: failure\r\nFrom: mailer-daemon@else.example\r\nTo: b@west.example.jp\r\n\r\n".as_slice(),
        &mails[0].data,
    ]
    .concat();
    world.hand_over("", B, &bounce);
    world.west.await_empty_queue();
    let mails = world.relay.mails();
    assert_eq!(route(&mails), ["gone@else.example", "gone@else.example"]);
    // Nobody bounces this one (RFC 5321 4.5.5).
    assert_eq!(mails[1].sender, "");
}
