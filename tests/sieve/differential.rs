//! The same mail, the same settings: what we decide and what Pigeonhole does with the exported
//! script. `SEKIMORI_SIEVE_SETTINGS` says how many settings each mail meets (1 unless set),
//! `SEKIMORI_CORPUS` which mails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sekimori::agent::Scanners;
use sekimori::config::Config;
use sekimori::mail::{Address, Message, ReversePath};
use sekimori::policy::{Action, Arrival, AuthReport, Plan, Policy, Screening, Verdict};
use sekimori::sieve::export::{self, export};

use crate::corpus::{Mail, mails};
use crate::pigeonhole::{Outcome, Site};
use crate::reasons::{self, Case};
use crate::settings::{self, OWNER, Settings};

/// Settings that are generated; a mail meets some of them.
const GENERATED: u64 = 24;

#[derive(Default)]
struct Figures {
    compared: usize,
    alike: usize,
    outcomes: BTreeMap<&'static str, usize>,
    reasons: BTreeMap<String, usize>,
    unexplained: Vec<String>,
}

#[test]
fn exported_scripts_decide_as_the_settings_do() {
    let mails = mails();
    let each: usize = match std::env::var("SEKIMORI_SIEVE_SETTINGS") {
        Ok(number) => number.parse().unwrap(),
        Err(_) => 1,
    };
    let now = jiff::Timestamp::now().as_second();
    let all: Vec<Settings> = (0..GENERATED)
        .map(|seed| settings::generate(&mails, seed, now))
        .collect();
    let next = AtomicUsize::new(0);
    let figures = Mutex::new(Figures::default());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let site = Site::new();
                let scripts: Vec<_> = all
                    .iter()
                    .enumerate()
                    .map(|(number, settings)| {
                        site.script(&format!("settings{number}.sieve"), &script(settings))
                    })
                    .collect();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(mail) = mails.get(number) else { break };
                    let file = site.mail("mail.eml", &mail.raw);
                    for turn in 0..each {
                        let chosen = (number + turn * 7) % all.len();
                        compare(
                            &site,
                            &scripts[chosen],
                            &all[chosen],
                            mail,
                            &file,
                            now,
                            &figures,
                            chosen,
                        );
                    }
                }
            });
        }
    });
    let figures = figures.into_inner().unwrap();
    eprintln!(
        "{} mails, {GENERATED} settings, {} decisions compared, {} alike",
        mails.len(),
        figures.compared,
        figures.alike
    );
    eprintln!("decisions: {:?}", figures.outcomes);
    for (reason, count) in &figures.reasons {
        eprintln!("{count:6} {reason}");
    }
    assert!(
        figures.unexplained.is_empty(),
        "{} without a reason:\n{}",
        figures.unexplained.len(),
        figures.unexplained.join("\n")
    );
    assert!(figures.alike > figures.compared / 2);
    let kinds = ["stored", "held", "forwarded", "told", "answered"];
    for kind in kinds {
        assert!(figures.outcomes.contains_key(kind), "no mail was {kind}");
    }
}

pub(crate) fn script(settings: &Settings) -> String {
    export(&export::Settings {
        policy: &settings.policy,
        virus: Some(Settings::finding(settings.virus)),
        spam: Some(Settings::finding(settings.spam)),
    })
    .script
    .to_string()
}

#[allow(clippy::too_many_arguments, reason = "one comparison")]
fn compare(
    site: &Site,
    script: &std::path::Path,
    settings: &Settings,
    mail: &Mail,
    file: &std::path::Path,
    now: i64,
    figures: &Mutex<Figures>,
    number: usize,
) {
    let sender = sender(mail);
    let ours = decide(
        &settings.policy,
        &settings.config,
        &mail.raw,
        &mail.message,
        &sender,
        now,
        &settings::texts(),
    );
    let run = site.execute(script, file, &sender, OWNER);
    let theirs = run.outcome(&settings::texts());
    let reason = (ours.outcome != theirs).then(|| {
        reasons::of(&Case {
            site,
            script,
            settings,
            mail,
            file,
            sender: &sender,
            now,
            ours: &ours,
            theirs: &theirs,
            run: &run,
        })
    });
    let mut figures = figures.lock().unwrap();
    figures.compared += 1;
    for (kind, is_so) in [
        ("stored", ours.outcome.stored.contains("INBOX")),
        ("held", ours.outcome.stored.contains("Quarantine")),
        ("forwarded", !ours.outcome.forwards.is_empty()),
        ("told", !ours.outcome.notices.is_empty()),
        ("answered", ours.outcome.reply.is_some()),
    ] {
        if is_so {
            *figures.outcomes.entry(kind).or_default() += 1;
        }
    }
    match reason {
        None => figures.alike += 1,
        Some(Ok(reason)) => *figures.reasons.entry(reason).or_default() += 1,
        Some(Err(doubt)) => figures.unexplained.push(format!(
            "settings {number}, {}: {doubt}\n  ours   {:?} {:?}\n  theirs {:?} {:?}",
            mail.path,
            ours.outcome,
            ours.plan.no_reply,
            theirs,
            run.no_vacation()
        )),
    }
}

/// A reverse path that both sides take: the first From address, if it is a plain one.
fn sender(mail: &Mail) -> String {
    let found = match &mail.message.from {
        sekimori::mail::FromField::Addresses(found) => {
            found.first().map(|address| address.text.clone())
        }
        _ => None,
    };
    let plain = |text: &String| {
        Address::parse(text).is_ok()
            && text.split('@').all(|part| {
                !part.is_empty()
                    && !part.starts_with(['.', '-'])
                    && !part.ends_with(['.', '-'])
                    && !part.contains("..")
            })
            && text.matches('@').count() == 1
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "@.-_+=".contains(c))
    };
    found
        .filter(plain)
        .unwrap_or_else(|| "sender@elsewhere.example".to_owned())
}

/// Our decision and how it reads beside the other side's.
pub(crate) struct Decision {
    pub(crate) plan: Plan,
    pub(crate) outcome: Outcome,
}

pub(crate) fn decide(
    policy: &Policy,
    config: &Config,
    raw: &[u8],
    message: &Message,
    sender: &str,
    now: i64,
    texts: &[String],
) -> Decision {
    let arrival = Arrival {
        now,
        sender: &ReversePath::Address(Address::parse(sender).unwrap()),
        recipient: &policy.mailbox,
        trusted_client: true,
        auth: &AuthReport::default(),
        looping: false,
    };
    let plan = match policy.screen(message, &arrival) {
        Screening::Settled(plan) => *plan,
        Screening::Passed(passed) => policy.decide(
            message,
            &arrival,
            passed,
            &Scanners::new(&config.scanners)
                .upstream(Some(raw), true)
                .report,
        ),
    };
    let mut outcome = Outcome::default();
    // An infected mail is held; the report that replaces it is one of the stated differences.
    outcome.stored.extend(match plan.verdict {
        Verdict::Deliver => Some("INBOX".to_owned()),
        Verdict::Quarantine | Verdict::Replace => Some(export::QUARANTINE.to_owned()),
        Verdict::Forward => None,
    });
    let names = |addresses: &[Address]| {
        addresses
            .iter()
            .map(ToString::to_string)
            .collect::<BTreeSet<_>>()
    };
    for action in &plan.actions {
        match action {
            Action::Redirect { to, .. } => outcome.forwards = names(to),
            Action::Notify { to, .. } => outcome.notices = names(to),
            Action::AutoReply { message, .. } => {
                outcome.reply = texts.iter().find(|text| message.contains(*text)).cloned();
            }
            Action::ReportVirus { .. } | Action::QuarantineNotice => {}
        }
    }
    Decision { plan, outcome }
}
