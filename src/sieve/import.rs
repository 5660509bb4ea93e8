//! A script of a webmail's rule editor as a mailbox file, and a list of what was not taken.
//!
//! The settings decide as the script does without the rules that are listed as not taken. So the
//! order of the others counts: settings reject first and forward by the first rule that matches, and
//! a rule that a script meets in another order is not taken. What is taken though it differs is
//! listed too: above all, held mail here is not forwarded, told of or answered.

mod actions;
mod reply;
mod stages;

use self::actions::Actions;
use super::period::{Period, period};
use super::rule::{Condition, Fact, Refusal, condition, refuse};
use super::script::{Argument, Node, Place, Script};
use super::yaml::{self, Taken};
use crate::mail::Address;

/// The result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The mailbox file.
    pub settings: String,
    /// What was not taken and what differs, in the order of the script.
    pub notes: Vec<Note>,
    /// Whether something was taken.
    pub took: bool,
}

/// One remark about a place of the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where.
    pub place: Place,
    /// What kind.
    pub kind: Kind,
    /// Why.
    pub reason: String,
}

/// The kinds of remarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The settings have nothing of it.
    NotTaken,
    /// Taken, but for what is said.
    Differs,
}

impl Kind {
    /// For a person.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotTaken => "not taken",
            Self::Differs => "differs",
        }
    }

    /// For JSON.
    pub fn id(self) -> &'static str {
        match self {
            Self::NotTaken => "not_taken",
            Self::Differs => "differs",
        }
    }
}

/// Makes settings of a script; `mailbox` is written as their owner.
pub fn import(script: &Script, mailbox: Option<&Address>) -> Import {
    let mut importer = Importer {
        owner: mailbox.map(Address::key),
        taken: Taken {
            mailbox: mailbox.map(ToString::to_string),
            ..Taken::default()
        },
        ..Importer::default()
    };
    importer.variables = script
        .commands
        .iter()
        .any(|node| node.name == "require" && strings(node).any(|name| name == "variables"));
    let units = units(&script.commands);
    let last_sender = units.iter().rposition(sends);
    for (at, unit) in units.iter().enumerate() {
        let behind = Behind {
            is_empty: at + 1 == units.len(),
            sends: last_sender.is_some_and(|last| last > at),
        };
        importer.unit(unit, behind);
    }
    let Importer {
        taken,
        mut notes,
        took,
        ..
    } = importer;
    notes.sort_by_key(|note| note.place);
    Import {
        settings: yaml::write(&taken),
        notes,
        took,
    }
}

/// What a script does in one go: a chain of `if`, or commands for every mail.
enum Unit<'a> {
    Chain(Vec<&'a Node>),
    Always(Vec<&'a Node>),
}

/// What stands behind a unit.
#[derive(Debug, Clone, Copy)]
struct Behind {
    is_empty: bool,
    /// Something is sent there.
    sends: bool,
}

fn units(commands: &[Node]) -> Vec<Unit<'_>> {
    let mut units: Vec<Unit<'_>> = Vec::new();
    for (at, node) in commands.iter().enumerate() {
        let next = commands.get(at + 1).map(|next| next.name.as_str());
        let alone = !matches!(next, Some("elsif" | "else"));
        match (node.name.as_str(), units.last_mut()) {
            ("require", _) => {}
            _ if alone && only_sets(node) => {}
            ("elsif" | "else", Some(Unit::Chain(chain))) => chain.push(node),
            ("if" | "elsif" | "else", _) => units.push(Unit::Chain(vec![node])),
            (_, Some(Unit::Always(list))) => list.push(node),
            _ => units.push(Unit::Always(vec![node])),
        }
    }
    units
}

/// Keeps text of the mail for a Subject or a notice; does nothing to the mail.
fn only_sets(node: &Node) -> bool {
    node.name == "set"
        || node.name == "if"
            && node
                .block
                .as_ref()
                .is_some_and(|block| !block.is_empty() && block.iter().all(only_sets))
}

#[derive(Default)]
struct Importer {
    taken: Taken,
    owner: Option<String>,
    notes: Vec<Note>,
    took: bool,
    variables: bool,
    /// The line of a `stop` that every mail comes to.
    ended: Option<u32>,
    /// Lines of forwards that were taken: one that ends the script, one that does not.
    closed: Option<u32>,
    open: Option<u32>,
    /// Rules without `stop`, which a later `keep` makes keep a copy.
    open_rules: Vec<usize>,
    /// What a branch above, of the same chain, does with its mail, and its line; not of rejects,
    /// which come first here as well.
    above: Option<(Deed, u32)>,
}

/// What is taken of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Reject,
    Allow,
    Forward,
    Reply,
}

impl Importer {
    fn unit(&mut self, unit: &Unit<'_>, behind: Behind) {
        match unit {
            Unit::Always(nodes) => self.always(nodes),
            Unit::Chain(chain) => {
                if let (Some(replies), Some(node)) = (self.replies_by_sender(chain), chain.first())
                {
                    self.finish(node, replies);
                    return;
                }
                // Of one chain a mail meets one branch only.
                let mut opened = None;
                let mut missed = None;
                for node in chain {
                    let before = self.open;
                    let taken = match missed {
                        // Its mail is what no other branch took.
                        Some(line) if node.name == "else" => refuse(
                            node,
                            format!("an `else` of line {line}, which was not taken"),
                        ),
                        _ => self.branch(node, behind),
                    };
                    opened = opened.or(self.open);
                    self.open = before;
                    missed = missed.or(taken.is_err().then_some(node.place.line));
                    self.finish(node, taken);
                }
                self.open = opened;
                self.above = None;
            }
        }
    }

    /// Notes a refusal.
    fn finish(&mut self, node: &Node, taken: Result<(), Refusal>) {
        let Err(Refusal { place, reason }) = taken else {
            return;
        };
        let name = title(node)
            .map(|name| format!("rule [{name}]: "))
            .unwrap_or_default();
        let off = node.inner().iter().any(|test| test.name == "false");
        let stops = node
            .block
            .iter()
            .flatten()
            .any(|inner| inner.name == "stop");
        let rest = if stops && !off {
            "; its mail goes on to the rules behind it"
        } else {
            ""
        };
        self.notes.push(Note {
            place,
            kind: Kind::NotTaken,
            reason: format!("{name}{reason}{rest}"),
        });
    }

    fn differs(&mut self, node: &Node, reason: impl Into<String>) {
        self.notes.push(Note {
            place: node.place,
            kind: Kind::Differs,
            reason: reason.into(),
        });
    }

    /// Commands without a condition, up to the next `if`.
    fn always(&mut self, nodes: &[&Node]) {
        let end = nodes.iter().position(|node| node.name == "stop");
        let (nodes, dead) = nodes.split_at(end.unwrap_or(nodes.len()));
        let mut actions = Actions::default();
        for node in nodes {
            let done = self
                .reachable(node)
                .and_then(|()| self.action(node, &mut actions));
            self.finish(node, done);
        }
        if let Some((node, _)) = actions.held {
            self.finish(node, refuse(node, "every mail would be held"));
        }
        if let Some(node) = actions.vacation {
            let done = self.reply(node, Period::default());
            self.finish(node, done);
        }
        for (node, to) in &actions.notices {
            let done = self.notify(node, to);
            self.finish(node, done);
        }
        if let Some((node, _)) = actions.redirects.first() {
            let whole = Condition {
                any: false,
                facts: vec![Fact::True],
            };
            let done = self.forward(&whole, &actions, None);
            self.finish(node, done);
        } else if actions.keep {
            for number in std::mem::take(&mut self.open_rules) {
                if let Some(rule) = self.taken.rules.get_mut(number) {
                    rule.keep_copy = true;
                }
            }
        }
        self.tell_flags(&actions);
        if let Some((stop, rest)) = dead.split_first() {
            self.ended = self.ended.or(Some(stop.place.line));
            for node in rest {
                let done = self.reachable(node);
                self.finish(node, done);
            }
        }
    }

    fn branch(&mut self, node: &Node, behind: Behind) -> Result<(), Refusal> {
        let block = node.block.as_deref().unwrap_or_default();
        let actions = self.actions(block.iter().filter(|inner| !only_sets(inner)));
        let test = node.inner().first();
        if let Some((first, others)) = actions.refused.split_first() {
            for Refusal { place, reason } in others.iter().cloned() {
                self.notes.push(Note {
                    place,
                    kind: Kind::NotTaken,
                    reason,
                });
            }
            return Err(first.clone());
        }
        if let Some(vacation) = actions.vacation {
            return self.timed_reply(vacation, node, &actions, behind);
        }
        let found = match test {
            Some(test) => condition(test, self.variables)?,
            None => Condition {
                any: false,
                facts: vec![Fact::True],
            },
        };
        if let Some((notice, _)) = actions.notices.first() {
            return refuse(notice, "a notice is sent of every mail or of none");
        }
        match (actions.held, actions.redirects.is_empty()) {
            (Some((held, _)), false) => return refuse(held, "held mail is not forwarded"),
            (Some(_), true) => {
                self.alone(node, Deed::Reject)?;
                self.reject(node, &found, &actions, behind)?;
            }
            (None, false) => {
                self.alone(node, Deed::Forward)?;
                self.forward(&found, &actions, title(node))?;
                self.did(node, Deed::Forward);
            }
            (None, true) if actions.stop => {
                self.alone(node, Deed::Allow)?;
                self.allow(node, &found, behind)?;
                self.did(node, Deed::Allow);
            }
            (None, true) if !actions.flags.is_empty() => {
                return refuse(node, "flags are not set here");
            }
            (None, true) => return refuse(node, "it does nothing"),
        }
        self.tell_flags(&actions);
        Ok(())
    }

    /// A reply under a test of the time.
    fn timed_reply(
        &mut self,
        vacation: &Node,
        node: &Node,
        actions: &Actions<'_>,
        behind: Behind,
    ) -> Result<(), Refusal> {
        let (Some(test), None, true) = (
            node.inner().first(),
            actions.held,
            actions.redirects.is_empty(),
        ) else {
            return refuse(
                vacation,
                "a reply stands alone, under a test of the time or of the envelope's sender",
            );
        };
        if actions.stop && !behind.is_empty {
            return refuse(
                vacation,
                "it ends the script; here what stands behind is done as well",
            );
        }
        self.alone(node, Deed::Reply)?;
        self.reply(vacation, period(test)?)?;
        self.did(node, Deed::Reply);
        Ok(())
    }

    /// Of the branches of a chain a script does one. So do settings with rules, and with rejects
    /// behind what is allowed; elsewhere a mail of both branches would meet both.
    fn alone(&self, node: &Node, deed: Deed) -> Result<(), Refusal> {
        match (self.above, deed) {
            (None, _)
            | (Some((Deed::Forward, _)), Deed::Forward)
            | (Some((Deed::Allow, _)), Deed::Allow | Deed::Reject) => Ok(()),
            (Some((_, line)), _) => refuse(
                node,
                format!(
                    "an `{}` of line {line}: here it would be done for that line's mail as well",
                    node.name
                ),
            ),
        }
    }

    fn did(&mut self, node: &Node, deed: Deed) {
        self.above = self.above.or(Some((deed, node.place.line)));
    }

    fn tell_flags(&mut self, actions: &Actions<'_>) {
        for node in &actions.flags {
            let reason = "flags are not set here".to_owned();
            self.notes.push(Note {
                place: node.place,
                kind: Kind::NotTaken,
                reason,
            });
        }
    }

    fn reachable(&self, node: &Node) -> Result<(), Refusal> {
        match self.ended {
            Some(line) => refuse(node, format!("never reached: line {line} ends the script")),
            None => Ok(()),
        }
    }
}

/// An address for comparison.
fn key(address: &str) -> String {
    Address::parse(address).map_or_else(|_| address.to_owned(), |address| address.key())
}

/// The name that the editor gave the rule in a comment.
fn title(node: &Node) -> Option<String> {
    let line = node.comments.last()?;
    let roundcube = line
        .strip_prefix("rule:[")
        .and_then(|name| name.strip_suffix(']'));
    let mark = line.contains("###") || line.starts_with("FILTER:") || line.starts_with("DATA:");
    let name = roundcube.or(Some(line.as_str()).filter(|_| !mark))?;
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    (!name.is_empty()).then_some(name)
}

fn strings(node: &Node) -> impl Iterator<Item = &str> {
    node.arguments
        .iter()
        .flat_map(|argument| match argument {
            Argument::Strings(texts) => texts.as_slice(),
            _ => &[],
        })
        .map(String::as_str)
}

/// Whether the unit sends something.
fn sends(unit: &Unit<'_>) -> bool {
    fn within(node: &Node) -> bool {
        let word = node.name.as_str();
        matches!(word, "redirect" | "vacation" | "notify" | "include")
            || node.block.iter().flatten().any(within)
    }
    let (Unit::Chain(nodes) | Unit::Always(nodes)) = unit;
    nodes.iter().any(|node| within(node))
}
