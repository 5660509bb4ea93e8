//! What only all mailboxes together show: forwards that come back, addresses that nobody has.
//!
//! Each mailbox is known by its number; a forward is an edge. Linear in the forwards but for the
//! search of the way back, which has a budget.

use std::collections::{HashMap, VecDeque};

use super::super::settings::{Config, Unknown};
use super::super::source::Place;
use super::{Guard, Ours, Target};

/// Steps of all searches together; beyond it no further circle is looked for.
const MOST_STEPS: usize = 20_000_000;
/// More circles than this are not told.
const MOST_CIRCLES: usize = 100;

/// All mailboxes and whom they write to.
#[derive(Default)]
pub(in super::super) struct Graph {
    /// Keys of the mailboxes, by number.
    keys: Vec<String>,
    numbers: HashMap<String, u32>,
    /// Key of an alias to its mailbox.
    aliases: HashMap<String, u32>,
    targets: Vec<Vec<Target>>,
}

/// Something to say about a target: of whose file, where, and what.
pub(in super::super) struct Remark {
    /// The number of the mailbox.
    pub(in super::super) mailbox: u32,
    pub(in super::super) at: Place,
    pub(in super::super) id: &'static str,
    pub(in super::super) message: String,
    pub(in super::super) help: &'static str,
}

#[derive(Clone, Copy)]
struct Edge {
    to: u32,
    at: Place,
    guard: Guard,
    /// In a circle that was told.
    told: bool,
}

impl Graph {
    /// Adds a mailbox by its key. Its number is that of the calls before.
    pub(in super::super) fn add(&mut self, key: String) -> u32 {
        let number = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        self.numbers.entry(key.clone()).or_insert(number);
        self.keys.push(key);
        self.targets.push(Vec::new());
        number
    }

    /// What was read of a mailbox.
    pub(in super::super) fn set(&mut self, number: u32, aliases: &[String], targets: Vec<Target>) {
        for alias in aliases {
            self.aliases.entry(alias.clone()).or_insert(number);
        }
        if let Some(slot) = self.targets.get_mut(number as usize) {
            *slot = targets;
        }
    }

    /// Every circle, and every address of ours that nobody has. `defaults` are the targets of a
    /// mailbox without a file.
    pub(in super::super) fn remarks(
        mut self,
        config: &Config,
        ours: &Ours,
        defaults: &[Target],
    ) -> Vec<Remark> {
        let mut remarks = Vec::new();
        let known = !config.mailboxes.domains.is_empty();
        let accepts = config.mailboxes.unknown == Unknown::Accept;
        let forwards = defaults.iter().any(|target| target.mail.is_some());
        let mut edges: Vec<Vec<Edge>> = Vec::new();
        let mut number = 0;
        // Mailboxes without a file join as they are met.
        while let Some(targets) = self.targets.get_mut(number).map(std::mem::take) {
            let mut out = Vec::new();
            for target in targets {
                let found = self.resolve(config, &target.key);
                let to = match found {
                    // To the owner's own addresses: an error of the file, said there.
                    Some(to) if to as usize == number && self.is_own(&target.key) => None,
                    Some(to) => Some(to),
                    None if !known || !ours.serves(&target.key) => None,
                    None if !accepts => {
                        remarks.push(unknown(number, &target));
                        None
                    }
                    None if forwards => {
                        let to = self.add(target.key.clone());
                        self.set(to, &[], defaults.to_vec());
                        Some(to)
                    }
                    None => None,
                };
                if let (Some(to), Some(guard)) = (to, target.mail) {
                    let told = false;
                    let at = target.at;
                    out.push(Edge {
                        to,
                        at,
                        guard,
                        told,
                    });
                }
            }
            edges.push(out);
            number += 1;
        }
        remarks.extend(self.circles(edges));
        remarks
    }

    /// As the directory does: its own file, an alias, both again without the address extension.
    fn resolve(&self, config: &Config, key: &str) -> Option<u32> {
        let find = |key: &str| {
            self.numbers
                .get(key)
                .or_else(|| self.aliases.get(key))
                .copied()
        };
        find(key).or_else(|| {
            let (local, domain) = key.rsplit_once('@')?;
            let (base, _) = local.split_once(config.mailboxes.address_extension?)?;
            find(&format!("{base}@{domain}"))
        })
    }

    /// An address as it is, without an address extension.
    fn is_own(&self, key: &str) -> bool {
        self.numbers.contains_key(key) || self.aliases.contains_key(key)
    }

    fn circles(&self, mut edges: Vec<Vec<Edge>>) -> Vec<Remark> {
        prune(&mut edges);
        let mut remarks = Vec::new();
        let mut steps = MOST_STEPS;
        for from in 0..edges.len() {
            for index in 0..edges.get(from).map_or(0, Vec::len) {
                let edge = edges.get(from).and_then(|out| out.get(index)).copied();
                let Some(edge) = edge.filter(|edge| !edge.told) else {
                    continue;
                };
                let Some(back) = way(&edges, edge.to, from as u32, &mut steps) else {
                    continue;
                };
                let mut circle = vec![(from as u32, index)];
                circle.extend(back);
                let mail = circle.iter().try_fold(Guard::ANY, |mail, (from, index)| {
                    mail.and(edges.get(*from as usize)?.get(*index)?.guard)
                });
                for (from, index) in &circle {
                    let edge = edges
                        .get_mut(*from as usize)
                        .and_then(|e| e.get_mut(*index));
                    if let Some(edge) = edge {
                        edge.told = true;
                    }
                }
                if mail.is_some() {
                    remarks.push(self.circle(from as u32, edge.at, &circle));
                }
                if remarks.len() >= MOST_CIRCLES {
                    return remarks;
                }
            }
        }
        remarks
    }

    fn circle(&self, mailbox: u32, at: Place, circle: &[(u32, usize)]) -> Remark {
        const MOST_NAMES: usize = 6;
        let name = |number: u32| self.keys.get(number as usize).map_or("", String::as_str);
        let mut names: Vec<&str> = circle.iter().map(|(from, _)| name(*from)).collect();
        if names.len() > MOST_NAMES {
            names.truncate(MOST_NAMES);
            names.push("…");
        }
        names.push(name(mailbox));
        let way = names.join(" → ");
        Remark {
            mailbox,
            at,
            id: "forward-circle",
            message: format!("forwarded mail comes back: {way}"),
            help: "remove one of these forwards; until then mail is kept where it comes by twice",
        }
    }
}

fn unknown(number: usize, target: &Target) -> Remark {
    Remark {
        mailbox: u32::try_from(number).unwrap_or(u32::MAX),
        at: target.at,
        id: "unknown-address",
        message: format!("{} is no mailbox and no alias here", target.key),
        help: "name an address that exists, or give it a mailbox file (`mailboxes.unknown: reject`)",
    }
}

/// Drops the edges that lie on no circle for sure: to mailboxes without edges, from mailboxes
/// without a way to them.
fn prune(edges: &mut [Vec<Edge>]) {
    let mut ways_in = vec![0_usize; edges.len()];
    let mut back: Vec<Vec<u32>> = vec![Vec::new(); edges.len()];
    for (from, out) in edges.iter().enumerate() {
        for edge in out {
            if let Some(count) = ways_in.get_mut(edge.to as usize) {
                *count += 1;
            }
            if let Some(list) = back.get_mut(edge.to as usize) {
                list.push(from as u32);
            }
        }
    }
    let mut ways_out: Vec<usize> = edges.iter().map(Vec::len).collect();
    let drop_all = |first: Vec<u32>, counts: &mut Vec<usize>, next: &dyn Fn(u32) -> Vec<u32>| {
        let mut gone: Vec<u32> = first;
        while let Some(node) = gone.pop() {
            for other in next(node) {
                let Some(count) = counts.get_mut(other as usize) else {
                    continue;
                };
                *count = count.saturating_sub(1);
                if *count == 0 {
                    gone.push(other);
                }
            }
        }
    };
    let empty = |counts: &[usize]| {
        let all = (0_u32..).zip(counts);
        all.filter(|(_, count)| **count == 0)
            .map(|(node, _)| node)
            .collect::<Vec<_>>()
    };
    let followers = |node: u32| {
        let out = edges.get(node as usize).into_iter().flatten();
        out.map(|edge| edge.to).collect::<Vec<u32>>()
    };
    drop_all(empty(&ways_in), &mut ways_in, &followers);
    drop_all(empty(&ways_out), &mut ways_out, &|node| {
        back.get(node as usize).cloned().unwrap_or_default()
    });
    let lives = |node: usize| {
        ways_in.get(node).is_some_and(|n| *n > 0) && ways_out.get(node).is_some_and(|n| *n > 0)
    };
    for (from, out) in edges.iter_mut().enumerate() {
        out.retain(|edge| lives(from) && lives(edge.to as usize));
    }
}

/// The shortest way: the edges on it, each by its mailbox and index.
fn way(edges: &[Vec<Edge>], from: u32, to: u32, steps: &mut usize) -> Option<Vec<(u32, usize)>> {
    let mut came: HashMap<u32, (u32, usize)> = HashMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(node) = queue.pop_front() {
        if node == to {
            let mut way = Vec::new();
            let mut node = node;
            while node != from {
                let (before, index) = *came.get(&node)?;
                way.push((before, index));
                node = before;
            }
            way.reverse();
            return Some(way);
        }
        for (index, edge) in edges.get(node as usize)?.iter().enumerate() {
            *steps = steps.checked_sub(1)?;
            if edge.to != from && !came.contains_key(&edge.to) {
                came.insert(edge.to, (node, index));
                queue.push_back(edge.to);
            }
        }
    }
    None
}
