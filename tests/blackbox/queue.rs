//! The outgoing queue while the relay is away.

use serde_json::json;

use crate::harness::{Daemon, Site, TARO, eventually, mail};
use crate::hop::{Hop, closed_port};
use crate::http;

/// A daemon that waits an hour between tries, with one forward in its queue, and the relay's port.
fn waiting() -> (Daemon, u16) {
    let port = closed_port();
    let daemon = Site::new()
        .with_relay(port)
        .with("first: 1s, factor: 1, longest: 1s", "first: 1h, factor: 1, longest: 1h")
        .with_mailbox(TARO, "forwarding:\n  mode: all\n  all: {to: [home@else.example, b@else.example], keep_copy: true}\n")
        .start();
    daemon.give("a@friend.example", TARO, &mail("a@friend.example", "x"));
    eventually("the end of the first try", || {
        daemon.queue()[0]["last_reply"].is_string().then_some(())
    });
    (daemon, port)
}

#[test]
fn list_has_exactly_its_members() {
    let (daemon, _) = waiting();
    let queue = daemon.queue();
    assert_eq!(queue.len(), 1);
    let item = &queue[0];
    let mut names: Vec<&str> = item
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "attempts",
            "id",
            "kind",
            "last_reply",
            "mailbox",
            "next_attempt_at",
            "recipients",
            "schema",
            "sender"
        ]
    );
    assert_eq!(item["kind"], "forward");
    assert_eq!(item["mailbox"], TARO);
    assert_eq!(item["sender"], "a@friend.example");
    assert_eq!(
        item["recipients"],
        json!(["home@else.example", "b@else.example"])
    );
    assert!(item["last_reply"].is_string(), "{item}");
    let next: jiff::Timestamp = item["next_attempt_at"].as_str().unwrap().parse().unwrap();
    let wait = next.as_second() - jiff::Timestamp::now().as_second();
    assert!(
        (2700..=4500).contains(&wait),
        "retry.first is an hour: {wait} s"
    );
    assert_eq!(http::get(&daemon, "/v1/queue"), queue);
    let text = daemon.cli(&["queue", "list"]).success().text();
    assert!(text.contains("home@else.example"), "{text}");
}

#[test]
fn retry_tries_now() {
    let (daemon, port) = waiting();
    let relay = Hop::smtp_on(port);
    let id = daemon.queue()[0]["id"].as_str().unwrap().to_owned();
    daemon.cli(&["queue", "retry", &id]).success();
    relay.await_mail("home@else.example");
    daemon.await_empty_queue();
    daemon.cli(&["queue", "retry", &id]).exit(66);
}

#[test]
fn drop_gives_up() {
    let (daemon, port) = waiting();
    let id = daemon.queue()[0]["id"].as_str().unwrap().to_owned();
    daemon.cli(&["queue", "drop", &id]).success();
    assert!(daemon.queue().is_empty());
    daemon.cli(&["queue", "drop", &id]).exit(66);
    let relay = Hop::smtp_on(port);
    daemon.give("b@friend.example", TARO, &mail("b@friend.example", "later"));
    let sent = relay.await_mail("home@else.example");
    assert_eq!(sent.sender, "b@friend.example");
}

#[test]
fn the_queue_outlives_a_crash() {
    let (mut daemon, port) = waiting();
    let before = daemon.queue()[0]["id"].clone();
    daemon.kill();
    daemon.start_again();
    assert_eq!(daemon.queue()[0]["id"], before);
    let relay = Hop::smtp_on(port);
    daemon
        .cli(&["queue", "retry", before.as_str().unwrap()])
        .success();
    relay.await_mail("home@else.example");
    daemon.await_empty_queue();
    assert_eq!(relay.mails().len(), 1);
}

#[test]
fn a_relay_that_comes_back_is_found_by_itself() {
    let port = closed_port();
    let daemon = Site::new()
        .with_relay(port)
        .with_mailbox(
            TARO,
            "forwarding:\n  mode: all\n  all: {to: [home@else.example], keep_copy: false}\n",
        )
        .start();
    daemon.give("a@friend.example", TARO, &mail("a@friend.example", "x"));
    eventually("a second try", || {
        (daemon.queue()[0]["attempts"].as_u64() >= Some(2)).then_some(())
    });
    let relay = Hop::smtp_on(port);
    relay.await_mail("home@else.example");
    daemon.await_empty_queue();
}

#[test]
fn ids_that_are_not_there() {
    let daemon = Site::new().start();
    for command in ["retry", "drop"] {
        daemon
            .cli(&["queue", command, "01m80r8cznpnz2pq5rpvmvbnn6"])
            .exit(66);
        daemon.cli(&["queue", command, "nonsense!"]).exit(66);
        daemon.cli(&["queue", command]).exit(64);
    }
}

#[test]
fn kinds_of_what_waits() {
    let daemon = Site::new()
        .with_relay(closed_port())
        .with_mailbox(
            TARO,
            "forwarding:\n  mode: all\n  all: {to: [home@else.example], keep_copy: true}\nnotify: {to: [mobile@else.example]}\nauto_reply: {enabled: true, message: away}\n",
        )
        .start();
    daemon.give("a@friend.example", TARO, &mail("a@friend.example", "x"));
    let mut queue: Vec<(String, String, String)> = daemon
        .queue()
        .iter()
        .map(|item| {
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            (
                text(&item["kind"]),
                text(&item["sender"]),
                text(&item["recipients"][0]),
            )
        })
        .collect();
    queue.sort();
    let expected = [
        ("auto_reply", "", "a@friend.example"),
        ("forward", "a@friend.example", "home@else.example"),
        ("notify", "", "mobile@else.example"),
    ]
    .map(|(kind, sender, to)| (kind.to_owned(), sender.to_owned(), to.to_owned()));
    let shown: Vec<_> = queue
        .into_iter()
        .map(|(kind, sender, to)| (kind, sender.replace("<>", ""), to))
        .collect();
    assert_eq!(shown, expected);
}

#[test]
fn a_forward_that_target_and_mailbox_refuse_waits_for_the_operator() {
    let (relay, hop) = (Hop::smtp(), Hop::lmtp());
    relay.at_rcpt("home@else.example", "550 5.1.1 nobody");
    hop.at_rcpt(TARO, "550 5.2.0 no mailbox here");
    let daemon = Site::new()
        .with_relay(relay.port)
        .with("longest: 1s, give_up: 1h", "longest: 1s, give_up: 1s")
        .with(
            "method: maildir\n",
            &format!(
                "method: lmtp\n  lmtp: {{address: 127.0.0.1:{}}}\n",
                hop.port
            ),
        )
        .with_mailbox(
            TARO,
            "forwarding:\n  mode: all\n  all: {to: [home@else.example], keep_copy: false}\n",
        )
        .start();
    let raw = mail("a@friend.example", "x");
    let answer = daemon.give("a@friend.example", TARO, &raw);
    assert_eq!(answer.verdict(), "forward");
    eventually("it is given up", || {
        let why = daemon.one(&["why", &answer.id()]);
        (why["effects"][0]["state"] == "dead").then_some(())
    });
    let waiting = daemon.queue();
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    let words = waiting[0]["last_reply"].as_str().unwrap();
    assert!(words.contains("no mailbox here"), "{words}");
    assert!(hop.mails().is_empty());
    hop.relent();
    let id = waiting[0]["id"].as_str().unwrap();
    daemon.cli(&["queue", "retry", id]).success();
    let kept = hop.await_mail(TARO);
    assert!(kept.field("X-Sekimori-Forward-Failed").is_some());
    assert!(kept.data.ends_with(&raw));
    daemon.await_empty_queue();
}

#[test]
fn auto_replies_of_a_mailbox_are_limited_in_an_hour_and_notices_are_not() {
    let daemon = Site::new()
        .with_relay(closed_port())
        .with_mailbox(
            TARO,
            "notify: {to: [mobile@else.example]}\nauto_reply: {enabled: true, message: away}\n",
        )
        .start();
    let mut session = daemon.lmtp();
    let mut last = None;
    for n in 0..32 {
        let sender = format!("a{n}@friend.example");
        let mut answers = session.hand_over(&sender, &[TARO], &mail(&sender, "x"));
        last = answers.pop();
    }
    let queue = daemon.queue();
    let count = |kind: &str| queue.iter().filter(|item| item["kind"] == kind).count();
    assert_eq!((count("auto_reply"), count("notify")), (30, 32));
    let why = daemon.one(&["why", &last.unwrap().id()]);
    let effects = why["effects"].as_array().unwrap();
    let left_out = effects
        .iter()
        .find(|effect| effect["kind"] == "auto_reply")
        .unwrap();
    assert_eq!(left_out["state"], json!("left_out"));
    assert_eq!(left_out["reply"], json!("too many replies in this hour"));
}
