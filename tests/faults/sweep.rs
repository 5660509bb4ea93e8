//! Every k-th system call fails in turn, and nothing is lost.
//!
//! The scenario runs on the real daemon below `strace -e inject`. strace counts the calls of each
//! thread for itself, so one run fails the k-th call of every thread that makes so many. Two phases:
//! from the first instruction on (`start`), and from `ready` on (`serve`). `k` goes from 1 to the
//! most calls that a thread made in a clean run. Afterwards the daemon is stopped or killed, started
//! without faults, the client repeats what was not answered 2xx, and the oracle counts.
//!
//! A call on the eventfd that wakes the runtime cannot fail in earnest; such runs are set apart.
//! Short writes are not in the table: strace can only claim that a call was made, not make half of it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::Site;
use crate::hop::Hop;
use crate::scenario::{self, Ledger, await_ready, log, within};

/// Points that a run of all tests takes; `SEKIMORI_FAULTS_SAMPLE` says another number, or `all`.
const SAMPLE: usize = 40;
/// Which ones; `SEKIMORI_FAULTS_SEED` says another number.
const SEED: u64 = 0x5eed;
/// Runs after which a long sweep says how far it is.
const STRIDE: usize = 50;
/// Daemons at once.
const AT_ONCE: usize = 3;
/// How long a daemon may take to end; it has a grace of one second.
const END: Duration = Duration::from_secs(20);

/// System call, errors of one call, errors from one call on.
const FAULTS: &[(&str, &[&str], &[&str])] = &[
    ("openat", &["EIO", "EMFILE", "ENOSPC"], &["EMFILE"]),
    ("read", &["EIO", "EINTR"], &[]),
    ("pread64", &["EIO"], &["EIO"]),
    ("write", &["EIO", "ENOSPC", "EINTR"], &["ENOSPC"]),
    ("pwrite64", &["EIO", "ENOSPC", "EINTR"], &["EIO", "ENOSPC"]),
    ("fsync", &["EIO"], &["EIO"]),
    ("fdatasync", &["EIO"], &["EIO"]),
    ("sync_file_range", &["EIO"], &["EIO"]),
    ("linkat", &["EIO", "ENOSPC"], &["ENOSPC"]),
    ("rename", &["EIO", "ENOSPC"], &["ENOSPC"]),
    ("unlink", &["EIO"], &["EIO"]),
    ("mkdir", &["ENOSPC", "EIO"], &["ENOSPC"]),
    ("ftruncate", &["EIO"], &[]),
    ("fallocate", &["ENOSPC"], &[]),
    ("getdents64", &["EIO"], &[]),
    ("statx", &["EIO"], &[]),
    ("socket", &["EMFILE"], &[]),
    ("connect", &["ECONNREFUSED", "ETIMEDOUT"], &[]),
    ("accept4", &["EMFILE", "ECONNABORTED"], &[]),
    ("recvfrom", &["ECONNRESET", "EINTR"], &[]),
    ("sendto", &["ECONNRESET", "EPIPE", "EINTR"], &[]),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Phase {
    Start,
    Serve,
}

/// A kind of fault; a row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Fault {
    phase: Phase,
    call: &'static str,
    error: &'static str,
    /// Every call from there on.
    onward: bool,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    fault: Fault,
    k: usize,
}

/// A row's counts, or one run's.
#[derive(Debug, Default)]
struct Outcome {
    runs: usize,
    /// Runs in which a call was failed.
    hit: usize,
    /// Runs whose call woke the runtime.
    set_apart: usize,
    not_started: usize,
    ended_74: usize,
    lost: usize,
    repeated: usize,
    again: usize,
    unsent: usize,
    panics: usize,
    wrong: usize,
    /// What is wrong, for people.
    details: Vec<String>,
}

#[test]
fn no_failed_system_call_loses_a_mail() {
    let counts = count();
    let mut points = all_points(&counts);
    let only = std::env::var("SEKIMORI_FAULTS_CALL").unwrap_or_default();
    points.retain(|point| only.is_empty() || point.fault.call == only);
    let total = points.len();
    let sample = std::env::var("SEKIMORI_FAULTS_SAMPLE").unwrap_or_default();
    let wanted = match sample.as_str() {
        "all" => total,
        "" => SAMPLE,
        number => number.parse().expect("SEKIMORI_FAULTS_SAMPLE is a number"),
    };
    shuffle(&mut points);
    points.truncate(wanted);
    let rows = run_all(points);
    print_table(&rows, total);
    let bad: Vec<&String> = rows.values().flat_map(|row| &row.details).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(rows.values().map(|row| row.hit).sum::<usize>() > 0 || wanted == 0);
}

/// sled syncs once more when it is closed, and panics where that fails.
#[test]
fn an_index_that_cannot_be_synced_when_it_is_closed_is_an_error_and_no_panic() {
    let fault = Fault {
        phase: Phase::Start,
        call: "fsync",
        error: "EIO",
        onward: true,
    };
    let relay = scenario::relay();
    for k in 4..=8 {
        relay.forget();
        let outcome = run(Point { fault, k }, &relay);
        assert!(outcome.details.is_empty(), "{:#?}", outcome.details);
        assert_eq!((outcome.hit, outcome.panics), (1, 0), "{k}");
    }
}

/// Its end was recorded again every five seconds, and `quarantine release` never returned.
#[test]
fn a_release_ends_though_its_file_cannot_be_removed() {
    let fault = Fault {
        phase: Phase::Serve,
        call: "unlink",
        error: "EIO",
        onward: true,
    };
    let outcome = run(Point { fault, k: 1 }, &scenario::relay());
    assert!(outcome.details.is_empty(), "{:#?}", outcome.details);
    assert_eq!(outcome.hit, 1);
}

/// The most calls that one thread made, by phase and call, in a run without faults.
fn count() -> HashMap<(Phase, &'static str), usize> {
    let relay = scenario::relay();
    let site = scenario::site(&relay);
    let mut counts = HashMap::new();
    let calls: Vec<&str> = FAULTS.iter().map(|(call, _, _)| *call).collect();
    let trace = format!("trace={}", calls.join(","));
    let mut child = scenario::spawn(&site, &strace(&site, &["-D", "-e", &trace]));
    await_ready(&site, &mut child).unwrap();
    let started = read_trace(&site);
    let before: Vec<&str> = started
        .lines()
        .take_while(|line| !line.contains("\"ready\\n\""))
        .collect();
    add_counts(&mut counts, Phase::Start, &before);
    end(&mut child, Signal::TERM);

    let mut child = scenario::spawn(&site, &[]);
    await_ready(&site, &mut child).unwrap();
    let mut tracer = attach(&site, child.id(), &["-e", &trace]);
    let mut ledger = Ledger::new();
    ledger.hand_over(&site);
    assert_eq!(ledger.open(), 0, "{:?}\n{}", ledger.wrong, log(&site));
    assert!(ledger.follow_up(&site));
    ledger.drain(&site);
    let findings = ledger.check(&site, &relay);
    end(&mut child, Signal::TERM);
    tracer.wait().unwrap();
    assert!(
        findings.lost.is_empty() && findings.repeated.is_empty() && findings.unsent == 0,
        "without faults: {findings:?}"
    );
    let trace = read_trace(&site);
    add_counts(
        &mut counts,
        Phase::Serve,
        &trace.lines().collect::<Vec<_>>(),
    );
    counts
}

fn add_counts(counts: &mut HashMap<(Phase, &'static str), usize>, phase: Phase, lines: &[&str]) {
    let mut by_thread: HashMap<(&str, &str), usize> = HashMap::new();
    for line in lines {
        let mut words = line.split_whitespace();
        let (Some(thread), Some(rest)) = (words.next(), words.next()) else {
            continue;
        };
        if let Some((call, _)) = rest.split_once('(') {
            *by_thread.entry((thread, call)).or_default() += 1;
        }
    }
    for (call, _, _) in FAULTS {
        let of_call = by_thread.iter().filter(|((_, name), _)| name == call);
        let most = of_call.map(|(_, count)| *count).max().unwrap_or(0);
        counts.insert((phase, call), most);
    }
}

fn all_points(counts: &HashMap<(Phase, &'static str), usize>) -> Vec<Point> {
    let mut points = Vec::new();
    for phase in [Phase::Start, Phase::Serve] {
        for (call, once, onward) in FAULTS {
            let errors = once.iter().map(|error| (*error, false));
            for (error, onward) in errors.chain(onward.iter().map(|error| (*error, true))) {
                let fault = Fault {
                    phase,
                    call,
                    error,
                    onward,
                };
                points.extend((1..=counts[&(phase, *call)]).map(|k| Point { fault, k }));
            }
        }
    }
    points
}

/// The same order at every call.
fn shuffle(points: &mut [Point]) {
    let seed = std::env::var("SEKIMORI_FAULTS_SEED").map(|seed| seed.parse().unwrap());
    let mut state: u64 = seed.unwrap_or(SEED).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for at in (1..points.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        points.swap(at, (state % (at as u64 + 1)) as usize);
    }
}

fn run_all(points: Vec<Point>) -> BTreeMap<Fault, Outcome> {
    let (queue, rows) = (Mutex::new(points), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let relay = scenario::relay();
                loop {
                    let (point, left) = {
                        let mut queue = queue.lock().unwrap();
                        (queue.pop(), queue.len())
                    };
                    let Some(point) = point else {
                        break;
                    };
                    if left > 0 && left.is_multiple_of(STRIDE) {
                        eprintln!("{left} points are left");
                    }
                    relay.forget();
                    let outcome = run(point, &relay);
                    for detail in &outcome.details {
                        eprintln!("{detail}");
                    }
                    rows.lock()
                        .unwrap()
                        .entry(point.fault)
                        .or_insert_with(Outcome::default)
                        .add(outcome);
                }
            });
        }
    });
    rows.into_inner().unwrap()
}

/// One run of the scenario with one fault, and its end without.
fn run(point: Point, relay: &Hop) -> Outcome {
    let site = scenario::site(relay);
    let mut ledger = Ledger::new();
    let mut outcome = Outcome {
        runs: 1,
        ..Outcome::default()
    };
    let mut details = Vec::new();
    let Fault { call, error, .. } = point.fault;
    let when = format!("{}{}", point.k, if point.fault.onward { "+" } else { "" });
    let inject = format!("inject={call}:error={error}:when={when}");
    let options = ["-e", &format!("trace={call}"), "-e", &inject];
    let (mut child, ready, tracer) = match point.fault.phase {
        Phase::Start => {
            let options = [&["-D"], options.as_slice()].concat();
            let mut child = scenario::spawn(&site, &strace(&site, &options));
            let ready = await_ready(&site, &mut child);
            (child, ready, None)
        }
        Phase::Serve => {
            let mut child = scenario::spawn(&site, &[]);
            await_ready(&site, &mut child).expect("it starts without faults");
            let tracer = attach(&site, child.id(), &options);
            (child, Ok(()), Some(tracer))
        }
    };
    if ready.is_ok() {
        ledger.hand_over(&site);
        if !ledger.follow_up(&site) {
            details.push("a command did not end".to_owned());
        }
        ledger.drain(&site);
    }
    let code = match ready {
        Err(Some(status)) => {
            outcome.not_started = 1;
            // Where stderr fails too, it cannot.
            if log(&site).trim().is_empty() && call != "write" {
                details.push("it did not start and did not say why".to_owned());
            }
            status.code().or(Some(-1))
        }
        Err(None) => {
            details.push("it neither started nor ended".to_owned());
            end(&mut child, Signal::KILL)
        }
        Ok(()) if log(&site).contains("could not be synced") => {
            within(END, || child.try_wait().unwrap().is_some());
            end(&mut child, Signal::KILL)
        }
        Ok(()) if point.k.is_multiple_of(2) => end(&mut child, Signal::TERM),
        Ok(()) => end(&mut child, Signal::KILL),
    };
    if let Some(mut tracer) = tracer {
        tracer.wait().unwrap();
    }
    outcome.ended_74 = usize::from(code == Some(74));
    let clean = [None, Some(0), Some(74)].contains(&code);
    if !clean && outcome.not_started == 0 {
        details.push(format!("it ended with {code:?}"));
    }
    let trace = read_trace(&site);
    let injected: Vec<&str> = trace
        .lines()
        .filter(|line| line.contains("(INJECTED)"))
        .collect();
    outcome.hit = usize::from(!injected.is_empty());
    if wakes(&injected, &log(&site)) {
        outcome.set_apart = 1;
        details.clear();
    } else if let Some(line) = panic_in(&log(&site)) {
        outcome.panics = 1;
        details.push(line);
    }
    if outcome.not_started == 1 && code == Some(101) {
        outcome.panics += 1;
    }
    afterwards(&site, relay, &mut ledger, &mut outcome, &mut details);
    if !details.is_empty() {
        let place = injected.first().copied().unwrap_or("not reached");
        let log = fs::read_to_string(site.path("stderr.first.log")).unwrap_or_default();
        if std::env::var_os("SEKIMORI_FAULTS_LOG").is_some() {
            details.push(log);
        }
        let text = details.join("; ");
        outcome.details.push(format!("{point:?}: {text} ({place})"));
    }
    outcome
}

/// Without faults: the retry, and what is where in the end.
fn afterwards(
    site: &Site,
    relay: &Hop,
    ledger: &mut Ledger,
    outcome: &mut Outcome,
    details: &mut Vec<String>,
) {
    let _ = fs::rename(site.path("stderr.log"), site.path("stderr.first.log"));
    let mut child = scenario::spawn(site, &[]);
    if let Err(status) = await_ready(site, &mut child) {
        details.push(format!("it does not start again: {status:?} {}", log(site)));
        outcome.lost += 1;
        end(&mut child, Signal::KILL);
        return;
    }
    ledger.hand_over(site);
    if ledger.open() > 0 {
        details.push(format!("{} not taken without faults", ledger.open()));
    }
    if !ledger.follow_up(site) {
        details.push("a command did not end afterwards".to_owned());
    }
    within(END, || scenario::queue(site) == Some(0));
    let findings = ledger.check(site, relay);
    let verified = site.cli(&["store", "verify", "--json"]);
    if verified.code != 0 {
        let report = String::from_utf8_lossy(&verified.stdout).into_owned();
        details.push(format!("verify: {report} {}", verified.stderr));
    }
    if let Some(line) = panic_in(&log(site)) {
        outcome.panics += 1;
        details.push(format!("after the restart: {line}"));
    }
    end(&mut child, Signal::KILL);
    outcome.wrong += ledger.wrong.len();
    outcome.lost += findings.lost.len();
    outcome.repeated += findings.repeated.len();
    outcome.again += findings.again;
    outcome.unsent += findings.unsent;
    for list in [&ledger.wrong, &findings.lost, &findings.repeated] {
        details.extend(list.iter().cloned());
    }
}

/// Whether a call was failed by which the runtime wakes itself: an eventfd, its pipe of signals.
fn wakes(injected: &[&str], log: &str) -> bool {
    injected.iter().any(|line| line.contains("eventfd")) || log.contains("src/runtime/signal/")
}

/// A panic that nobody caught; those of sled are caught, unless a task or we ended by them.
fn panic_in(log: &str) -> Option<String> {
    let panics = |line: &&str| {
        let ours = line.contains("panicked at") && !line.contains("/sled-");
        ours || line.contains("panicked with message")
    };
    log.lines().find(panics).map(str::to_owned)
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.hit += other.hit;
        self.set_apart += other.set_apart;
        self.not_started += other.not_started;
        self.ended_74 += other.ended_74;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.again += other.again;
        self.unsent += other.unsent;
        self.panics += other.panics;
        self.wrong += other.wrong;
        self.details.extend(other.details);
    }
}

fn print_table(rows: &BTreeMap<Fault, Outcome>, total: usize) {
    println!(
        "phase call            error          runs  hit apart  lost repeated again unsent  74 no-start panics wrong"
    );
    let mut sum = Outcome::default();
    let line = |name: &str, row: &Outcome| {
        println!(
            "{name:<36} {:>4} {:>4} {:>5} {:>5} {:>8} {:>5} {:>6} {:>3} {:>8} {:>6} {:>5}",
            row.runs,
            row.hit,
            row.set_apart,
            row.lost,
            row.repeated,
            row.again,
            row.unsent,
            row.ended_74,
            row.not_started,
            row.panics,
            row.wrong
        );
    };
    for (fault, row) in rows {
        let phase = format!("{:?}", fault.phase).to_lowercase();
        let onward = if fault.onward { " on" } else { "" };
        let name = format!("{phase:<5} {:<15} {}{onward}", fault.call, fault.error);
        line(&name, row);
        sum.runs += row.runs;
        sum.hit += row.hit;
        sum.set_apart += row.set_apart;
        sum.lost += row.lost;
        sum.repeated += row.repeated;
        sum.again += row.again;
        sum.unsent += row.unsent;
        sum.ended_74 += row.ended_74;
        sum.not_started += row.not_started;
        sum.panics += row.panics;
        sum.wrong += row.wrong;
    }
    line(&format!("all of {total} points"), &sum);
}

fn strace(site: &Site, options: &[&str]) -> Vec<String> {
    let trace = site.path("trace").to_str().unwrap().to_owned();
    let words = ["strace", "-f", "-qq", "-y", "-o", &trace];
    words
        .iter()
        .chain(options)
        .map(|word| (*word).to_owned())
        .collect()
}

/// A tracer on all threads of a running daemon.
pub(crate) fn attach(site: &Site, daemon: u32, options: &[&str]) -> Child {
    let words = strace(site, options);
    let tracer = Command::new(&words[0])
        .args(&words[1..])
        .args(["-p", &daemon.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let tasks = format!("/proc/{daemon}/task");
    assert!(
        within(END, || all_traced(Path::new(&tasks))),
        "strace cannot attach"
    );
    tracer
}

fn all_traced(tasks: &Path) -> bool {
    let traced = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let tracer = status
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"));
        tracer.is_some_and(|pid| pid.trim() != "0")
    };
    fs::read_dir(tasks).unwrap().flatten().all(traced)
}

fn read_trace(site: &Site) -> String {
    let bytes = fs::read(site.path("trace")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Ends a daemon; its exit code, none where a signal ended it.
fn end(child: &mut Child, signal: Signal) -> Option<i32> {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    if child.try_wait().unwrap().is_none() {
        let _ = kill_process(pid, signal);
    }
    if !within(END, || child.try_wait().unwrap().is_some()) {
        child.kill().unwrap();
        child.wait().unwrap();
        return Some(-2);
    }
    child.wait().unwrap().code()
}
