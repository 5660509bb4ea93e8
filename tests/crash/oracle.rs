//! What became of every recipient that was answered 2xx: found, lost, or found too often.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::letter::{ELSEWHERE, Kind, Letter, digest, number_in};
use crate::sink::Taken;
use crate::site::Site;

/// What is counted for one kill point.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    pub(crate) trials: u64,
    /// Trials whose point was not reached.
    pub(crate) missed: u64,
    /// Recipients answered 2xx.
    pub(crate) accepted: u64,
    /// Of these, answered after the power was cut.
    pub(crate) late: u64,
    /// Accepted, and nowhere; also a release or a forward that is nowhere.
    pub(crate) lost: u64,
    /// There, but not the octets that were sent.
    pub(crate) altered: u64,
    /// A second copy in a Maildir.
    pub(crate) maildir: u64,
    /// A second copy at the next hop, outside the window.
    pub(crate) hop: u64,
    /// A second quarantine entry.
    pub(crate) held: u64,
    /// A second forward, outside the window.
    pub(crate) forward: u64,
    /// A second notice.
    pub(crate) notice: u64,
    /// A second auto-reply.
    pub(crate) reply: u64,
    /// Second copies and forwards where the daemon died between the first and its record (RFC 1047).
    pub(crate) window: u64,
    /// Notices and auto-replies that never came: at most once.
    pub(crate) missing: u64,
    /// Starts that found the index damaged.
    pub(crate) rebuilt: u64,
    /// Held mail that was released.
    pub(crate) released: u64,
    /// The longest time between a first copy and the death that hid it.
    pub(crate) longest: Duration,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.trials += other.trials;
        self.missed += other.missed;
        self.accepted += other.accepted;
        self.late += other.late;
        self.lost += other.lost;
        self.altered += other.altered;
        self.maildir += other.maildir;
        self.hop += other.hop;
        self.held += other.held;
        self.forward += other.forward;
        self.notice += other.notice;
        self.reply += other.reply;
        self.window += other.window;
        self.missing += other.missing;
        self.rebuilt += other.rebuilt;
        self.released += other.released;
        self.longest = self.longest.max(other.longest);
    }

    /// What must not be.
    pub(crate) fn faults(&self) -> u64 {
        let repeated = self.maildir + self.hop + self.held + self.forward;
        self.lost + self.altered + repeated + self.notice + self.reply + self.rebuilt
    }
}

/// Kill point and its counts.
pub(crate) type Table = BTreeMap<&'static str, Counts>;

/// All that a round left behind.
pub(crate) struct Evidence {
    pub(crate) letters: Vec<Letter>,
    /// The mails whose release was answered.
    pub(crate) released: HashSet<u64>,
    pub(crate) relay: Vec<Taken>,
    pub(crate) hop: Vec<Taken>,
    /// Kept mail lies in Maildirs.
    pub(crate) in_maildir: bool,
    /// When each life of the daemon ended.
    pub(crate) deaths: Vec<Instant>,
    held: HashMap<u64, Vec<u64>>,
    maildirs: HashMap<String, HashMap<u64, Vec<u64>>>,
}

impl Evidence {
    /// Looks at the quarantine of the running daemon, and at the Maildirs.
    pub(crate) fn gather(
        site: &Site,
        letters: Vec<Letter>,
        released: Vec<u64>,
        in_maildir: bool,
        deaths: Vec<Instant>,
    ) -> Self {
        let mut held: HashMap<u64, Vec<u64>> = HashMap::new();
        for entry in site.get("/v1/quarantine") {
            let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            let number = number_in(text("subject").as_bytes()).unwrap();
            let raw = site.http("GET", &format!("/v1/quarantine/{}/raw", text("id")));
            held.entry(number)
                .or_default()
                .push(digest(&raw.unwrap().1));
            assert_ne!(entry["state"], Value::from("releasing"), "{entry}");
        }
        let mut evidence = Self {
            letters,
            released: released.into_iter().collect(),
            relay: Vec::new(),
            hop: Vec::new(),
            in_maildir,
            deaths,
            held,
            maildirs: HashMap::new(),
        };
        let mut locals: Vec<String> = evidence
            .recipients()
            .map(|(_, kind)| kind.local())
            .collect();
        locals.sort();
        locals.dedup();
        for local in locals {
            let mut mails: HashMap<u64, Vec<u64>> = HashMap::new();
            for mail in site.maildir(&local) {
                let number = number_in(&mail).unwrap_or_else(|| {
                    panic!(
                        "{local}: no mail of ours: {}",
                        String::from_utf8_lossy(&mail)
                    )
                });
                mails.entry(number).or_default().push(digest(&mail));
            }
            evidence.maildirs.insert(local, mails);
        }
        evidence
    }

    fn recipients(&self) -> impl Iterator<Item = (&Letter, Kind)> {
        self.letters.iter().flat_map(|letter| {
            let kinds = letter.recipients.iter();
            kinds.map(move |recipient| (letter, recipient.kind))
        })
    }

    /// Counts everything, for the kill point of the trial in which a mail was made.
    pub(crate) fn judge(&self, point_of: impl Fn(usize) -> &'static str, table: &mut Table) {
        let relay = by_place(&self.relay);
        let hop = by_place(&self.hop);
        for letter in &self.letters {
            let counts = table.entry(point_of(letter.trial)).or_default();
            for recipient in &letter.recipients {
                let kind = recipient.kind;
                let mut judge = Judge {
                    evidence: self,
                    letter,
                    kind,
                    answered: recipient.taken,
                    counts: &mut *counts,
                    relay: &relay,
                    hop: &hop,
                };
                judge.counts.accepted += 1;
                judge.counts.late += u64::from(recipient.late);
                judge.mailbox();
                judge.quarantine();
                judge.sent_on();
                judge.letters();
            }
        }
    }
}

type Places<'a> = HashMap<(u64, &'a str), Vec<&'a Taken>>;

fn by_place(taken: &[Taken]) -> Places<'_> {
    let mut places: Places<'_> = HashMap::new();
    for one in taken {
        places
            .entry((one.number, one.to.as_str()))
            .or_default()
            .push(one);
    }
    places
}

/// One recipient of one mail.
struct Judge<'a> {
    evidence: &'a Evidence,
    letter: &'a Letter,
    kind: Kind,
    /// Which start of the daemon answered 2xx first.
    answered: Option<u32>,
    counts: &'a mut Counts,
    relay: &'a Places<'a>,
    hop: &'a Places<'a>,
}

impl Judge<'_> {
    /// The mailbox has the mail once if it is kept, or was held and released; else not at all.
    fn mailbox(&mut self) {
        let number = self.letter.number;
        let released = self.kind == Kind::Held && self.evidence.released.contains(&number);
        self.counts.released += u64::from(released);
        let wanted = u64::from(self.kind.is_kept() || released);
        if self.evidence.in_maildir {
            let mails = self.evidence.maildirs.get(&self.kind.local());
            let found = mails.and_then(|mails| mails.get(&number));
            self.counts.maildir += self.surplus("Maildir", found.map_or(&[], |all| all), wanted, 0);
        } else {
            // With effects it is recorded when it is answered, without them a little later.
            let effects = matches!(self.kind, Kind::Copy | Kind::Answer(_));
            let recorded = self.answered.filter(|_| effects);
            let address = self.kind.address();
            self.counts.hop += self.taken("next hop", self.hop, &address, wanted, recorded);
        }
    }

    fn quarantine(&mut self) {
        if self.kind == Kind::Held {
            let found = self.evidence.held.get(&self.letter.number);
            self.counts.held += self.surplus("quarantine", found.map_or(&[], |all| all), 1, 0);
        }
    }

    fn sent_on(&mut self) {
        if let Some(target) = self.kind.target() {
            self.counts.forward += self.taken("forward", self.relay, &target, 1, None);
        }
    }

    /// Notices and auto-replies, at most once.
    fn letters(&mut self) {
        let to = match self.kind {
            Kind::Copy => format!("notice@{ELSEWHERE}"),
            Kind::Answer(_) => self.letter.sender(),
            Kind::Keep(_) | Kind::Held | Kind::Forward => return,
        };
        let sent = self.relay.get(&(self.letter.number, to.as_str()));
        let sent = sent.map_or(0, |sent| sent.len() as u64);
        self.counts.missing += u64::from(sent == 0);
        let surplus = sent.saturating_sub(1);
        self.say("letters", surplus);
        match self.kind {
            Kind::Copy => self.counts.notice += surplus,
            _ => self.counts.reply += surplus,
        }
    }

    /// Copies at a server that are too many, but for those in the window, which are counted.
    fn taken(
        &mut self,
        place: &str,
        places: &Places<'_>,
        address: &str,
        wanted: u64,
        recorded: Option<u32>,
    ) -> u64 {
        let taken = places.get(&(self.letter.number, address));
        let taken: &[&Taken] = taken.map_or(&[], |all| all);
        let digests: Vec<u64> = taken.iter().map(|one| one.digest).collect();
        let window = self.windows(taken, recorded);
        self.counts.window += window;
        self.surplus(place, &digests, wanted, window)
    }

    /// Counts a loss, and octets that are other ones; how many copies are too many.
    fn surplus(&mut self, place: &str, digests: &[u64], wanted: u64, window: u64) -> u64 {
        let sent = self.letter.digest();
        let found = digests.len() as u64;
        self.counts.altered += digests.iter().filter(|digest| **digest != sent).count() as u64;
        if found < wanted {
            let (number, kind) = (self.letter.number, self.kind);
            println!("LOST: {place}: mail {number} for {kind:?}");
            self.counts.lost += 1;
        }
        let surplus = found.saturating_sub(wanted + window);
        self.say(place, surplus);
        surplus
    }

    fn say(&self, place: &str, surplus: u64) {
        if surplus > 0 {
            let (number, kind) = (self.letter.number, self.kind);
            println!("REPEATED: {place}: mail {number} for {kind:?}, {surplus} too many");
        }
    }

    /// How many copies came in a later life than the one before, which may have had no record yet;
    /// it had one if that life has `recorded` it.
    fn windows(&mut self, taken: &[&Taken], recorded: Option<u32>) -> u64 {
        let mut windows = 0;
        for pair in taken.windows(2) {
            let [first, second] = pair else { continue };
            if second.life > first.life && recorded.is_none_or(|life| life > first.life) {
                windows += 1;
                let death = self.evidence.deaths.get(first.life as usize);
                let open = death.map_or(Duration::ZERO, |death| {
                    death.saturating_duration_since(first.at)
                });
                self.counts.longest = self.counts.longest.max(open);
            }
        }
        windows
    }
}

/// Prints the counts, a row for each kill point and their sum.
pub(crate) fn print(title: &str, table: &Table) -> Counts {
    let columns = [
        "trials", "accepted", "lost", "altered", "Maildir", "hop", "held", "forward", "notice",
        "reply", "rebuilt", "window", "missing", "released", "missed", "late",
    ];
    println!("\n{title}; from \"Maildir\" to \"reply\": second copies, by place");
    print!("{:<22}", "point");
    columns.iter().for_each(|column| print!(" {column:>8}"));
    println!();
    let mut all = Counts::default();
    for (point, counts) in table {
        all.add(counts);
        row(point, counts);
    }
    row("all", &all);
    println!(
        "window (RFC 1047): the daemon died at most {} ms after the first copy; missing: notices and replies, \
         sent at most once; missed: trials whose point was not reached; late: answered while the power was cut",
        all.longest.as_millis()
    );
    all
}

fn row(name: &str, counts: &Counts) {
    print!("{name:<22}");
    for number in [
        counts.trials,
        counts.accepted,
        counts.lost,
        counts.altered,
        counts.maildir,
        counts.hop,
        counts.held,
        counts.forward,
        counts.notice,
        counts.reply,
        counts.rebuilt,
        counts.window,
        counts.missing,
        counts.released,
        counts.missed,
        counts.late,
    ] {
        print!(" {number:>8}");
    }
    println!();
}
