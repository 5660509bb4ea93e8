//! The settings of a mailbox as a script for Dovecot Pigeonhole (0.5), and a list of what it
//! decides differently.
//!
//! The order is the pipeline's. Quarantine is a folder; what lies there goes no further (`stop`).
//! `tests/sieve` runs script and settings over real mail and holds them against each other.

mod head;
mod pieces;

use self::head::{headed, uses_dollar};
use self::pieces::*;
use super::script::{Node, Script};
use super::spelling;
use crate::mail::Address;
use crate::policy::{
    Allow, AllowSet, AutoReply, ForwardRule, Forwarding, Hit, Notify, NotifyField, Origin, Policy,
    Redirect, SubstringSet, SuffixSet,
};

/// The folder that stands for the quarantine.
pub const QUARANTINE: &str = "Quarantine";
/// Why a stage that asks a scanner of ours has no counterpart.
const ENGINE: &str = "a script asks no scanner: it sees header fields of one before it, if any";
/// Redirects that Pigeonhole carries out for one mail unless told otherwise.
const DEFAULT_REDIRECTS: usize = 4;
/// Octets of a script that Pigeonhole reads unless told otherwise.
const DEFAULT_SCRIPT_BYTES: usize = 1 << 20;

/// What is exported.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// The mailbox.
    pub policy: &'a Policy,
    /// Where the MTA's own virus scanner says so.
    pub virus: Option<Finding<'a>>,
    /// Where the MTA's own spam scanner says so.
    pub spam: Option<Finding<'a>>,
}

/// A header field and the word that its value begins with when a scanner found something.
#[derive(Debug, Clone, Copy)]
pub struct Finding<'a> {
    /// Field name.
    pub header: &'a str,
    /// The word, in any case.
    pub word: &'a str,
}

/// The result.
#[derive(Debug, Clone)]
pub struct Export {
    /// The script; its first lines repeat the list.
    pub script: Script,
    /// What it decides differently, in the order of the stages.
    pub differences: Vec<Difference>,
}

/// Something that a script cannot say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The line of the settings, where one line is to blame.
    pub origin: Option<Origin>,
    /// The setting as in a mailbox file: `reject.subject_contains`.
    pub setting: &'static str,
    /// What differs.
    pub reason: String,
}

/// Writes the script.
pub fn export(settings: &Settings<'_>) -> Export {
    let mut writer = Writer {
        policy: settings.policy,
        differences: Vec::new(),
    };
    let mut commands = writer.screening();
    commands.extend(writer.facts());
    commands.extend(writer.virus(settings.virus));
    commands.extend(writer.spam(settings.spam));
    commands.extend(writer.side_effects());
    commands.extend(writer.mark());
    if uses_dollar(&commands) {
        commands.insert(0, set("dollar", "$"));
    }
    let script = Script { commands };
    let octets = script.to_string().len();
    if octets > DEFAULT_SCRIPT_BYTES {
        writer.differs(
            "mailbox",
            format!("a script of {octets} octets: set sieve_max_script_size higher than that"),
        );
    }
    let Writer {
        policy,
        differences,
    } = writer;
    Export {
        script: headed(script, policy, &differences),
        differences,
    }
}

struct Writer<'a> {
    policy: &'a Policy,
    differences: Vec<Difference>,
}

impl Writer<'_> {
    fn differs(&mut self, setting: &'static str, reason: impl Into<String>) {
        self.differs_at(None, setting, reason);
    }

    fn differs_at(
        &mut self,
        origin: Option<Origin>,
        setting: &'static str,
        reason: impl Into<String>,
    ) {
        self.differences.push(Difference {
            origin,
            setting,
            reason: reason.into(),
        });
    }

    /// Stages 1-4.
    fn screening(&mut self) -> Vec<Node> {
        let Allow {
            before_reject,
            senders,
            verified_senders,
        } = &self.policy.allow;
        let mut commands = Vec::new();
        for hit in verified_senders.entries() {
            let reason = format!(
                "`{}`: a script cannot ask for DMARC; not written",
                hit.entry
            );
            self.differs_at(hit.origin, "allow.verified_senders", reason);
        }
        if self.policy.announcements.is_some() {
            let reason =
                "operator announcements are not known: a script cannot ask for proof of the sender";
            self.differs("announcements", reason);
        }
        let allow_counts = *before_reject || self.policy.spam.is_some();
        let allows = allow_counts && !senders.is_empty();
        if allows {
            let test = self.allow_test("allow.senders", "address", senders);
            let yes = vec![set("allowed", "yes")];
            commands.push(
                Node::new("if")
                    .test(test)
                    .block(yes)
                    .comment("")
                    .comment("allow"),
            );
        }
        let rejects = self.rejects();
        if allows && *before_reject && !rejects.is_empty() {
            let test = Node::negated(is_set("allowed"));
            commands.push(Node::new("if").test(test).block(rejects));
        } else {
            commands.extend(rejects);
        }
        commands
    }

    fn rejects(&mut self) -> Vec<Node> {
        let mut commands = Vec::new();
        let Policy {
            from_suffixes,
            subject_contains,
            headers,
            ..
        } = self.policy;
        if !from_suffixes.is_empty() {
            let test = self.suffix_test("reject.from_suffixes", from_suffixes);
            commands.push(held("reject.from_suffixes", test));
        }
        if !subject_contains.is_empty() {
            let test = self.subject_test("reject.subject_contains", subject_contains);
            commands.push(held("reject.subject_contains", test));
        }
        if !headers.is_empty() {
            let tests = headers
                .iter()
                .map(|rule| header_test(rule.condition))
                .collect();
            commands.push(held("reject.headers", Node::any(tests)));
        }
        if self.policy.notice_user_rule && !commands.is_empty() {
            let reason = "the owner is not told of mail that these rules hold";
            self.differs("spam.notice_includes", reason);
        }
        commands
    }

    /// What later stages ask for.
    fn facts(&self) -> Option<Node> {
        let asks = |rule: &ForwardRule| !rule.paused && rule.attachment.is_some();
        let asked =
            matches!(&self.policy.forwarding, Forwarding::Rules(rules) if rules.iter().any(asks));
        let notify = self.policy.notify.as_ref();
        let told = notify.is_some_and(|notify| notify.fields.contains(&NotifyField::Attachment));
        (asked || told).then(attachment)
    }

    /// Stage 5. The report that stands in for an infected mail cannot be written by a script.
    fn virus(&mut self, field: Option<Finding<'_>>) -> Option<Node> {
        if !self.policy.virus {
            return None;
        }
        let Some(field) = field else {
            self.differs("virus.scan", ENGINE);
            return None;
        };
        let reason = "an infected mail is held and no report is delivered in its place";
        self.differs("virus.scan", reason);
        let mut block = vec![file()];
        block.extend(self.notices());
        block.push(Node::new("stop"));
        Some(
            Node::new("if")
                .test(found(field))
                .block(block)
                .comment("")
                .comment("virus"),
        )
    }

    /// Stage 6.
    fn spam(&mut self, field: Option<Finding<'_>>) -> Option<Node> {
        let spam = self.policy.spam.as_ref()?;
        let Some(field) = field else {
            self.differs("spam.scan", ENGINE);
            return None;
        };
        let mut test = found(field);
        if !self.policy.allow.senders.is_empty() {
            test = Node::all(vec![test, Node::negated(is_set("allowed"))]);
        }
        if !spam.quarantine {
            let yes = vec![set("tagged", "yes")];
            return Some(
                Node::new("if")
                    .test(test)
                    .block(yes)
                    .comment("")
                    .comment("spam"),
            );
        }
        if spam.notice_each {
            self.differs("spam.notice", "the owner is not told of held spam");
        }
        Some(held("spam", test))
    }

    /// Stages 7-9: none for a mail that is looping.
    fn side_effects(&mut self) -> Vec<Node> {
        let Policy {
            forwarding,
            notify,
            auto_reply,
            ..
        } = self.policy;
        let forwards = match forwarding {
            Forwarding::Off => Vec::new(),
            Forwarding::All(redirect) => self.redirects(redirect, None).unwrap_or_default(),
            Forwarding::Rules(rules) => self.rules(rules),
        };
        let mut block = Vec::new();
        block.extend(titled(forwards, "forwarding"));
        let tells_size = |notify: &Notify| notify.fields.contains(&NotifyField::Size);
        if notify.as_ref().is_some_and(tells_size) {
            let reason = "the size is not told: a script does not know it";
            self.differs("notify.fields", reason);
        }
        block.extend(self.notices());
        if let Some(reply) = auto_reply {
            block.push(self.auto_reply(reply));
        }
        if block.is_empty() {
            return block;
        }
        let looping = Node::new("header")
            .tag("count")
            .string("gt")
            .tag("comparator")
            .string("i;ascii-numeric");
        let looping = looping.string("received").string("100");
        vec![
            Node::new("if")
                .test(Node::negated(looping))
                .block(block)
                .comment(""),
        ]
    }

    /// Stage 7: the first rule that matches.
    fn rules(&mut self, rules: &[ForwardRule]) -> Vec<Node> {
        let mut chain: Vec<Node> = Vec::new();
        for (number, rule) in rules.iter().enumerate().filter(|(_, rule)| !rule.paused) {
            let Some(test) = self.condition(rule) else {
                continue;
            };
            let origin = Some(rule.origin.clone());
            // A rule whose targets are all the owner's own still ends the search.
            let block = self.redirects(&rule.redirect, origin).unwrap_or_default();
            let word = if chain.is_empty() { "if" } else { "elsif" };
            let name = format!("forwarding.rules[{number}]");
            chain.push(Node::new(word).test(test).block(block).comment(name));
        }
        chain
    }

    fn condition(&mut self, rule: &ForwardRule) -> Option<Node> {
        const SETTING: &str = "forwarding.rules";
        let mut tests = Vec::new();
        if let Some(subjects) = &rule.subject_contains {
            tests.push(self.subject_test(SETTING, subjects));
        }
        if let Some(suffixes) = &rule.from_suffixes {
            tests.push(self.suffix_test(SETTING, suffixes));
        }
        if let Some(wanted) = rule.attachment {
            let has = is_set("attachment");
            tests.push(if wanted { has } else { Node::negated(has) });
        }
        tests.extend(rule.size.map(size_test));
        if tests.is_empty() {
            return None;
        }
        Some(if rule.any {
            Node::any(tests)
        } else {
            Node::all(tests)
        })
    }

    /// The owner's own addresses are no targets; `None` when there is no other.
    fn redirects(&mut self, redirect: &Redirect, origin: Option<Origin>) -> Option<Vec<Node>> {
        let own = own_keys(self.policy);
        let targets: Vec<&Address> = redirect
            .to
            .iter()
            .filter(|to| !own.contains(&to.key()))
            .collect();
        let keep = redirect.keep_copy || targets.len() < redirect.to.len();
        if targets.len() > DEFAULT_REDIRECTS {
            let reason = format!("{} targets: set sieve_max_redirects to that", targets.len());
            self.differs_at(origin, "forwarding", reason);
        }
        let redirect = |to: &&Address| {
            let node = Node::new("redirect");
            let node = if keep { node.tag("copy") } else { node };
            node.string(literal(&to.to_string()))
        };
        (!targets.is_empty()).then(|| targets.iter().map(redirect).collect())
    }

    /// Stage 8. Mail of robots triggers no notice.
    fn notices(&self) -> Option<Node> {
        let notify = self.policy.notify.as_ref()?;
        let person = Node::negated(auto_submitted());
        let block = notices(self.policy, notify);
        Some(
            Node::new("if")
                .test(person)
                .block(block)
                .comment("")
                .comment("notify"),
        )
    }

    /// Stage 9.
    fn auto_reply(&mut self, reply: &AutoReply) -> Node {
        if reply.interval % DAY != 0 || reply.interval < DAY {
            let reason = format!(
                "one reply a sender in whole days, here in {} seconds",
                reply.interval
            );
            self.differs("auto_reply", reason);
        }
        let mut chain: Vec<Node> = Vec::new();
        for other in &reply.per_sender {
            let test = self.allow_test("auto_reply.per_sender", "envelope", &other.senders);
            let word = if chain.is_empty() { "if" } else { "elsif" };
            let block = vec![vacation(self.policy, reply, &other.message)];
            chain.push(Node::new(word).test(test).block(block));
        }
        let common = vec![vacation(self.policy, reply, &reply.message)];
        if chain.is_empty() {
            chain = common;
        } else {
            chain.push(Node::new("else").block(common));
        }
        if self.policy.spam.is_some() {
            // Nobody answers what is tagged as spam.
            chain = vec![
                Node::new("if")
                    .test(Node::negated(is_set("tagged")))
                    .block(chain),
            ];
        }
        if reply.subject.contains("%{subject}") {
            chain.insert(0, remembered("subject"));
        }
        let mut tests = Vec::new();
        tests.extend(reply.start.map(|start| moment("ge", start)));
        tests.extend(reply.end.map(|end| moment("lt", end.saturating_add(1))));
        tests.push(Node::negated(Node::any(robots())));
        Node::new("if")
            .test(Node::all(tests))
            .block(chain)
            .comment("")
            .comment("auto_reply")
    }

    /// The mark stands on the local copy only, so it comes behind the forwards.
    fn mark(&mut self) -> Option<Node> {
        let spam = self.policy.spam.as_ref()?;
        if spam.quarantine || spam.mark_subject.is_empty() {
            return None;
        }
        self.differs("spam.mark_subject", "marked only where the extension editheader is enabled (sieve_extensions = +editheader)");
        let marked = format!("{} ${{subject}}", literal(&spam.mark_subject));
        let edit = vec![
            remembered("subject"),
            Node::new("deleteheader").string("Subject"),
            Node::new("addheader").string("Subject").string(marked),
        ];
        let able = Node::new("ihave").string("editheader");
        let test = Node::all(vec![is_set("tagged"), able]);
        Some(
            Node::new("if")
                .test(test)
                .block(edit)
                .comment("")
                .comment("spam: the mark"),
        )
    }

    fn subject_test(&mut self, setting: &'static str, set: &SubstringSet) -> Node {
        let reason = "in the Subject only the case of ASCII letters is folded; the spellings \
                      written out are found, others (mixed widths, separate voice marks, runs of \
                      white space) are not";
        let said = self.differences.iter().any(|d| d.reason == reason);
        if !said {
            self.differs(setting, reason);
        }
        let spellings = set
            .entries()
            .flat_map(|hit| spelling::of_subject(&hit.entry));
        let node = Node::new("header").tag("contains").string("subject");
        node.strings(spellings.map(|text| literal(&text)).collect())
    }

    fn suffix_test(&mut self, setting: &'static str, set: &SuffixSet) -> Node {
        let patterns = self.spellings(setting, set.entries());
        let ends = patterns.iter().map(|text| ends_with(text)).collect();
        Node::new("address")
            .tag("all")
            .tag("matches")
            .string("from")
            .strings(ends)
    }

    /// Entries with a local part are whole addresses.
    fn allow_test(&mut self, setting: &'static str, test: &str, set: &AllowSet) -> Node {
        let spellings = self.spellings(setting, set.entries());
        let is_whole = |text: &String| text.rfind('@').is_some_and(|at| at > 0);
        let (whole, ends): (Vec<_>, Vec<_>) = spellings.into_iter().partition(is_whole);
        let node = |kind: &str, texts: Vec<String>| {
            let node = Node::new(test).tag("all").tag(kind).string("from");
            (!texts.is_empty()).then(|| node.strings(texts))
        };
        let whole = node("is", whole.iter().map(|text| literal(text)).collect());
        let ends = node("matches", ends.iter().map(|text| ends_with(text)).collect());
        Node::any(whole.into_iter().chain(ends).collect())
    }

    fn spellings(
        &mut self,
        setting: &'static str,
        entries: impl Iterator<Item = Hit>,
    ) -> Vec<String> {
        let mut all = Vec::new();
        for hit in entries {
            let (forms, doubt) = spelling::of_address(&hit.entry);
            if let Some(doubt) = doubt {
                self.differs_at(hit.origin, setting, format!("`{}`: {doubt}", hit.entry));
            }
            all.extend(forms);
        }
        all
    }
}

fn titled(mut nodes: Vec<Node>, title: &str) -> Vec<Node> {
    if let Some(first) = nodes.first_mut() {
        first
            .comments
            .splice(0..0, [String::new(), title.to_owned()]);
    }
    nodes
}
