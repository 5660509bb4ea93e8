//! What hostile mails cost: each kind of `tests/blackbox/bomb_mails.rs` at n, 2n and 4n octets, parsed
//! and decided. A cost that is linear doubles with the size.
//!
//! `cargo bench --bench hostile [WORD]` prints a line a kind (those whose name holds the word): megabytes
//! and milliseconds of the largest, and how the time grew from step to step. It is the processor's time
//! (`/proc`, Linux), the least of several rounds, so that a busy machine disturbs it little.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench is not shipped"
)]

use std::hint::black_box;
use std::time::Duration;

use sekimori::mail::{Address, Bounds, Message, ReversePath};
use sekimori::policy::{
    Arrival, AuthReport, AutoReply, Origin, Pattern, Policy, ScanReport, Screening, SubstringSet,
    SuffixSet,
};

#[path = "../tests/blackbox/bomb_mails.rs"]
#[allow(dead_code)]
mod bomb_mails;

const ROUNDS: usize = 3;
/// The kernel counts in steps of some milliseconds.
const SAMPLE: Duration = Duration::from_millis(80);

fn main() {
    let word = std::env::args()
        .nth(1)
        .filter(|word| !word.starts_with('-'));
    let policy = policy();
    println!("{:38} {:>8} {:>9} {:>6} {:>6}", "", "MB", "ms", "x2", "x4");
    for bomb in bomb_mails::BOMBS {
        if word
            .as_ref()
            .is_some_and(|word| !bomb.name.contains(word.as_str()))
        {
            continue;
        }
        let mails = [4, 2, 1].map(|part| (bomb.make)(bomb.count / part));
        let [one, two, four] = [0, 1, 2].map(|at| cost(&policy, &mails[at]).as_secs_f64());
        println!(
            "{:38} {:8.2} {:9.3} {:6.2} {:6.2}",
            bomb.name,
            mails[2].len() as f64 / 1e6,
            four * 1e3,
            two / one,
            four / two,
        );
    }
}

/// A mailbox that asks everything of a mail.
fn policy() -> Policy {
    let pattern = |text: &str| Pattern {
        text: text.to_owned(),
        origin: Origin {
            file: "taro.yaml".into(),
            line: 1,
        },
    };
    let mut policy = Policy::new(Address::parse("taro@east.example.jp").unwrap());
    policy.from_suffixes = SuffixSet::build(vec![pattern("@spam.example")]);
    policy.subject_contains = SubstringSet::build(vec![pattern("offer")]);
    policy.auto_reply = Some(AutoReply {
        start: None,
        end: None,
        subject: String::new(),
        message: "away".to_owned(),
        per_sender: Vec::new(),
        interval: 86_400,
    });
    policy
}

/// What one mail costs: the least of several rounds, as what else the machine does only adds to it.
fn cost(policy: &Policy, raw: &[u8]) -> Duration {
    let sender = ReversePath::Address(Address::parse("a@friend.example").unwrap());
    let arrival = Arrival {
        now: 1_800_000_000,
        sender: &sender,
        recipient: &policy.mailbox,
        trusted_client: false,
        auth: &AuthReport::default(),
        looping: false,
    };
    let sample = |times: u32| {
        let begun = used();
        for _ in 0..times {
            let message = Message::parse(black_box(raw), &Bounds::default());
            let plan = match policy.screen(&message, &arrival) {
                Screening::Passed(passed) => {
                    policy.decide(&message, &arrival, passed, &ScanReport::default())
                }
                Screening::Settled(plan) => *plan,
            };
            black_box((&message, &plan));
        }
        used() - begun
    };
    let mut times = 1;
    while sample(times) < SAMPLE {
        times *= 4;
    }
    let least = (0..ROUNDS).map(|_| sample(times)).min().unwrap();
    least / times
}

/// Processor time of this thread.
fn used() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}
