//! What only all mailbox files together show.

use crate::site::{Site, table};

/// Mailboxes `NAME: forwarding` a line, all at east.example.jp, and what is found.
fn mailboxes(daemon: &str, text: &str) -> Vec<String> {
    let site = Site::new(&[("sekimori.yaml", daemon)]);
    for line in text.lines() {
        let (name, settings) = line.split_once(": ").unwrap();
        let settings = settings.replace("->", "forwarding: {mode: all, all: {to: ");
        let end = if settings.contains("mode: all, ") {
            "}}"
        } else {
            ""
        };
        let text = format!("version: 1\n{}{end}\n", settings.replace("; ", "\n"));
        site.write(&format!("mailboxes/east.example.jp/{name}.yaml"), &text);
    }
    site.places(&[])
}

const EAST: &str = "version: 1\nmailboxes: {domains: [east.example.jp]}\n";
const STRICT: &str = "version: 1\nmailboxes: {domains: [east.example.jp], unknown: reject}\n";

#[test]
fn forwards_in_a_circle() {
    table(
        &[
            ("a: ->[b@east.example.jp]\nb: language: ja", &[]),
            ("a: ->[b@east.example.jp]\nb: ->[c@west.example.jp]", &[]),
            (
                "a: ->[b@east.example.jp]\nb: ->[a@east.example.jp]",
                &["a.yaml:2:36 forward-circle"],
            ),
            (
                "a: ->[x@y.example, B@East.example.jp]\nb: ->[c@east.example.jp]\nc: ->[a@east.example.jp]",
                &["a.yaml:2:49 forward-circle"],
            ),
            // Two circles with a mailbox in common; a chain that leads into one is none.
            (
                "a: ->[b@east.example.jp, c@east.example.jp]\nb: ->[a@east.example.jp]\nc: ->[a@east.example.jp]\nd: ->[a@east.example.jp]",
                &["a.yaml:2:36 forward-circle", "a.yaml:2:55 forward-circle"],
            ),
            // By an alias, and by an address extension.
            (
                "a: ->[bee@east.example.jp]\nb: aliases: [bee@east.example.jp]; ->[a@east.example.jp]",
                &["a.yaml:2:36 forward-circle"],
            ),
            (
                "a: ->[b+x@east.example.jp]\nb: ->[a@east.example.jp]",
                &["a.yaml:2:36 forward-circle"],
            ),
            (
                "a: ->[a+x@east.example.jp]",
                &["a.yaml:2:36 forward-circle"],
            ),
            // Said once, by the file.
            ("a: ->[a@east.example.jp]", &["a.yaml:2:36 own-address"]),
        ],
        |text| mailboxes(EAST, text),
    );
}

#[test]
fn rules_make_a_circle_when_one_mail_passes_all() {
    let rules = |a: &str, b: &str| {
        let one = |name: &str, rule: &str, to: &str| {
            format!(
                "{name}: forwarding: {{mode: rules, rules: [{{{rule}, to: [{to}@east.example.jp]}}]}}\n"
            )
        };
        one("a", a, "b") + &one("b", b, "a")
    };
    let count = |a: &str, b: &str| mailboxes(EAST, &rules(a, b)).len();
    for (a, b, circles) in [
        ("attachment: true", "subject_contains: [invoice]", 1),
        ("attachment: true", "attachment: true", 1),
        ("attachment: true", "attachment: false", 0),
        ("size: {at_least: 2MiB}", "size: {at_most: 1MiB}", 0),
        ("size: {at_least: 1MiB}", "size: {at_most: 2MiB}", 1),
        ("paused: true, attachment: true", "attachment: true", 0),
        (
            "match: any, attachment: true, size: {at_least: 1MiB}",
            "attachment: false",
            1,
        ),
    ] {
        assert_eq!(count(a, b), circles, "{a} / {b}");
    }
}

/// A rule behind another meets what that one left.
#[test]
fn rules_make_no_circle_of_mail_that_an_earlier_rule_takes() {
    let mailboxes = |first: &str, second: &str| {
        format!(
            "a: forwarding: {{mode: rules, rules: [{{{first}, to: [x@y.example]}}, {{{second}, to: [b@east.example.jp]}}]}}\n\
             b: forwarding: {{mode: rules, rules: [{{attachment: true, to: [a@east.example.jp]}}]}}"
        )
    };
    for (first, second, circles) in [
        ("attachment: true", "subject_contains: [x y]", 0),
        ("attachment: false", "subject_contains: [x y]", 1),
        (
            "paused: true, attachment: true",
            "subject_contains: [x y]",
            1,
        ),
        (
            "attachment: true, subject_contains: [z z]",
            "subject_contains: [x y]",
            1,
        ),
        (
            "match: any, attachment: true, subject_contains: [z z]",
            "subject_contains: [x y]",
            0,
        ),
        ("size: {at_least: 0B}", "subject_contains: [x y]", 0),
        ("size: {at_least: 2MiB}", "size: {at_least: 1MiB}", 1),
        (
            "match: any, size: {at_most: 2MiB}, subject_contains: [z z]",
            "match: any, size: {at_least: 3MiB}, attachment: true",
            1,
        ),
        (
            "size: {at_most: 2MiB}",
            "attachment: true, size: {at_most: 1MiB}",
            0,
        ),
    ] {
        let found = self::mailboxes(EAST, &mailboxes(first, second));
        let told = found
            .iter()
            .filter(|place| place.contains("forward-circle"))
            .count();
        assert_eq!(told, circles, "{first} / {second}: {found:?}");
    }
}

#[test]
fn a_mailbox_without_a_file_has_the_defaults() {
    let defaults = "version: 1\nmailboxes:\n  domains: [east.example.jp]\n  defaults: {forwarding: {mode: all, all: {to: [a@east.example.jp]}}}\n";
    let found = mailboxes(defaults, "a: ->[b@east.example.jp]");
    assert_eq!(found, ["a.yaml:2:36 forward-circle"]);
    let found = mailboxes(defaults, "a: forwarding: {mode: off}");
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn addresses_that_nobody_has() {
    table(
        &[
            ("a: ->[b@east.example.jp]", &["a.yaml:2:36 unknown-address"]),
            ("a: ->[b@west.example.jp]", &[]),
            ("a: ->[b+x@east.example.jp]\nb: language: ja", &[]),
            (
                "a: ->[bee@east.example.jp]\nb: aliases: [bee@east.example.jp]",
                &[],
            ),
            (
                "a: notify: {to: [b@east.example.jp]}",
                &["a.yaml:2:15 unknown-address"],
            ),
        ],
        |text| mailboxes(STRICT, text),
    );
    let found = mailboxes(EAST, "a: ->[b@east.example.jp]");
    assert!(
        found.is_empty(),
        "an unknown mailbox has the defaults: {found:?}"
    );
}

#[test]
fn a_long_way_round_is_one_circle() {
    let ring: String = (0..300)
        .map(|n| format!("m{n:03}: ->[m{:03}@east.example.jp]\n", (n + 1) % 300))
        .collect();
    assert_eq!(mailboxes(EAST, &ring), ["m000.yaml:2:36 forward-circle"]);
}
