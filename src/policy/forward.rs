//! Stage 7: which targets a mail goes on to, and why.
//!
//! Loops end here (RFC 5321 6.3): a looping mail, and one whose only targets are the owner's own
//! addresses, is kept instead of forwarded.

use super::screen::{from_addresses, subjects};
use super::{
    Action, Arrival, ForwardRule, Forwarding, Hit, Outcome, Plan, Policy, Redirect, SizeCondition,
    Stage, Step, Verdict,
};
use crate::mail::Message;

/// The redirect that applies, what `forward.rule` calls it, and the entry that decided.
struct Chosen<'a> {
    redirect: &'a Redirect,
    rule: String,
    hit: Hit,
}

impl Policy {
    pub(super) fn forwarding_stage(
        &self,
        plan: &mut Plan,
        message: &Message,
        arrival: &Arrival<'_>,
    ) {
        let moot = plan.verdict != Verdict::Deliver || Self::is_looping(message, arrival);
        if moot || !self.is_on(Stage::Forwarding) {
            plan.trail.push(self.unasked(Stage::Forwarding));
            return;
        }
        let Some(chosen) = self.forwarding.choose(message) else {
            plan.trail.push(Step::asked(Stage::Forwarding, None));
            return;
        };
        let own = self.own_keys(arrival);
        let mut to = chosen.redirect.to.clone();
        to.retain(|target| !own.contains(&target.key()));
        if to.is_empty() {
            plan.trail.push(self.unasked(Stage::Forwarding));
            return;
        }
        let keep_copy = chosen.redirect.keep_copy || to.len() < chosen.redirect.to.len();
        if !keep_copy {
            plan.verdict = Verdict::Forward;
        }
        plan.note(Stage::Forwarding, Outcome::Match, Some(chosen.hit));
        plan.forward_rule = Some(chosen.rule);
        plan.actions.push(Action::Redirect { to, keep_copy });
    }

    /// The owner's own addresses, and the one that the mail came to, as keys.
    pub(super) fn own_keys(&self, arrival: &Arrival<'_>) -> Vec<String> {
        let named = [&self.mailbox, arrival.recipient];
        let own = named.into_iter().chain(&self.aliases);
        own.map(|address| address.key()).collect()
    }
}

impl Forwarding {
    fn choose(&self, message: &Message) -> Option<Chosen<'_>> {
        match self {
            Self::Off => None,
            Self::All(redirect) => {
                let rule = "forwarding.all".to_owned();
                let hit = Hit {
                    entry: rule.clone(),
                    origin: None,
                };
                Some(Chosen {
                    redirect,
                    rule,
                    hit,
                })
            }
            Self::Rules(rules) => rules
                .iter()
                .enumerate()
                .filter(|(_, rule)| !rule.paused)
                .find_map(|(number, rule)| {
                    let entry = rule.matches(message)?;
                    let name = format!("forwarding.rules[{number}]");
                    let whole = || Hit {
                        entry: name.clone(),
                        origin: Some(rule.origin.clone()),
                    };
                    let hit = entry.unwrap_or_else(whole);
                    Some(Chosen {
                        redirect: &rule.redirect,
                        rule: name,
                        hit,
                    })
                }),
        }
    }
}

impl ForwardRule {
    /// `None`: the rule does not apply. Otherwise the entry of its first list condition that
    /// holds, if one does. A rule without conditions never applies.
    fn matches(&self, message: &Message) -> Option<Option<Hit>> {
        let subject = self
            .subject_contains
            .as_ref()
            .map(|set| set.find_any(subjects(message)));
        let from = self
            .from_suffixes
            .as_ref()
            .map(|set| set.find_any(from_addresses(message)));
        let held = [
            subject.as_ref().map(Option::is_some),
            from.as_ref().map(Option::is_some),
            self.attachment.map(|wanted| wanted == message.attachment),
            self.size.map(|condition| condition.holds(message.size)),
        ];
        let mut held = held.into_iter().flatten().peekable();
        held.peek()?;
        let applies = if self.any {
            held.any(|holds| holds)
        } else {
            held.all(|holds| holds)
        };
        applies.then(|| subject.flatten().or(from.flatten()))
    }
}

impl SizeCondition {
    fn holds(self, size: u64) -> bool {
        match self {
            Self::AtLeast(bound) => size >= bound,
            Self::AtMost(bound) => size <= bound,
        }
    }
}
