//! One table of decisions: every stage, every verdict, every action, with the whole trail.
//!
//! A trail is written as nine letters in stage order: `m`atch, `p`ass, `o`ff, `s`kipped.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;

use sekimori::mail::{Address, Bounds, Message, ReversePath};
use sekimori::policy::{
    Action, AllowSet, Alone, Arrival, AuthReport, AutoReply, Class, ForwardRule, Forwarding,
    HeaderCondition, HeaderRule, Hit, NoReply, Notify, NotifyField, OnError, Origin, Outcome,
    Passed, Pattern, Plan, Policy, Redirect, SCANNER_ERROR, ScanReport, Score, Screening,
    SizeCondition, Spam, SpamScan, Stage, SubstringSet, SuffixSet, Verdict, VirusScan,
};

/// One mail for one mailbox. The defaults make an ordinary mail that every stage lets pass.
struct Case {
    policy: Policy,
    header: &'static str,
    from: &'static str,
    sender: &'static str,
    auth: AuthReport,
    trusted_client: bool,
    looping: bool,
    scan: ScanReport,
}

/// The plan in one line each; what is not named is the implicit keep.
#[derive(Debug, PartialEq)]
struct Expected {
    verdict: Verdict,
    stage: Option<Stage>,
    entry: Option<&'static str>,
    class: Option<Class>,
    mark: Option<&'static str>,
    rule: Option<&'static str>,
    actions: &'static str,
    no_reply: Option<NoReply>,
    trail: &'static str,
}

const KEEP: Expected = Expected {
    verdict: Verdict::Deliver,
    stage: None,
    entry: None,
    class: None,
    mark: None,
    rule: None,
    actions: "notify(m@n.example) reply(a@b.example)",
    no_reply: None,
    trail: "pppppppmm",
};

const HELD: Expected = Expected {
    verdict: Verdict::Quarantine,
    class: Some(Class::UserRule),
    actions: "",
    no_reply: Some(NoReply::Quarantined),
    ..KEEP
};

const BY_FROM: Expected = Expected {
    stage: Some(Stage::RejectFromSuffixes),
    entry: Some("@spam.example"),
    trail: "mssssssss",
    ..HELD
};

const BY_SUBJECT: Expected = Expected {
    stage: Some(Stage::RejectSubjectContains),
    entry: Some("未承諾広告"),
    trail: "pmsssssss",
    ..HELD
};

const BY_HEADERS: Expected = Expected {
    stage: Some(Stage::RejectHeaders),
    trail: "ppmssssss",
    ..HELD
};

#[test]
fn reject() {
    let check = |from: &'static str, header: &'static str, expected: Expected| {
        decide(
            &Case {
                from,
                header,
                ..Case::default()
            },
            &expected,
        );
    };
    check("From: a@b.example", "Subject: hello", KEEP);
    check("From: a@spam.example", "Subject: hello", BY_FROM);
    check(
        "From: \"b@c.example\" <a@SPAM.example>",
        "Subject: hello",
        BY_FROM,
    );
    check(
        "From: a@b.example, c@spam.example",
        "Subject: hello",
        BY_FROM,
    );
    check(
        "From: a@b.example\r\nFrom: c@spam.example",
        "Subject: hello",
        BY_FROM,
    );
    check(
        "From: a@shop.bulk.example",
        "Subject: hello",
        Expected {
            entry: Some(".bulk.example"),
            ..BY_FROM
        },
    );
    check("From: a@spam.example", "Subject: 未承諾広告", BY_FROM);
    check(
        "From: a@b.example",
        "Subject: 未承諾広告※ 特別価格",
        BY_SUBJECT,
    );
    check(
        "From: a@b.example",
        "Subject: =?UTF-8?B?5pyq5om/6Ku+5bqD5ZGK?=",
        BY_SUBJECT,
    );
    check(
        "From: a@b.example",
        "Subject: hello\r\nSubject: 未承諾広告",
        BY_SUBJECT,
    );
    check(
        "From: a@b.example",
        "Subject: ＃１ offer",
        Expected {
            entry: Some("#1 Offer"),
            ..BY_SUBJECT
        },
    );
    check(
        "X-From: none",
        "Subject: hello",
        Expected {
            entry: Some("from_missing"),
            ..BY_HEADERS
        },
    );
    check(
        "From:",
        "Subject: hello",
        Expected {
            entry: Some("from_empty"),
            ..BY_HEADERS
        },
    );
    check(
        "From: <>",
        "Subject: hello",
        Expected {
            entry: Some("from_empty_address"),
            ..BY_HEADERS
        },
    );
    check(
        "From: nobody",
        "Subject: hello",
        Expected {
            entry: Some("from_empty_address"),
            ..BY_HEADERS
        },
    );
    check(
        "From: a@b.example",
        "X-Subject: none",
        Expected {
            entry: Some("subject_missing"),
            ..BY_HEADERS
        },
    );
    check(
        "From: a@b.example",
        "Subject:",
        Expected {
            entry: Some("subject_empty"),
            ..BY_HEADERS
        },
    );
    // Several hold: the first as written in the file.
    check(
        "From:",
        "Subject:",
        Expected {
            entry: Some("subject_empty"),
            ..BY_HEADERS
        },
    );
}

#[test]
fn the_place_of_the_entry_is_told() {
    let origin = |from: &'static str, header: &'static str| {
        let plan = plan(&Case {
            from,
            header,
            ..Case::default()
        });
        plan.hit.unwrap().origin.unwrap().to_string()
    };
    assert_eq!(
        origin("From: a@x.bulk.example", "Subject: hello"),
        "taro.yaml:11"
    );
    assert_eq!(
        origin("From: a@b.example", "Subject: 未承諾広告"),
        "taro.yaml:20"
    );
    assert_eq!(origin("X-From: none", "Subject: hello"), "taro.yaml:31");
}

#[test]
fn every_stage_is_asked_for_itself() {
    let mut policy = full();
    policy.from_suffixes =
        SuffixSet::build(list(&["nobody.example", "example", "@spam.example"], 10));
    policy.forwarding = Forwarding::All(redirect(&["x@y.example"], false));
    let case = Case {
        policy,
        from: "From: partner@spam.example, a@b.example",
        header: "Subject: a #1 offer, 未承諾広告",
        scan: scanned(VirusScan::Infected("X".to_owned()), SpamScan::SPAM),
        ..Case::default()
    };
    let told: Vec<(char, Vec<String>, Verdict, String)> = all_stages(&case)
        .iter()
        .map(|alone| {
            let entry = |hit: &Hit| format!("{} {}", hit.entry, hit.origin.as_ref().unwrap().line);
            let actions: Vec<String> = alone.plan.actions.iter().map(action).collect();
            (
                letter(alone.plan.trail[0].outcome),
                alone.entries.iter().map(entry).collect(),
                alone.plan.verdict,
                actions.join(" "),
            )
        })
        .collect();
    let row = |outcome, entries: &[&str], verdict, actions: &str| {
        let entries = entries.iter().map(|entry| (*entry).to_owned()).collect();
        (outcome, entries, verdict, actions.to_owned())
    };
    let expected = [
        row(
            'm',
            &["example 11", "@spam.example 12"],
            Verdict::Quarantine,
            "",
        ),
        row(
            'm',
            &["未承諾広告 20", "#1 Offer 21"],
            Verdict::Quarantine,
            "",
        ),
        row('p', &[], Verdict::Deliver, ""),
        row('m', &["partner@spam.example 41"], Verdict::Deliver, ""),
        row('m', &[], Verdict::Replace, "report(X)"),
        row('m', &[], Verdict::Quarantine, "quarantine-notice"),
        row('m', &[], Verdict::Forward, "redirect(x@y.example)"),
        row('m', &[], Verdict::Deliver, "notify(m@n.example)"),
        row('m', &[], Verdict::Deliver, "reply(a@b.example)"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_list_names_twenty_entries_at_most() {
    let entries: Vec<String> = (0..30).map(|n| "x".repeat(n + 1)).collect();
    let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
    let mut policy = full();
    policy.subject_contains = SubstringSet::build(list(&entries, 1));
    let case = Case {
        policy,
        header: "Subject: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        ..Case::default()
    };
    let found = &all_stages(&case)[1].entries;
    let lines: Vec<u32> = found
        .iter()
        .map(|hit| hit.origin.as_ref().unwrap().line)
        .collect();
    assert_eq!(lines, (1..=20).collect::<Vec<_>>());
}

#[test]
fn allow() {
    let check = |before_reject: bool, dmarc_pass: bool, from: &'static str, expected: Expected| {
        let mut policy = full();
        policy.allow.before_reject = before_reject;
        let scan = scanned(VirusScan::Clean, SpamScan::SPAM);
        let auth = AuthReport { dmarc_pass };
        decide(
            &Case {
                policy,
                from,
                auth,
                scan,
                ..Case::default()
            },
            &expected,
        );
    };
    let allowed = || Expected {
        trail: "pppmpspmm",
        ..KEEP
    };
    let first = || Expected {
        trail: "sssmpspmm",
        ..KEEP
    };
    let spam = || Expected {
        stage: Some(Stage::Spam),
        entry: Some("spam"),
        class: Some(Class::Spam),
        actions: "quarantine-notice",
        trail: "pppppmsss",
        ..HELD
    };
    check(false, false, "From: partner@example.com", allowed());
    check(false, false, "From: xpartner@example.com", spam());
    check(false, false, "From: x@example.or.jp", allowed());
    check(
        false,
        false,
        "From: x@b.example, x@example.or.jp",
        allowed(),
    );
    check(false, false, "From: bank@example.net", spam());
    check(false, true, "From: bank@example.net", allowed());
    check(false, true, "From: xbank@example.net", spam());
    check(false, false, "From: x@b.example", spam());
    // Reject first, unless the owner turned it round.
    check(false, false, "From: partner@spam.example", BY_FROM);
    check(true, false, "From: partner@spam.example", first());
    check(
        true,
        false,
        "From: a@spam.example, x@example.or.jp",
        first(),
    );
    check(true, false, "From: bank@spam.example", BY_FROM);
    check(true, true, "From: bank@spam.example", first());
    check(true, false, "From: x@spam.example", BY_FROM);
}

#[test]
fn announcements() {
    let check = |wanted: bool, trusted_client: bool, dmarc_pass: bool, expected: Expected| {
        let mut policy = full();
        policy.from_suffixes = SuffixSet::build(list(&["@announce.example.jp"], 10));
        policy.announcements = policy.announcements.filter(|_| wanted);
        let case = Case {
            policy,
            from: "From: news@announce.example.jp",
            auth: AuthReport { dmarc_pass },
            trusted_client,
            scan: scanned(VirusScan::Clean, SpamScan::SPAM),
            ..Case::default()
        };
        decide(&case, &expected);
    };
    let held = || Expected {
        entry: Some("@announce.example.jp"),
        ..BY_FROM
    };
    let passed = || Expected {
        trail: "sssppspmm",
        ..KEEP
    };
    check(true, true, false, passed());
    check(true, false, true, passed());
    check(true, false, false, held());
    check(false, true, true, held());
}

#[test]
fn virus() {
    let check = |on: bool, scan: ScanReport, expected: Expected| {
        let policy = Policy {
            virus: on,
            ..full()
        };
        decide(
            &Case {
                policy,
                scan,
                ..Case::default()
            },
            &expected,
        );
    };
    let infected = |name: &str| VirusScan::Infected(name.to_owned());
    let replaced = || Expected {
        verdict: Verdict::Replace,
        stage: Some(Stage::Virus),
        entry: Some("Eicar"),
        class: Some(Class::Virus),
        actions: "report(Eicar) notify(m@n.example)",
        no_reply: Some(NoReply::Virus),
        trail: "ppppmssms",
        ..KEEP
    };
    check(true, scanned(infected("Eicar"), SpamScan::HAM), replaced());
    check(true, scanned(infected("Eicar"), SpamScan::SPAM), replaced());
    check(
        true,
        scanned(infected(""), SpamScan::HAM),
        Expected {
            entry: Some("infected"),
            actions: "report() notify(m@n.example)",
            ..replaced()
        },
    );
    check(true, scanned(VirusScan::Clean, SpamScan::HAM), KEEP);
    check(
        true,
        scanned(VirusScan::NotScanned, SpamScan::HAM),
        Expected {
            trail: "ppppsppmm",
            ..KEEP
        },
    );
    check(
        false,
        scanned(infected("Eicar"), SpamScan::HAM),
        Expected {
            trail: "ppppoppmm",
            ..KEEP
        },
    );
}

#[test]
fn an_allowed_sender_is_scanned_for_viruses() {
    let case = Case {
        from: "From: partner@example.com",
        scan: scanned(
            VirusScan::Infected("Eicar".to_owned()),
            SpamScan::NotScanned,
        ),
        ..Case::default()
    };
    decide(
        &case,
        &Expected {
            verdict: Verdict::Replace,
            stage: Some(Stage::Virus),
            entry: Some("Eicar"),
            class: Some(Class::Virus),
            actions: "report(Eicar) notify(m@n.example)",
            no_reply: Some(NoReply::Virus),
            trail: "pppmmssms",
            ..KEEP
        },
    );
}

#[test]
fn spam() {
    let check = |spam: Option<(&str, bool, bool)>, scan: SpamScan, expected: Expected| {
        let spam = spam.map(|(mark, quarantine, notice_each)| Spam {
            score: None,
            mark_subject: mark.to_owned(),
            quarantine,
            notice_each,
        });
        let policy = Policy { spam, ..full() };
        let scan = scanned(VirusScan::Clean, scan);
        decide(
            &Case {
                policy,
                scan,
                ..Case::default()
            },
            &expected,
        );
    };
    let held = || Expected {
        stage: Some(Stage::Spam),
        entry: Some("spam"),
        class: Some(Class::Spam),
        trail: "pppppmsss",
        ..HELD
    };
    let marked = || Expected {
        mark: Some("[spam]"),
        actions: "notify(m@n.example)",
        no_reply: Some(NoReply::Spam),
        trail: "pppppmpms",
        ..KEEP
    };
    check(Some(("[spam]", true, false)), SpamScan::SPAM, held());
    check(
        Some(("[spam]", true, true)),
        SpamScan::SPAM,
        Expected {
            actions: "quarantine-notice",
            ..held()
        },
    );
    check(Some(("[spam]", false, true)), SpamScan::SPAM, marked());
    check(
        Some(("", false, true)),
        SpamScan::SPAM,
        Expected {
            mark: None,
            ..marked()
        },
    );
    check(Some(("[spam]", true, true)), SpamScan::HAM, KEEP);
    check(
        Some(("[spam]", true, true)),
        SpamScan::NotScanned,
        Expected {
            trail: "pppppspmm",
            ..KEEP
        },
    );
    check(
        None,
        SpamScan::SPAM,
        Expected {
            trail: "pppppopmm",
            ..KEEP
        },
    );
}

#[test]
fn holds_of_own_rules_are_told_at_once_where_asked_for() {
    // Also without a spam stage.
    for (from, header, stage, entry, trail) in [
        (
            "From: x@spam.example",
            "Subject: hello",
            Stage::RejectFromSuffixes,
            "@spam.example",
            "mssssosss",
        ),
        (
            "From: a@b.example",
            "Subject: 未承諾広告",
            Stage::RejectSubjectContains,
            "未承諾広告",
            "pmsssosss",
        ),
        (
            "From: a@b.example",
            "Subject:",
            Stage::RejectHeaders,
            "subject_empty",
            "ppmssosss",
        ),
    ] {
        for (notice_user_rule, looping, actions) in [
            (true, false, "quarantine-notice"),
            (true, true, ""),
            (false, false, ""),
        ] {
            let policy = Policy {
                notice_user_rule,
                spam: None,
                ..full()
            };
            let case = Case {
                policy,
                from,
                header,
                looping,
                ..Case::default()
            };
            let expected = Expected {
                stage: Some(stage),
                entry: Some(entry),
                actions,
                trail,
                ..HELD
            };
            decide(&case, &expected);
        }
    }
}

#[test]
fn the_mailbox_has_its_own_threshold() {
    let rows = [
        (None, false, Some(99.0), false),
        (None, true, Some(-1.0), true),
        (Some(6.5), false, Some(6.5), true),
        (Some(6.5), true, Some(6.499), false),
        (Some(6.5), true, None, true),
        (Some(6.5), false, None, false),
        (Some(0.0), false, Some(0.0), true),
    ];
    for (threshold, said, score, expected) in rows {
        let mut policy = full();
        if let Some(spam) = &mut policy.spam {
            spam.score = threshold.map(Score::of);
        }
        let score = score.map(Score::of);
        let scan = scanned(VirusScan::Clean, SpamScan::Judged { spam: said, score });
        let plan = plan(&Case {
            policy,
            scan,
            ..Case::default()
        });
        let outcome = plan.trail[5].outcome;
        let found = outcome == Outcome::Match;
        assert_eq!(found, expected, "{threshold:?} {said} {score:?}");
    }
}

#[test]
fn scores_are_shown_in_points() {
    let rows = [
        (7.2, "7.2"),
        (15.0, "15.0"),
        (-0.5, "-0.5"),
        (1.234_56, "1.235"),
        (0.0, "0.0"),
        (f64::NAN, "0.0"),
    ];
    for (points, shown) in rows {
        assert_eq!(Score::of(points).to_string(), shown);
    }
}

#[test]
fn a_scanner_that_failed() {
    let failed = |on_error| Case {
        scan: scanned(VirusScan::Failed(on_error), SpamScan::HAM),
        policy: Policy {
            virus: true,
            ..full()
        },
        ..Case::default()
    };
    let held = Expected {
        stage: Some(Stage::Virus),
        entry: Some(SCANNER_ERROR),
        class: Some(Class::Virus),
        trail: "ppppmssss",
        ..HELD
    };
    decide(&failed(OnError::Quarantine), &held);
    let passed = Expected {
        trail: "ppppsppmm",
        ..KEEP
    };
    decide(&failed(OnError::Deliver), &passed);
    let failed = |on_error| Case {
        scan: scanned(VirusScan::Clean, SpamScan::Failed(on_error)),
        ..Case::default()
    };
    let held = Expected {
        stage: Some(Stage::Spam),
        class: Some(Class::Spam),
        actions: "quarantine-notice",
        trail: "pppppmsss",
        ..held
    };
    decide(&failed(OnError::Quarantine), &held);
    let passed = Expected {
        trail: "pppppspmm",
        ..KEEP
    };
    decide(&failed(OnError::Deliver), &passed);
}

#[test]
fn what_is_put_off() {
    use OnError::{Deliver, Quarantine, Tempfail};
    let virus = || VirusScan::Failed(Tempfail);
    let spam = SpamScan::Failed(Tempfail);
    let infected = || VirusScan::Infected("Eicar".to_owned());
    let rows = [
        (true, true, virus(), SpamScan::HAM, Some(Stage::Virus)),
        (true, true, VirusScan::Clean, spam, Some(Stage::Spam)),
        (true, true, virus(), spam, Some(Stage::Virus)),
        (false, true, virus(), SpamScan::HAM, None),
        (false, true, virus(), spam, Some(Stage::Spam)),
        (true, false, VirusScan::Clean, spam, None),
        (true, true, infected(), spam, None),
        (true, true, VirusScan::Failed(Quarantine), spam, None),
        (
            true,
            true,
            VirusScan::Failed(Deliver),
            spam,
            Some(Stage::Spam),
        ),
        (
            true,
            true,
            VirusScan::Failed(Deliver),
            SpamScan::Failed(Deliver),
            None,
        ),
    ];
    for (wants_virus, wants_spam, virus, spam, expected) in rows {
        let passed = Passed {
            trail: Vec::new(),
            skip_spam: !wants_spam,
            wants_virus,
            wants_spam,
        };
        let scan = scanned(virus, spam);
        assert_eq!(
            passed.put_off(&scan),
            expected,
            "{wants_virus} {wants_spam} {scan:?}"
        );
    }
}

/// RELIABILITY D19: a mail that crashed us is delivered unread, but not infected.
#[test]
fn an_unread_mail_is_held_when_it_is_infected() {
    let policy = |virus| Policy { virus, ..full() };
    let infected = scanned(
        VirusScan::Infected("Eicar".to_owned()),
        SpamScan::NotScanned,
    );
    let plan = policy(true).decide_unread(&infected);
    assert_eq!(plan.verdict, Verdict::Quarantine);
    assert_eq!(plan.class, Some(Class::Virus));
    assert_eq!(plan.trail.len(), 9);
    assert!(plan.actions.is_empty());
    assert!(policy(true).unread().wants_virus);
    assert_eq!(
        policy(false).decide_unread(&infected).verdict,
        Verdict::Deliver
    );
    let clean = scanned(VirusScan::Clean, SpamScan::NotScanned);
    let plan = policy(true).decide_unread(&clean);
    assert_eq!(plan.verdict, Verdict::Deliver);
    assert_eq!(plan.trail[4].outcome, Outcome::Pass);
}

#[test]
fn forwarding() {
    let check = |forwarding: Forwarding, header: &'static str, expected: Expected| {
        let policy = Policy {
            forwarding,
            ..full()
        };
        decide(
            &Case {
                policy,
                header,
                ..Case::default()
            },
            &expected,
        );
    };
    let all = |to: &[&str], keep_copy| Forwarding::All(redirect(to, keep_copy));
    let kept = || Expected {
        rule: Some("forwarding.all"),
        actions: "redirect(x@y.example keep) notify(m@n.example) reply(a@b.example)",
        trail: "ppppppmmm",
        ..KEEP
    };
    let gone = || Expected {
        verdict: Verdict::Forward,
        actions: "redirect(x@y.example) notify(m@n.example) reply(a@b.example)",
        ..kept()
    };
    let looped = || Expected {
        trail: "ppppppsmm",
        ..KEEP
    };
    let hello = "Subject: hello";
    check(
        Forwarding::Off,
        hello,
        Expected {
            trail: "ppppppomm",
            ..KEEP
        },
    );
    check(all(&["x@y.example"], true), hello, kept());
    check(all(&["x@y.example"], false), hello, gone());
    // The owner's own addresses are no targets; the copy stays.
    check(all(&["taro@east.example.jp"], false), hello, looped());
    check(all(&["Alias@East.Example.JP"], false), hello, looped());
    check(
        all(&["x@y.example", "alias@east.example.jp"], false),
        hello,
        kept(),
    );
}

#[test]
fn forwarding_rules() {
    let check = |rules: Vec<ForwardRule>, header: &'static str, expected: Option<(&str, &str)>| {
        let policy = Policy {
            forwarding: Forwarding::Rules(rules),
            ..full()
        };
        let plan = plan(&Case {
            policy,
            header,
            ..Case::default()
        });
        let entry = plan.trail[6].hit.as_ref().map(|hit| hit.entry.as_str());
        assert_eq!(
            plan.forward_rule.as_deref().zip(entry),
            expected,
            "{header}"
        );
    };
    let subject = |words: &[&str]| ForwardRule {
        subject_contains: Some(SubstringSet::build(list(words, 50))),
        ..rule()
    };
    let from = |ends: &[&str]| ForwardRule {
        from_suffixes: Some(SuffixSet::build(list(ends, 60))),
        ..rule()
    };
    let size = |size| ForwardRule {
        size: Some(size),
        ..rule()
    };
    let attachment = |wanted| ForwardRule {
        attachment: Some(wanted),
        ..rule()
    };
    let (invoice, plain) = ("Subject: Invoice 1", "Subject: hello");
    let first = |entry| Some(("forwarding.rules[0]", entry));
    let second = |entry| Some(("forwarding.rules[1]", entry));

    check(vec![], plain, None);
    check(vec![rule()], plain, None);
    check(
        vec![ForwardRule {
            any: true,
            ..rule()
        }],
        plain,
        None,
    );
    check(
        vec![subject(&["請求書", "invoice"])],
        invoice,
        first("invoice"),
    );
    check(vec![subject(&["請求書", "invoice"])], plain, None);
    check(
        vec![subject(&["x"]), from(&["@b.example"])],
        plain,
        second("@b.example"),
    );
    check(
        vec![from(&["@b.example"]), subject(&["invoice"])],
        invoice,
        first("@b.example"),
    );
    let paused = ForwardRule {
        paused: true,
        ..from(&["@b.example"])
    };
    check(vec![paused, subject(&["hell"])], plain, second("hell"));
    // All conditions, or one.
    let both = |any| ForwardRule {
        any,
        from_suffixes: from(&["@c.example"]).from_suffixes,
        ..subject(&["invoice"])
    };
    check(vec![both(false)], invoice, None);
    check(vec![both(true)], invoice, first("invoice"));
    check(vec![both(true)], plain, None);
    // Conditions without a list: the rule itself is named.
    let name = first("forwarding.rules[0]");
    check(vec![attachment(false)], plain, name);
    check(vec![attachment(true)], plain, None);
    check(vec![size(SizeCondition::AtLeast(1))], plain, name);
    check(vec![size(SizeCondition::AtLeast(1 << 20))], plain, None);
    check(vec![size(SizeCondition::AtMost(1 << 20))], plain, name);
    check(vec![size(SizeCondition::AtMost(1))], plain, None);
    let attached = "Subject: hello\r\nMIME-Version: 1.0\r\nContent-Type: application/pdf\r\n\
                    Content-Disposition: attachment; filename=a.pdf";
    check(vec![attachment(true)], attached, name);
    check(vec![attachment(false)], attached, None);
    let exact = raw(&Case {
        header: plain,
        ..Case::default()
    })
    .len() as u64;
    check(vec![size(SizeCondition::AtLeast(exact))], plain, name);
    check(vec![size(SizeCondition::AtLeast(exact + 1))], plain, None);
    check(vec![size(SizeCondition::AtMost(exact))], plain, name);
    check(vec![size(SizeCondition::AtMost(exact - 1))], plain, None);
    let large = ForwardRule {
        size: Some(SizeCondition::AtLeast(1 << 20)),
        ..subject(&["invoice"])
    };
    check(vec![large.clone()], invoice, None);
    check(
        vec![ForwardRule { any: true, ..large }],
        invoice,
        first("invoice"),
    );
}

#[test]
fn loops_end() {
    let all = || Policy {
        forwarding: Forwarding::All(redirect(&["x@y.example"], false)),
        ..full()
    };
    let kept = Expected {
        actions: "",
        no_reply: Some(NoReply::Loop),
        trail: "ppppppssp",
        ..KEEP
    };
    decide(
        &Case {
            policy: all(),
            looping: true,
            ..Case::default()
        },
        &kept,
    );
    let header = format!(
        "Subject: hello{}",
        "\r\nReceived: by x.example; now".repeat(101)
    );
    decide(
        &Case {
            policy: all(),
            header: header.leak(),
            ..Case::default()
        },
        &kept,
    );
}

#[test]
fn notices_and_replies() {
    let check = |policy: Policy, sender: &'static str, header: &'static str, expected: Expected| {
        decide(
            &Case {
                policy,
                sender,
                header,
                ..Case::default()
            },
            &expected,
        );
    };
    let hello = "Subject: hello";
    check(
        full(),
        "",
        hello,
        Expected {
            actions: "notify(m@n.example)",
            no_reply: Some(NoReply::NullSender),
            trail: "pppppppmp",
            ..KEEP
        },
    );
    // Mail of a robot: no notice (RFC 5436), no reply.
    check(
        full(),
        "a@b.example",
        "Subject: hello\r\nAuto-Submitted: auto-notified",
        Expected {
            actions: "",
            no_reply: Some(NoReply::AutoSubmitted),
            trail: "pppppppsp",
            ..KEEP
        },
    );
    check(
        Policy {
            notify: None,
            ..full()
        },
        "a@b.example",
        hello,
        Expected {
            actions: "reply(a@b.example)",
            trail: "pppppppom",
            ..KEEP
        },
    );
    check(
        Policy {
            auto_reply: None,
            ..full()
        },
        "a@b.example",
        hello,
        Expected {
            actions: "notify(m@n.example)",
            no_reply: Some(NoReply::Off),
            trail: "pppppppmo",
            ..KEEP
        },
    );
}

#[test]
fn a_mailbox_with_everything_off_keeps_every_mail() {
    let scan = scanned(VirusScan::Infected("Eicar".to_owned()), SpamScan::SPAM);
    let policy = Policy::new(address("taro@east.example.jp"));
    for from in ["From: a@spam.example", "From: <>", "X-From: none"] {
        let case = Case {
            policy: policy.clone(),
            from,
            scan: scan.clone(),
            ..Case::default()
        };
        decide(
            &case,
            &Expected {
                actions: "",
                no_reply: Some(NoReply::Off),
                trail: "ooooooooo",
                ..KEEP
            },
        );
    }
}

#[test]
fn scans_are_wanted_only_where_they_count() {
    let check = |policy: Policy, from: &'static str, expected: Option<(bool, bool)>| {
        let case = Case {
            policy,
            from,
            ..Case::default()
        };
        let wanted = match screen(&case) {
            Screening::Passed(passed) => Some((passed.wants_virus, passed.wants_spam)),
            Screening::Settled(_) => None,
        };
        assert_eq!(wanted, expected, "{from}");
    };
    check(full(), "From: a@b.example", Some((true, true)));
    check(full(), "From: partner@example.com", Some((true, false)));
    check(full(), "From: a@spam.example", None);
    check(
        Policy {
            virus: false,
            ..full()
        },
        "From: a@b.example",
        Some((false, true)),
    );
    check(
        Policy {
            spam: None,
            ..full()
        },
        "From: a@b.example",
        Some((true, false)),
    );
}

impl Default for Case {
    fn default() -> Self {
        Self {
            policy: full(),
            header: "Subject: hello",
            from: "From: a@b.example",
            sender: "a@b.example",
            auth: AuthReport::default(),
            trusted_client: false,
            looping: false,
            scan: scanned(VirusScan::Clean, SpamScan::HAM),
        }
    }
}

/// A mailbox with every stage on.
fn full() -> Policy {
    let mut policy = Policy::new(address("taro@east.example.jp"));
    policy.aliases = vec![address("alias@east.example.jp")];
    policy.announcements = Some(Arc::new(AllowSet::build(list(
        &["@announce.example.jp"],
        1,
    ))));
    policy.from_suffixes = SuffixSet::build(list(&["@spam.example", ".bulk.example"], 10));
    policy.subject_contains = SubstringSet::build(list(&["未承諾広告", "#1 Offer"], 20));
    policy.headers = [
        HeaderCondition::SubjectEmpty,
        HeaderCondition::FromMissing,
        HeaderCondition::FromEmpty,
        HeaderCondition::FromEmptyAddress,
        HeaderCondition::SubjectMissing,
    ]
    .into_iter()
    .zip(30..)
    .map(|(condition, line)| HeaderRule {
        condition,
        origin: origin(line),
    })
    .collect();
    policy.allow.senders = AllowSet::build(list(
        &[
            "partner@example.com",
            "partner@spam.example",
            "@example.or.jp",
        ],
        40,
    ));
    policy.allow.verified_senders =
        AllowSet::build(list(&["bank@example.net", "bank@spam.example"], 45));
    policy.virus = true;
    policy.spam = Some(Spam {
        score: None,
        mark_subject: "[spam]".to_owned(),
        quarantine: true,
        notice_each: true,
    });
    policy.forwarding = Forwarding::Rules(vec![]);
    policy.notify = Some(Notify {
        to: vec![address("m@n.example")],
        fields: vec![NotifyField::From, NotifyField::Subject],
    });
    policy.auto_reply = Some(AutoReply {
        start: None,
        end: None,
        subject: "Re: %{subject}".to_owned(),
        message: "away".to_owned(),
        per_sender: vec![],
        interval: 86_400,
    });
    policy
}

fn rule() -> ForwardRule {
    ForwardRule {
        paused: false,
        any: false,
        subject_contains: None,
        from_suffixes: None,
        attachment: None,
        size: None,
        redirect: redirect(&["x@y.example"], true),
        origin: origin(48),
    }
}

fn redirect(to: &[&str], keep_copy: bool) -> Redirect {
    let to = to.iter().map(|target| address(target)).collect();
    Redirect { to, keep_copy }
}

fn scanned(virus: VirusScan, spam: SpamScan) -> ScanReport {
    ScanReport { virus, spam }
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn origin(line: u32) -> Origin {
    Origin {
        file: Arc::from("taro.yaml"),
        line,
    }
}

fn list(texts: &[&str], first_line: u32) -> Vec<Pattern> {
    let numbered = texts.iter().zip(first_line..);
    numbered
        .map(|(text, line)| Pattern {
            text: (*text).to_owned(),
            origin: origin(line),
        })
        .collect()
}

fn raw(case: &Case) -> String {
    format!(
        "{}\r\n{}\r\nTo: taro@east.example.jp\r\n\r\nhello\r\n",
        case.header, case.from
    )
}

fn with_arrival<T>(case: &Case, then: impl FnOnce(&Message, &Arrival<'_>) -> T) -> T {
    let sender = match case.sender {
        "" => ReversePath::Null,
        text => ReversePath::Address(address(text)),
    };
    let arrival = Arrival {
        now: 1_800_000_000,
        sender: &sender,
        recipient: &case.policy.mailbox,
        trusted_client: case.trusted_client,
        auth: &case.auth,
        looping: case.looping,
    };
    then(
        &Message::parse(raw(case).as_bytes(), &Bounds::default()),
        &arrival,
    )
}

fn screen(case: &Case) -> Screening {
    with_arrival(case, |message, arrival| {
        case.policy.screen(message, arrival)
    })
}

fn plan(case: &Case) -> Plan {
    match screen(case) {
        Screening::Settled(plan) => *plan,
        Screening::Passed(passed) => with_arrival(case, |message, arrival| {
            case.policy.decide(message, arrival, passed, &case.scan)
        }),
    }
}

fn decide(case: &Case, expected: &Expected) {
    let plan = plan(case);
    let (from, header) = (case.from, case.header);
    let actions: Vec<String> = plan.actions.iter().map(action).collect();
    let stages: Vec<Stage> = plan.trail.iter().map(|step| step.stage).collect();
    assert_eq!(stages, Stage::ALL, "{from} {header}");
    let trail: String = plan.trail.iter().map(|step| letter(step.outcome)).collect();
    let told = (
        plan.verdict,
        plan.stage,
        plan.hit.as_ref().map(|hit| hit.entry.as_str()),
        plan.class,
        plan.mark.as_deref(),
        plan.forward_rule.as_deref(),
        actions.join(" "),
        plan.no_reply,
        trail.as_str(),
    );
    let wanted = (
        expected.verdict,
        expected.stage,
        expected.entry,
        expected.class,
        expected.mark,
        expected.rule,
        expected.actions.to_owned(),
        expected.no_reply,
        expected.trail,
    );
    assert_eq!(told, wanted, "{from} {header}");
    if let Some(stage) = plan.stage {
        let step = plan.trail.iter().find(|step| step.stage == stage).unwrap();
        assert_eq!(step.hit, plan.hit, "{from} {header}");
    }
    agrees_with_every_stage_alone(case, &plan);
}

/// A stage that the walk asked says the same when it is asked for itself, and the entry that it
/// names is the first of those that match.
fn agrees_with_every_stage_alone(case: &Case, plan: &Plan) {
    let (from, header) = (case.from, case.header);
    let alone = all_stages(case);
    assert_eq!(alone.len(), Stage::ALL.len());
    for (step, alone) in plan.trail.iter().zip(&alone) {
        let own = &alone.plan.trail[0];
        assert_eq!(alone.plan.trail.len(), 1, "{from} {header}");
        assert_eq!((step.stage, own.stage), (alone.stage, alone.stage));
        match step.outcome {
            Outcome::Match | Outcome::Pass => assert_eq!(step, own, "{from} {header}"),
            Outcome::Off => assert_eq!(own.outcome, Outcome::Off, "{from} {header}"),
            Outcome::Skipped => {}
        }
        let listed = alone.stage <= Stage::Allow;
        let first = own.hit.as_ref().filter(|_| listed);
        assert_eq!(alone.entries.first(), first, "{from} {header}");
    }
}

fn all_stages(case: &Case) -> Vec<Alone> {
    with_arrival(case, |message, arrival| {
        case.policy.all_stages(message, arrival, &case.scan)
    })
}

fn letter(outcome: Outcome) -> char {
    match outcome {
        Outcome::Match => 'm',
        Outcome::Pass => 'p',
        Outcome::Off => 'o',
        Outcome::Skipped => 's',
    }
}

fn action(action: &Action) -> String {
    let join = |to: &[Address]| {
        let texts: Vec<String> = to.iter().map(Address::to_string).collect();
        texts.join(",")
    };
    match action {
        Action::Redirect { to, keep_copy } => {
            format!(
                "redirect({}{})",
                join(to),
                if *keep_copy { " keep" } else { "" }
            )
        }
        Action::Notify { to, .. } => format!("notify({})", join(to)),
        Action::AutoReply { to, .. } => format!("reply({to})"),
        Action::ReportVirus { name } => format!("report({name})"),
        Action::QuarantineNotice => "quarantine-notice".to_owned(),
    }
}
