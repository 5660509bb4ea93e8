//! Deciding on stored facts gives what deciding on the mail itself gave: real mails, generated
//! settings, through the form in which facts are stored.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sekimori::mail::{Address, Bounds, FromField, Message, ReversePath, SubjectField};
use sekimori::policy::{
    Allow, AllowSet, Arrival, AuthReport, Facts, ForwardRule, Forwarding, HeaderCondition,
    HeaderRule, Origin, Pattern, Plan, Policy, Redirect, ScanReport, Score, Screening,
    SizeCondition, Spam, SpamScan, SubstringSet, SuffixSet, VirusScan,
};
use sekimori::store::{FactsRecord, Id};
use sekimori::view;

const NOW: i64 = 1_700_000_000_000;
const POLICIES: u64 = 60;

#[test]
fn facts_decide_as_the_mail_does() {
    let mails = mails();
    assert!(mails.len() >= 200, "only {} mails", mails.len());
    let words = Words::of(&mails);
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 1..=POLICIES {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let policy = words.policy(&mut dice);
        for (path, message) in &mails {
            let scan = scan(&mut dice);
            let sender = ReversePath::Address(words.address(&mut dice));
            let recipient = match dice.one_in(3) {
                true => address("taro+news@east.example.jp"),
                false => policy.mailbox.clone(),
            };
            let arrival = Arrival {
                now: NOW / 1000,
                sender: &sender,
                recipient: &recipient,
                trusted_client: dice.one_in(2),
                auth: &AuthReport {
                    dmarc_pass: dice.one_in(2),
                },
                looping: dice.one_in(8),
            };
            let (plan, wants) = decide(&policy, message, &arrival, &scan);
            let facts = Facts::of(message, &arrival, &scan);
            let stored = view::facts_record(Id::new(NOW), &facts, &policy.mailbox, &plan);
            let json = serde_json::to_string(&stored).unwrap();
            let stored: FactsRecord = serde_json::from_str(&json).unwrap();
            let facts = view::facts(&stored, &policy.mailbox).unwrap();
            let again = facts.decide(&policy);
            let shown = |plan: &Plan| {
                (
                    plan.verdict,
                    plan.stage,
                    plan.hit.clone(),
                    plan.mark.clone(),
                    plan.forward_rule.clone(),
                    view::targets(plan),
                    plan.trail[..7].to_vec(),
                )
            };
            assert_eq!(
                shown(&again.plan),
                shown(&plan),
                "seed {seed}, {path}: {json}"
            );
            assert_eq!(again.certain, !wants, "seed {seed}, {path}");
            assert_eq!(stored.forward, view::targets(&plan));
            *seen.entry(plan.verdict.as_str()).or_default() += 1;
            for step in plan.trail.iter().filter(|step| step.hit.is_some()) {
                *seen.entry(step.stage.as_str()).or_default() += 1;
            }
            *seen.entry("not certain").or_default() += u32::from(!again.certain);
        }
    }
    for kind in [
        "deliver",
        "forward",
        "quarantine",
        "replace",
        "reject.from_suffixes",
        "reject.subject_contains",
        "reject.headers",
        "allow",
        "virus",
        "spam",
        "forwarding",
        "not certain",
    ] {
        let count = seen.get(kind).copied().unwrap_or(0);
        assert!(count >= 20, "{kind} came {count} times only: {seen:?}");
    }
}

#[test]
fn the_facts_of_a_mail_with_many_recipients_are_no_copies_of_it() {
    let message = Message::parse(b"Subject: x\r\n\r\n", &Bounds::default());
    let recipient = address("taro@east.example.jp");
    let arrival = Arrival {
        now: NOW / 1000,
        sender: &ReversePath::Null,
        recipient: &recipient,
        trusted_client: true,
        auth: &AuthReport::default(),
        looping: false,
    };
    let facts = Facts::of(&message, &arrival, &ScanReport::default());
    assert!(matches!(facts.message, Cow::Borrowed(_)));
}

/// The decision on the mail itself, and whether a scanner is wanted that did not look.
fn decide(
    policy: &Policy,
    message: &Message,
    arrival: &Arrival<'_>,
    scan: &ScanReport,
) -> (Plan, bool) {
    match policy.screen(message, arrival) {
        Screening::Settled(plan) => (*plan, false),
        Screening::Passed(passed) => {
            let wants = passed.wants_virus && scan.virus == VirusScan::NotScanned
                || passed.wants_spam && scan.spam == SpamScan::NotScanned;
            (policy.decide(message, arrival, passed, scan), wants)
        }
    }
}

fn mails() -> Vec<(String, Message)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let oracle = fs::read_to_string(folder.join("oracle.jsonl")).unwrap();
    let paths = oracle.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["path"].as_str().unwrap().to_owned()
    });
    let read = |path: &Path| fs::read(folder.join(path)).unwrap();
    let mails = paths.map(|path| {
        let message = Message::parse(&read(Path::new(&path)), &Bounds::default());
        (path, message)
    });
    mails.collect()
}

fn scan(dice: &mut Dice) -> ScanReport {
    ScanReport {
        virus: match dice.below(6) {
            0 => VirusScan::NotScanned,
            1 => VirusScan::Infected(String::new()),
            2 => VirusScan::Infected("Eicar".to_owned()),
            _ => VirusScan::Clean,
        },
        spam: match dice.below(5) {
            0 => SpamScan::NotScanned,
            1 => SpamScan::SPAM,
            2 => SpamScan::Judged {
                spam: dice.one_in(2),
                score: Some(Score(i64::try_from(dice.below(9000)).unwrap() - 1000)),
            },
            _ => SpamScan::HAM,
        },
    }
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// What the mails themselves say: entries that match something.
struct Words {
    from: Vec<String>,
    subjects: Vec<String>,
}

impl Words {
    fn of(mails: &[(String, Message)]) -> Self {
        let mut words = Self {
            from: Vec::new(),
            subjects: Vec::new(),
        };
        for (_, message) in mails {
            if let FromField::Addresses(found) = &message.from {
                words
                    .from
                    .extend(found.iter().map(|found| found.text.clone()));
            }
            if let SubjectField::Text(found) = &message.subject {
                words
                    .subjects
                    .extend(found.iter().map(|found| found.decoded.clone()));
            }
        }
        words
    }

    fn address(&self, dice: &mut Dice) -> Address {
        let text = dice.pick(&self.from);
        Address::parse(text).unwrap_or_else(|_| address("a@b.example"))
    }

    /// Some endings of addresses, whole ones among them.
    fn endings(&self, dice: &mut Dice) -> Vec<Pattern> {
        let count = dice.below(4);
        let some = (0..count).map(|_| {
            let text: Vec<char> = dice.pick(&self.from).chars().collect();
            let from = dice.below(text.len().max(1));
            text.get(from..).unwrap_or_default().iter().collect()
        });
        patterns(some.collect())
    }

    /// Some pieces of Subjects.
    fn pieces(&self, dice: &mut Dice) -> Vec<Pattern> {
        let count = dice.below(4);
        let some = (0..count).map(|_| {
            let text: Vec<char> = dice.pick(&self.subjects).chars().collect();
            let from = dice.below(text.len().max(1));
            let rest = text.get(from..).unwrap_or_default();
            rest.iter().take(2 + dice.below(6)).collect()
        });
        patterns(some.collect())
    }

    fn policy(&self, dice: &mut Dice) -> Policy {
        let mut policy = Policy::new(address("taro@east.example.jp"));
        policy.aliases = vec![self.address(dice)];
        policy.announcements = dice
            .one_in(4)
            .then(|| Arc::new(AllowSet::build(self.endings(dice))));
        if dice.one_in(2) {
            policy.from_suffixes = SuffixSet::build(self.endings(dice));
        }
        if dice.one_in(2) {
            policy.subject_contains = SubstringSet::build(self.pieces(dice));
        }
        let conditions = [
            HeaderCondition::FromMissing,
            HeaderCondition::FromEmpty,
            HeaderCondition::FromEmptyAddress,
            HeaderCondition::SubjectMissing,
            HeaderCondition::SubjectEmpty,
        ];
        let rule = |condition| HeaderRule {
            condition,
            origin: origin(1),
        };
        policy.headers = conditions
            .into_iter()
            .filter(|_| dice.one_in(3))
            .map(rule)
            .collect();
        policy.allow = Allow {
            before_reject: dice.one_in(2),
            senders: AllowSet::build(self.endings(dice)),
            verified_senders: AllowSet::build(self.endings(dice)),
        };
        policy.virus = dice.one_in(2);
        policy.spam = dice.one_in(2).then(|| Spam {
            score: dice.one_in(2).then_some(Score(6500)),
            mark_subject: "[SPAM]".to_owned(),
            quarantine: dice.one_in(2),
            notice_each: dice.one_in(2),
        });
        policy.forwarding = match dice.below(4) {
            0 => Forwarding::Off,
            1 => Forwarding::All(self.redirect(dice)),
            _ => Forwarding::Rules((0..3).map(|line| self.rule(dice, line)).collect()),
        };
        policy
    }

    fn rule(&self, dice: &mut Dice, line: u32) -> ForwardRule {
        ForwardRule {
            paused: dice.one_in(6),
            any: dice.one_in(2),
            subject_contains: dice
                .one_in(2)
                .then(|| SubstringSet::build(self.pieces(dice))),
            from_suffixes: dice.one_in(2).then(|| SuffixSet::build(self.endings(dice))),
            attachment: dice.one_in(3).then(|| dice.one_in(2)),
            size: dice.one_in(3).then(|| match dice.one_in(2) {
                true => SizeCondition::AtLeast(2000),
                false => SizeCondition::AtMost(2000),
            }),
            redirect: self.redirect(dice),
            origin: origin(line + 1),
        }
    }

    fn redirect(&self, dice: &mut Dice) -> Redirect {
        let count = 1 + dice.below(3);
        Redirect {
            to: (0..count)
                .map(|_| match dice.one_in(4) {
                    true => address("taro+news@east.example.jp"),
                    false => self.address(dice),
                })
                .collect(),
            keep_copy: dice.one_in(2),
        }
    }
}

fn patterns(texts: Vec<String>) -> Vec<Pattern> {
    let numbered = texts.into_iter().zip(1..);
    numbered
        .map(|(text, line)| Pattern {
            text,
            origin: origin(line),
        })
        .collect()
}

fn origin(line: u32) -> Origin {
    Origin {
        file: "taro.yaml".into(),
        line,
    }
}

/// Numbers that are the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 32) % sides as u64).unwrap()
    }

    fn one_in(&mut self, sides: usize) -> bool {
        self.below(sides) == 0
    }

    fn pick<'a>(&mut self, texts: &'a [String]) -> &'a str {
        let at = self.below(texts.len());
        &texts[at]
    }
}
