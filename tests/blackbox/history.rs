//! `history` and `why`: what was decided, what of the mail decided it, what became of each effect.

use serde_json::{Value, json};

use crate::harness::{Daemon, JIRO, Site, TARO, crlf, eventually, mail};
use crate::hop::{Hop, closed_port};
use crate::http;

const RULES: &str = "reject:\n  from_suffixes: [\"@spam.example\"]\n  subject_contains: |\n    未承諾広告\n    アダルト\n";

/// Three mails to taro and one to jiro; the ids in the order of time.
fn week() -> (Daemon, [String; 4]) {
    let daemon = Site::new().with_mailbox(TARO, RULES).start();
    let give = |sender: &str, to: &str, raw: &[u8]| daemon.give(sender, to, raw).id();
    let spam = crlf("From: c@friend.example\nSubject: x\nX-Virus-Status: Infected (Eicar)\n\nx\n");
    let ids = [
        give("a@friend.example", TARO, &mail("a@friend.example", "hello")),
        give("b@spam.example", TARO, &mail("B <b@spam.example>", "buy")),
        give(
            "c@friend.example",
            JIRO,
            &mail("c@friend.example", "to jiro"),
        ),
        give("c@friend.example", TARO, &spam),
    ];
    (daemon, ids)
}

/// The ids of a history that has as many as are expected: what nobody waits for comes a moment later.
fn ids_of(daemon: &Daemon, arguments: &[&str], count: usize) -> Vec<String> {
    eventually(&format!("{count} records of {arguments:?}"), || {
        let found = daemon.json(&[&["history"], arguments].concat());
        let ids = found
            .iter()
            .map(|why| why["id"].as_str().unwrap().to_owned());
        Some(ids.collect::<Vec<_>>()).filter(|ids| ids.len() == count)
    })
}

#[test]
fn history_filters() {
    let (daemon, ids) = week();
    let pick = |places: &[usize]| places.iter().map(|at| ids[*at].clone()).collect::<Vec<_>>();
    let rows: &[(&[&str], &[usize])] = &[
        (&[], &[0, 1, 2, 3]),
        (&["--mailbox", TARO], &[0, 1, 3]),
        (&["--mailbox", "taro"], &[0, 1, 3]),
        (&["--mailbox", "TARO@East.Example.jp"], &[0, 1, 3]),
        (&["--mailbox", JIRO], &[2]),
        (&["--mailbox", "nobody@east.example.jp"], &[]),
        (&["--mailbox", "nobody@not-here.example"], &[]),
        (&["--verdict", "deliver"], &[0, 2, 3]),
        (&["--verdict", "quarantine"], &[1]),
        (&["--mailbox", JIRO, "--verdict", "quarantine"], &[]),
        (&["--stage", "reject.from_suffixes"], &[1]),
        (&["--stage", "spam"], &[]),
        (&["--since", "1h"], &[0, 1, 2, 3]),
        (
            &["--since", "2000-01-01T00:00:00Z", "--mailbox", TARO],
            &[0, 1, 3],
        ),
        (&["--since", "2999-01-01T00:00:00Z"], &[]),
    ];
    for (arguments, places) in rows {
        assert_eq!(
            ids_of(&daemon, arguments, places.len()),
            pick(places),
            "{arguments:?}"
        );
    }
    let text = daemon.cli(&["history"]).success().text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    for part in [
        &ids[1],
        TARO,
        "quarantine",
        "reject.from_suffixes",
        "@spam.example",
        "taro.yaml:3",
        "buy",
    ] {
        assert!(lines[1].contains(part), "{part} in {}", lines[1]);
    }
    for bad in [
        ["history", "--verdict", "held"],
        ["history", "--stage", "reject"],
        ["history", "--since", "yesterday-ish"],
    ] {
        let done = daemon.cli(&bad).exit(64);
        let named = match bad[1] {
            "--verdict" => "quarantine",
            "--stage" => "reject.subject_contains",
            _ => "12h",
        };
        assert!(done.stderr.contains(named), "{}", done.stderr);
    }
    let path = "/v1/history?mailbox=taro%40east.example.jp&verdict=quarantine";
    let over_http = http::get(&daemon, path);
    assert_eq!(
        over_http,
        daemon.json(&["history", "--verdict", "quarantine"])
    );
    let (status, body) = http::request(&daemon, "GET", "/v1/history?verdict=held", "");
    assert_eq!(status, 400, "{}", String::from_utf8_lossy(&body));
}

#[test]
fn commands_without_a_daemon_and_without_an_id() {
    let site = Site::new();
    for command in [&["history"][..], &["tail"], &["why", "q=x"]] {
        site.cli(command).exit(69);
    }
    let daemon = site.start();
    for unknown in [
        "q=01arz3ndektsv4rrffq69g5fav",
        "01arz3ndektsv4rrffq69g5fav",
        "nonsense",
        "../status",
    ] {
        daemon.cli(&["why", unknown]).exit(66);
    }
    daemon.cli(&["why"]).exit(64);
}

#[test]
fn why_by_what_the_mta_logged() {
    let daemon = Site::new().with_mailbox(TARO, RULES).start();
    let answer = daemon.give("b@spam.example", TARO, &mail("b@spam.example", "x"));
    let id = answer.id();
    let expected = daemon.one(&["why", &id]);
    assert_eq!(expected["id"], json!(id));
    let logged = format!(
        "Nov 22 09:00:00 mx postfix/lmtp[7]: 4b: to=<{TARO}>, relay=127.0.0.1[127.0.0.1]:24, dsn=2.0.0, status=sent ({})",
        answer.0
    );
    for pasted in [format!("q={id}"), answer.0, logged] {
        assert_eq!(daemon.one(&["why", &pasted]), expected, "{pasted}");
        let words: Vec<&str> = pasted.split(' ').collect();
        assert_eq!(daemon.one(&[&["why"], &words[..]].concat()), expected);
    }
}

#[test]
fn why_by_what_our_own_log_names() {
    let daemon = Site::new()
        .with_relay(closed_port())
        .with_mailbox(TARO, "notify: {to: [mobile@else.example]}\n")
        .start();
    let answer = daemon.give("a@friend.example", TARO, &mail("a@friend.example", "x"));
    let id = answer.id();
    let notice = effect(&daemon, &id, "notify", "waiting");
    let notice = notice["id"].as_str().unwrap();
    for pasted in [
        format!(
            "ts=2026-11-22T09:00:00Z level=info message=mail id={id} recipient={TARO} reply=250"
        ),
        format!("level=warn message=\"not sent\" id={notice} kind=notify error=\"451 4.4.1\""),
        notice.to_owned(),
    ] {
        assert_eq!(daemon.one(&["why", &pasted])["id"], json!(id), "{pasted}");
    }
}

#[test]
fn a_record_has_what_explain_has_and_the_hand_off() {
    let daemon = Site::new().with_mailbox(TARO, RULES).start();
    let raw = crlf(
        "From: A <a@friend.example>\nSubject: =?UTF-8?B?44GT?=\nSubject: 今日のｱﾀ゛ﾙﾄです\nMessage-ID: <m9@friend.example>\n\nx\n",
    );
    let id = daemon.give("a@friend.example", TARO, &raw).id();
    let why = daemon.one(&["why", &id]);
    let explained = daemon.cli_with_input(
        &[
            "explain",
            "--mailbox",
            TARO,
            "--sender",
            "a@friend.example",
            "-",
            "--json",
        ],
        &raw,
    );
    let explained = explained.success().json().remove(0);
    for member in explained.as_object().unwrap().keys() {
        assert!(
            why.get(member).is_some(),
            "{member} is in explain only: {why}"
        );
    }
    for (member, expected) in [
        ("id", json!(id)),
        ("sender", json!("a@friend.example")),
        ("client", json!("127.0.0.1")),
        ("message_id", json!("<m9@friend.example>")),
        ("size", json!(raw.len())),
        ("scan", json!({"virus": "clean", "spam": "ham"})),
        ("auth", json!({"dmarc": false})),
        ("stage", json!("reject.subject_contains")),
        ("entry", json!("アダルト")),
        ("origin", json!("taro.yaml:6")),
        ("matched", json!("ｱﾀ゛ﾙﾄ")),
        ("matches", json!({"reject.subject_contains": "ｱﾀ゛ﾙﾄ"})),
        ("settings_changed", json!(false)),
    ] {
        assert_eq!(why[member], expected, "{member} of {why}");
    }
    why["received_at"]
        .as_str()
        .unwrap()
        .parse::<jiff::Timestamp>()
        .unwrap();
    let effects = why["effects"].as_array().unwrap();
    assert_eq!(effects.len(), 1);
    assert_eq!(effects[0]["kind"], "quarantine");
    assert_eq!(effects[0]["state"], "held");
}

#[test]
fn the_address_that_matched_is_named() {
    let daemon = Site::new().with_mailbox(TARO, RULES).start();
    let raw = mail("A <a@friend.example>, B <b@spam.example>", "x");
    let why = daemon.one(&["why", &daemon.give("a@x.example", TARO, &raw).id()]);
    assert_eq!(why["matched"], "b@spam.example");
}

#[test]
fn a_record_names_the_settings_that_decided() {
    let daemon = Site::new().with_mailbox(TARO, RULES).start();
    let ask = |id: &str| {
        eventually("its record", || {
            let done = daemon.cli(&["why", id, "--json"]);
            (done.code == 0).then(|| done.json().remove(0))
        })
    };
    let give = || {
        daemon
            .give("a@friend.example", TARO, &mail("a@friend.example", "x"))
            .id()
    };
    let generation = |why: &Value| why["generation"].as_str().unwrap().to_owned();
    let (first, second) = (give(), give());
    let (before, same) = (ask(&first), ask(&second));
    assert_eq!(generation(&before), generation(&same));
    assert_eq!(generation(&before).len(), 16);
    daemon.set_mailbox(TARO, "reject: {subject_contains: [offer]}\n");
    let changed = eventually("the new settings decide", || {
        let why = ask(&give());
        (why["steps"][0]["outcome"] == "off").then_some(why)
    });
    assert_ne!(generation(&changed), generation(&before));
    assert_eq!(ask(&first)["settings_changed"], true);
    assert_eq!(changed["settings_changed"], false);
    daemon.set_mailbox(TARO, RULES);
    eventually("the same settings have the same name", || {
        (generation(&ask(&give())) == generation(&before)).then_some(())
    });
}

/// The effect of that kind in the record of that id, once it has that state.
fn effect(daemon: &Daemon, id: &str, kind: &str, state: &str) -> Value {
    eventually(&format!("{kind} is {state}"), || {
        let why = daemon.cli(&["why", id, "--json"]);
        let why = (why.code == 0).then(|| why.json().remove(0))?;
        let mut effects = why["effects"].as_array().unwrap().iter();
        effects
            .find(|effect| effect["kind"] == kind && effect["state"] == state)
            .cloned()
    })
}

#[test]
fn a_delivery_says_where_the_mail_lies() {
    let daemon = Site::new().start();
    let id = daemon
        .give("a@friend.example", TARO, &mail("a@friend.example", "x"))
        .id();
    let delivery = eventually("its record", || {
        let done = daemon.cli(&["why", &id, "--json"]);
        (done.code == 0).then(|| done.json().remove(0)["delivery"].clone())
    });
    assert_eq!(delivery["reply"], Value::Null, "a Maildir says nothing");
    let place = delivery["place"].as_str().unwrap();
    assert!(std::path::Path::new(place).is_file(), "{place}");
}

#[test]
fn effects_move_on_with_the_remote_reply() {
    let relay = Hop::smtp();
    relay.at_rcpt("slow@else.example", "450 4.2.0 greylisted");
    let settings = "forwarding:\n  mode: all\n  all: {to: [home@else.example, slow@else.example], keep_copy: true}\nnotify: {to: [mobile@else.example]}\n";
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, settings)
        .start();
    let id = daemon
        .give("a@friend.example", TARO, &mail("a@friend.example", "x"))
        .id();
    let notice = effect(&daemon, &id, "notify", "sent");
    assert!(
        notice["reply"].as_str().unwrap().starts_with("250"),
        "{notice}"
    );
    let waiting = effect(&daemon, &id, "forward", "waiting");
    assert!(
        waiting["reply"].as_str().unwrap().contains("greylisted"),
        "{waiting}"
    );
    assert_eq!(waiting["open"], json!(["slow@else.example"]));
    relay.relent();
    let sent = effect(&daemon, &id, "forward", "sent");
    assert!(sent["reply"].as_str().unwrap().starts_with("250"), "{sent}");
    assert_eq!(
        sent["to"],
        json!(["home@else.example", "slow@else.example"])
    );
    assert_eq!(sent["open"], Value::Null);
}

#[test]
fn each_target_of_a_forward_is_told_for_itself() {
    let relay = Hop::smtp();
    relay.at_rcpt("gone@else.example", "550 5.1.1 no such user");
    relay.at_rcpt("slow@else.example", "450 4.2.0 greylisted");
    let settings = "forwarding:\n  mode: all\n  all: {to: [home@else.example, gone@else.example, slow@else.example], keep_copy: true}\n";
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, settings)
        .start();
    let id = daemon
        .give("a@friend.example", TARO, &mail("a@friend.example", "x"))
        .id();
    let refused = json!([{"to": "gone@else.example", "reply": "550 5.1.1 no such user"}]);
    let waiting = effect(&daemon, &id, "forward", "waiting");
    assert_eq!(waiting["refused"], refused);
    assert_eq!(waiting["open"], json!(["slow@else.example"]));
    let text = daemon
        .cli(&["why", "--language", "en", &id])
        .success()
        .text();
    for line in [
        "forward to home@else.example: sent\n",
        "forward to slow@else.example: put off, will be tried again (slow@else.example: 450 4.2.0 greylisted)\n",
        "forward to gone@else.example: refused (550 5.1.1 no such user)\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    relay.relent();
    let sent = effect(&daemon, &id, "forward", "sent");
    assert_eq!(
        sent["refused"], refused,
        "it is not forgotten when the others are served"
    );
    let text = daemon
        .cli(&["why", "--language", "en", &id])
        .success()
        .text();
    assert!(
        text.contains("home@else.example, slow@else.example: sent (250"),
        "{text}"
    );
    assert!(text.contains("gone@else.example: refused (550"), "{text}");
}

#[test]
fn a_dropped_forward_says_so() {
    let daemon = Site::new()
        .with_relay(closed_port())
        .with(
            "retry: {first: 1s, factor: 1, longest: 1s, give_up: 1h}",
            "retry: {first: 1h, factor: 1, longest: 1h, give_up: 1d}",
        )
        .with_mailbox(
            TARO,
            "forwarding:\n  mode: all\n  all: {to: [home@else.example], keep_copy: true}\n",
        )
        .start();
    let id = daemon
        .give("a@friend.example", TARO, &mail("a@friend.example", "x"))
        .id();
    effect(&daemon, &id, "forward", "waiting");
    let item = daemon.queue().remove(0);
    daemon
        .cli(&["queue", "drop", item["id"].as_str().unwrap()])
        .success();
    effect(&daemon, &id, "forward", "dropped");
}

#[test]
fn a_held_mail_says_that_it_was_released_or_deleted() {
    let hop = Hop::lmtp();
    let daemon = Site::new()
        .with(
            "method: maildir\n  maildir: {path: \"mail/%{domain}/%{localpart}\", fsync: true}",
            &format!(
                "method: lmtp\n  lmtp: {{address: \"127.0.0.1:{}\"}}",
                hop.port
            ),
        )
        .with_mailbox(TARO, RULES)
        .start();
    let give = || {
        daemon
            .give("b@spam.example", TARO, &mail("b@spam.example", "x"))
            .id()
    };
    let (released, deleted, purged) = (give(), give(), give());
    effect(&daemon, &released, "quarantine", "held");
    let kept = daemon
        .give("a@friend.example", TARO, &mail("a@friend.example", "x"))
        .id();
    let delivery = eventually("a delivery is recorded", || {
        let done = daemon.cli(&["why", &kept, "--json"]);
        (done.code == 0).then(|| done.json().remove(0)["delivery"].clone())
    });
    assert_eq!(delivery["place"], format!("lmtp:127.0.0.1:{}", hop.port));
    assert!(
        delivery["reply"].as_str().unwrap().starts_with("250"),
        "{delivery}"
    );
    daemon.cli(&["quarantine", "release", &released]).success();
    let told = effect(&daemon, &released, "quarantine", "released");
    assert!(told["reply"].as_str().unwrap().starts_with("250"), "{told}");
    daemon.cli(&["quarantine", "delete", &deleted]).success();
    effect(&daemon, &deleted, "quarantine", "deleted");
    daemon
        .cli(&["quarantine", "purge", "--sender", "b@spam.example", "--yes"])
        .success();
    effect(&daemon, &purged, "quarantine", "deleted");
}

#[test]
fn an_expired_mail_says_so_and_history_ends_with_its_retention() {
    let mut daemon = Site::new()
        .with("quarantine: {retention: 7d}", "quarantine: {retention: 1s}")
        .with_mailbox(TARO, RULES)
        .start();
    let id = daemon
        .give("b@spam.example", TARO, &mail("b@spam.example", "x"))
        .id();
    effect(&daemon, &id, "quarantine", "expired");
    // It outlives a restart, and goes with the next one's retention.
    daemon.signal(rustix::process::Signal::TERM);
    daemon.await_end();
    daemon.start_again();
    assert_eq!(ids_of(&daemon, &["--mailbox", TARO], 1), [id.clone()]);
    daemon.signal(rustix::process::Signal::TERM);
    daemon.await_end();
    daemon.site.replace(
        "quarantine: {retention: 1s}",
        "quarantine: {retention: 1s}\nhistory: {retention: 1s}",
    );
    daemon.start_again();
    ids_of(&daemon, &[], 0);
    ids_of(&daemon, &["--mailbox", TARO], 0);
    daemon.cli(&["why", &id]).exit(66);
    assert!(http::get(&daemon, "/v1/facts?mailbox=taro").is_empty());
}

#[test]
fn a_long_record_says_what_was_cut() {
    let relay = Hop::smtp();
    let targets: Vec<String> = (0..10)
        .map(|n| format!("{}{n}@{}.example", "t".repeat(60), "d".repeat(60)))
        .collect();
    let settings = format!(
        "forwarding:\n  mode: all\n  all: {{to: [{}], keep_copy: true}}\n",
        targets.join(", ")
    );
    let daemon = Site::new()
        .with_relay(relay.port)
        .with_mailbox(TARO, &settings)
        .start();
    let subject = "長い題名".repeat(400);
    let id = daemon
        .give(
            "a@friend.example",
            TARO,
            &mail("a@friend.example", &subject),
        )
        .id();
    let why = effect(&daemon, &id, "forward", "sent");
    assert_eq!(why["id"].as_str().unwrap().len(), 26, "an id stays whole");
    let why = daemon.one(&["why", &id]);
    assert!(why["subject"].as_str().unwrap().ends_with('…'), "{why}");
    assert_eq!(why["steps"].as_array().unwrap().len(), 9);
    let kept = why["forward"]["to"].as_array().unwrap().len();
    assert!(kept == 10 || why["left_out"]["forward.to"] == 10, "{why}");
}
