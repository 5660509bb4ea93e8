//! What is taken into the stages: held, allowed, forwarded, told of.

use super::super::rule::{Condition, Fact, Refusal, refuse};
use super::super::script::Node;
use super::super::yaml::{Distinct, Rule};
use super::actions::Actions;
use super::{Behind, Importer, key};
use crate::mail::Folded;
use crate::mail::fold::{fold, fold_address};

/// Rules and targets that settings may have (the built-in limits).
const MOST_RULES: usize = 10;
const MOST_TARGETS: usize = 10;
/// Addresses of a receipt notice (the built-in limit).
const MOST_NOTIFIED: usize = 3;
/// Octets of a list of a rule, one more for each entry (the built-in limit).
const MOST_LIST_BYTES: usize = 100 << 10;

const WHOLE: &str = "an entry is the end of an address: one that only ends like it is met as well";

impl Importer {
    /// Stages 1-3.
    pub(super) fn reject(
        &mut self,
        node: &Node,
        found: &Condition,
        actions: &Actions<'_>,
        behind: Behind,
    ) -> Result<(), Refusal> {
        self.reachable(node)?;
        if let Some(line) = self.closed {
            return refuse(
                node,
                format!(
                    "behind line {line}, which ends the script; here mail is rejected before it is forwarded"
                ),
            );
        }
        if actions.keep {
            return refuse(node, "mail that is held is not kept as well");
        }
        if found.facts.len() > 1 && !found.any {
            return refuse(
                node,
                "several conditions at once hold no mail here, each does alone",
            );
        }
        for fact in &found.facts {
            if matches!(fact, Fact::True | Fact::Size(..)) {
                return refuse(node, "mail is held for its Subject or its From only");
            }
        }
        let silent =
            self.open.is_some() || self.taken.reply.is_some() || !self.taken.notify.is_empty();
        if silent || !actions.stop && behind.sends {
            self.differs(node, "mail held here is not forwarded, told of or answered");
        }
        if let Some((held, Some(why))) = actions.held {
            self.differs(held, why);
        }
        for fact in &found.facts {
            match fact {
                Fact::Subject(entries) => add(&mut self.taken.subjects, entries, fold),
                Fact::From { entries, whole } => {
                    if *whole {
                        self.differs(node, WHOLE);
                    }
                    add(&mut self.taken.suffixes, entries, fold_address);
                }
                Fact::Header(word) if !self.taken.headers.contains(word) => {
                    self.taken.headers.push(word)
                }
                Fact::Header(_) | Fact::True | Fact::Size(..) => {}
            }
        }
        self.took = true;
        Ok(())
    }

    /// Stage 4: what keeps mail from the rejects behind it.
    pub(super) fn allow(
        &mut self,
        node: &Node,
        found: &Condition,
        behind: Behind,
    ) -> Result<(), Refusal> {
        self.reachable(node)?;
        let rejects = &self.taken;
        if !rejects.suffixes.is_empty()
            || !rejects.subjects.is_empty()
            || !rejects.headers.is_empty()
        {
            return refuse(
                node,
                "behind rules that hold mail; an allow entry would win over them",
            );
        }
        if self.open.is_some() || self.closed.is_some() || behind.sends {
            return refuse(
                node,
                "it ends the script; here an allowed mail is still forwarded, told of and answered",
            );
        }
        let mut senders = Vec::new();
        for fact in &found.facts {
            match fact {
                Fact::From { entries, .. } if found.any || found.facts.len() == 1 => {
                    senders.extend(entries.clone())
                }
                _ => return refuse(node, "mail is allowed for its From only"),
            }
        }
        add(&mut self.taken.allowed, &senders, fold_address);
        self.took = true;
        Ok(())
    }

    /// Stage 7.
    pub(super) fn forward(
        &mut self,
        found: &Condition,
        actions: &Actions<'_>,
        name: Option<String>,
    ) -> Result<(), Refusal> {
        let Some((node, _)) = actions.redirects.first() else {
            return Ok(());
        };
        self.reachable(node)?;
        if let Some(line) = self.open {
            return refuse(
                node,
                format!(
                    "line {line} does not end the script: both would forward, here the first rule does alone"
                ),
            );
        }
        let rule = self.rule(node, found, actions, name)?;
        self.took = true;
        let line = Some(node.place.line);
        if actions.stop {
            self.closed = self.closed.or(line);
        } else {
            self.open = line;
            self.open_rules.push(self.taken.rules.len());
        }
        self.taken.rules.push(rule);
        Ok(())
    }

    fn rule(
        &mut self,
        node: &Node,
        found: &Condition,
        actions: &Actions<'_>,
        name: Option<String>,
    ) -> Result<Rule, Refusal> {
        let mut to = Distinct::default();
        for (_, target) in &actions.redirects {
            to.add(key(target), target);
        }
        if self.taken.rules.len() >= MOST_RULES || to.texts().len() > MOST_TARGETS {
            return refuse(
                node,
                format!("at most {MOST_RULES} rules with {MOST_TARGETS} targets each"),
            );
        }
        let is_own = |key: &String| Some(key) == self.owner.as_ref();
        if to
            .keys()
            .any(|key| is_own(key) || self.taken.aliases.has(key))
        {
            return refuse(node, "a forward to the mailbox itself");
        }
        let mut rule = Rule {
            name,
            any: found.any,
            to,
            keep_copy: actions.keep || !actions.plain,
            ..Rule::default()
        };
        for fact in &found.facts {
            self.forward_fact(node, fact, &mut rule, found.any)?;
        }
        for list in [&rule.subjects, &rule.suffixes] {
            let sizes = list.texts().iter().map(|entry| entry.len() + 1);
            if sizes.sum::<usize>() > MOST_LIST_BYTES {
                return refuse(node, "a list of a rule has at most 100 KiB");
            }
        }
        Ok(rule)
    }

    fn forward_fact(
        &mut self,
        node: &Node,
        fact: &Fact,
        rule: &mut Rule,
        any: bool,
    ) -> Result<(), Refusal> {
        let twice = "twice the same kind of condition at once has no counterpart";
        match fact {
            Fact::True => {}
            Fact::Subject(_) if !any && !rule.subjects.is_empty() => return refuse(node, twice),
            Fact::From { .. } if !any && !rule.suffixes.is_empty() => return refuse(node, twice),
            Fact::Size(..) if rule.size.is_some() => {
                return refuse(node, "a rule has one bound of the size");
            }
            Fact::Subject(entries) => add(&mut rule.subjects, entries, fold),
            Fact::From { entries, whole } => {
                if *whole {
                    self.differs(node, WHOLE);
                }
                add(&mut rule.suffixes, entries, fold_address);
            }
            Fact::Size(bound, octets) => rule.size = Some((bound, *octets)),
            Fact::Header(_) => {
                return refuse(
                    node,
                    "a missing or empty field holds mail, it does not forward it",
                );
            }
        }
        Ok(())
    }

    /// Stage 8.
    pub(super) fn notify(&mut self, node: &Node, to: &str) -> Result<(), Refusal> {
        self.reachable(node)?;
        self.unconditional(node)?;
        if self.taken.notify.texts().len() >= MOST_NOTIFIED {
            return refuse(
                node,
                format!("at most {MOST_NOTIFIED} addresses get a notice"),
            );
        }
        self.taken.notify.add(key(to), to);
        self.differs(node, "the notice has our own text");
        self.took = true;
        Ok(())
    }

    /// Notices and replies are for every mail that is not held, forwarded or not.
    pub(super) fn unconditional(&self, node: &Node) -> Result<(), Refusal> {
        match self.closed {
            Some(line) => refuse(
                node,
                format!(
                    "behind line {line}, which ends the script; here forwarded mail is told of and answered as well"
                ),
            ),
            None => Ok(()),
        }
    }
}

/// Adds the entries that are not there in another spelling.
fn add(list: &mut Distinct, entries: &[String], fold: fn(&str) -> Folded) {
    for entry in entries {
        list.add(fold(entry).as_str().to_owned(), entry);
    }
}
