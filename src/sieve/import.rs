//! A script of a webmail's rule editor as a mailbox file, and a list of what was not taken.
//!
//! The settings decide as the script does without the rules that are listed as not taken. So the
//! order of the others counts: settings reject first and forward by the first rule that matches, and
//! a rule that a script meets in another order is not taken. What is taken though it differs is
//! listed too: above all, held mail here is not forwarded, told of or answered.

use super::rule::{self, Condition, Fact, Period, Refusal, condition, refuse};
use super::script::{Argument, Node, Place, Script};
use super::yaml::{self, Reply, Rule, Taken};
use crate::mail::Address;
use crate::mail::fold::{fold, fold_address};

/// Last parts of the names of folders that mail is thrown into (in lower case).
const JUNK: [&str; 14] = [
    "junk",
    "spam",
    "trash",
    "quarantine",
    "bulk",
    "bulk mail",
    "junk mail",
    "junk e-mail",
    "junk email",
    "deleted items",
    "deleted messages",
    "迷惑メール",
    "ゴミ箱",
    "隔離",
];
/// Rules and targets that settings may have (the built-in limits).
const MOST_RULES: usize = 10;
const MOST_TARGETS: usize = 10;
/// Addresses of a receipt notice (the built-in limit).
const MOST_NOTIFIED: usize = 3;

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
    for (at, unit) in units.iter().enumerate() {
        importer.unit(unit, units.get(at + 1..).unwrap_or_default());
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

fn units(commands: &[Node]) -> Vec<Unit<'_>> {
    let mut units: Vec<Unit<'_>> = Vec::new();
    for node in commands
        .iter()
        .filter(|node| node.name != "require" && !only_sets(node))
    {
        match (node.name.as_str(), units.last_mut()) {
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

/// What a block does.
#[derive(Default)]
struct Actions<'a> {
    /// Something without a counterpart.
    refused: Vec<Refusal>,
    /// Put into a folder of thrown-away mail, discarded or refused; why that is not the same.
    held: Option<(&'a Node, Option<&'static str>)>,
    redirects: Vec<(&'a Node, String)>,
    copies: bool,
    keep: bool,
    stop: bool,
    vacation: Option<&'a Node>,
    notices: Vec<(&'a Node, String)>,
    flags: Vec<&'a Node>,
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
}

impl Importer {
    fn unit(&mut self, unit: &Unit<'_>, behind: &[Unit<'_>]) {
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
                for node in chain {
                    let before = self.open;
                    let taken = self.branch(node, behind);
                    opened = opened.or(self.open);
                    self.open = before;
                    self.finish(node, taken);
                }
                self.open = opened;
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

    fn branch(&mut self, node: &Node, behind: &[Unit<'_>]) -> Result<(), Refusal> {
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
        if let (Some(vacation), Some(test)) = (actions.vacation, test)
            && actions.held.is_none()
            && actions.redirects.is_empty()
        {
            if actions.stop && !behind.is_empty() {
                return refuse(
                    vacation,
                    "it ends the script; here what stands behind is done as well",
                );
            }
            let period = rule::period(test)?;
            self.reply(vacation, period)?;
            return Ok(());
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
            (Some(_), true) => self.reject(node, &found, &actions, behind)?,
            (None, false) => {
                self.forward(&found, &actions, title(node))?;
            }
            (None, true) if actions.stop => self.allow(node, &found, behind)?,
            (None, true) if !actions.flags.is_empty() => {
                return refuse(node, "flags are not set here");
            }
            (None, true) => return refuse(node, "it does nothing"),
        }
        self.tell_flags(&actions);
        Ok(())
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

    fn actions<'a>(&self, nodes: impl Iterator<Item = &'a Node>) -> Actions<'a> {
        let mut actions = Actions::default();
        for node in nodes {
            let refusal = self.action(node, &mut actions).err();
            actions.refused.extend(refusal);
        }
        actions
    }

    fn action<'a>(&self, node: &'a Node, actions: &mut Actions<'a>) -> Result<(), Refusal> {
        match node.name.as_str() {
            "keep" => actions.keep = true,
            "stop" => actions.stop = true,
            "discard" => {
                let why = "the script discards it, here it is held";
                actions.held = actions.held.or(Some((node, Some(why))));
            }
            "reject" | "ereject" => {
                let why = "the script refuses it with a text, here it is held and nobody is told";
                actions.held = actions.held.or(Some((node, Some(why))));
            }
            "fileinto" => {
                let folder = self.text(node)?;
                if !is_junk(&folder) {
                    return refuse(
                        node,
                        format!("there are no folders here but the quarantine: `{folder}`"),
                    );
                }
                if has_tag(node, "copy") {
                    return refuse(node, "a copy in a folder; held mail is nowhere else");
                }
                actions.held = actions.held.or(Some((node, None)));
            }
            "redirect" => {
                let to = self.text(node)?;
                if let Err(error) = Address::parse(&to) {
                    return refuse(node, format!("`{to}`: {error}"));
                }
                actions.copies |= has_tag(node, "copy");
                actions.redirects.push((node, to));
            }
            "vacation" => match actions.vacation {
                None => actions.vacation = Some(node),
                Some(_) => return refuse(node, "a second reply"),
            },
            "notify" => actions.notices.push((node, self.notified(node)?)),
            "addflag" | "setflag" | "removeflag" => actions.flags.push(node),
            "set" => {}
            name => return refuse(node, format!("`{name}` has no counterpart")),
        }
        Ok(())
    }

    /// The last string of an action.
    fn text(&self, node: &Node) -> Result<String, Refusal> {
        let Some(Argument::Strings(texts)) = node.arguments.last() else {
            return refuse(node, format!("`{}` wants a text", node.name));
        };
        match texts.as_slice() {
            [text] if self.variables && text.contains("${") => {
                refuse(node, "a variable has no counterpart")
            }
            [text] => Ok(text.clone()),
            _ => refuse(node, format!("`{}` wants one text", node.name)),
        }
    }

    fn notified(&self, node: &Node) -> Result<String, Refusal> {
        let Some(Argument::Strings(texts)) = node.arguments.last() else {
            return refuse(node, "`notify` wants a method");
        };
        let method = texts.first().map(String::as_str).unwrap_or_default();
        let Some(to) = method.strip_prefix("mailto:") else {
            return refuse(node, "notices go by mail only (`mailto:`)");
        };
        let to = to.split('?').next().unwrap_or_default();
        if let Err(error) = Address::parse(to) {
            return refuse(node, format!("`{to}`: {error}"));
        }
        Ok(to.to_owned())
    }

    fn reachable(&self, node: &Node) -> Result<(), Refusal> {
        match self.ended {
            Some(line) => refuse(node, format!("never reached: line {line} ends the script")),
            None => Ok(()),
        }
    }

    /// Stages 1-3.
    fn reject(
        &mut self,
        node: &Node,
        found: &Condition,
        actions: &Actions<'_>,
        behind: &[Unit<'_>],
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
        if silent || !actions.stop && behind.iter().any(sends) {
            self.differs(node, "mail held here is not forwarded, told of or answered");
        }
        if let Some((held, Some(why))) = actions.held {
            self.differs(held, why);
        }
        for fact in &found.facts {
            match fact {
                Fact::Subject(entries) => add(&mut self.taken.subjects, entries, |text| {
                    fold(text).as_str().to_owned()
                }),
                Fact::From { entries, whole } => {
                    if *whole {
                        self.differs(node, WHOLE);
                    }
                    add(&mut self.taken.suffixes, entries, |text| {
                        fold_address(text).as_str().to_owned()
                    });
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
    fn allow(
        &mut self,
        node: &Node,
        found: &Condition,
        behind: &[Unit<'_>],
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
        if self.open.is_some() || self.closed.is_some() || behind.iter().any(sends) {
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
        add(&mut self.taken.allowed, &senders, |text| {
            fold_address(text).as_str().to_owned()
        });
        self.took = true;
        Ok(())
    }

    /// Stage 7.
    fn forward(
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
        let mut to: Vec<String> = Vec::new();
        for (_, target) in &actions.redirects {
            if !to
                .iter()
                .any(|known| fold_address(known) == fold_address(target))
            {
                to.push(target.clone());
            }
        }
        let plain = actions
            .redirects
            .iter()
            .any(|(node, _)| !has_tag(node, "copy"));
        let keep_copy = actions.keep || !plain;
        if self.taken.rules.len() >= MOST_RULES || to.len() > MOST_TARGETS {
            return refuse(
                node,
                format!("at most {MOST_RULES} rules with {MOST_TARGETS} targets each"),
            );
        }
        if let Some(owner) = &self.owner
            && to
                .iter()
                .any(|target| Address::parse(target).is_ok_and(|target| target.key() == *owner))
        {
            return refuse(node, "a forward to the mailbox itself");
        }
        let mut rule = Rule {
            name,
            any: found.any,
            to,
            keep_copy,
            ..Rule::default()
        };
        for fact in &found.facts {
            self.forward_fact(node, fact, &mut rule, found.any)?;
        }
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
            Fact::Subject(entries) => add(&mut rule.subjects, entries, |text| {
                fold(text).as_str().to_owned()
            }),
            Fact::From { entries, whole } => {
                if *whole {
                    self.differs(node, WHOLE);
                }
                add(&mut rule.suffixes, entries, |text| {
                    fold_address(text).as_str().to_owned()
                });
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
    fn notify(&mut self, node: &Node, to: &str) -> Result<(), Refusal> {
        self.reachable(node)?;
        self.unconditional(node)?;
        if self.taken.notify.len() >= MOST_NOTIFIED {
            return refuse(
                node,
                format!("at most {MOST_NOTIFIED} addresses get a notice"),
            );
        }
        if !self
            .taken
            .notify
            .iter()
            .any(|known| fold_address(known) == fold_address(to))
        {
            self.taken.notify.push(to.to_owned());
        }
        self.differs(node, "the notice has our own text");
        self.took = true;
        Ok(())
    }

    /// Notices and replies are for every mail that is not held, forwarded or not.
    fn unconditional(&self, node: &Node) -> Result<(), Refusal> {
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

    /// Stage 9.
    fn reply(&mut self, node: &Node, period: Period) -> Result<(), Refusal> {
        let (subject, message) = self.prepare_reply(node)?;
        let Period { start, end } = period;
        self.taken.reply = Some(Reply {
            start,
            end,
            subject,
            message,
            per_sender: Vec::new(),
        });
        Ok(())
    }

    /// Subject and text, once nothing speaks against them.
    fn prepare_reply(&mut self, node: &Node) -> Result<(String, String), Refusal> {
        self.reachable(node)?;
        self.unconditional(node)?;
        if self.taken.reply.is_some() {
            return refuse(node, "a second reply");
        }
        let mut subject = "Auto: %{subject}".to_owned();
        let mut remarks = Vec::new();
        let mut own = Vec::new();
        let mut arguments = node.arguments.iter();
        while let Some(argument) = arguments.next() {
            let Argument::Tag(tag) = argument else {
                continue;
            };
            match tag.as_str() {
                "mime" => return refuse(node, "a reply is plain text, not MIME"),
                "days" => {
                    if let Some(Argument::Number(days)) = arguments
                        .next()
                        .filter(|days| **days != Argument::Number(1))
                    {
                        remarks.push(format!(
                            "one reply a sender in 24 hours, in the script in {days} days"
                        ));
                    }
                }
                "seconds" => {
                    arguments.next();
                    remarks.push("one reply a sender in 24 hours".to_owned());
                }
                "subject" => subject = self.reply_subject(node, arguments.next())?,
                "from" => {
                    arguments.next();
                    remarks.push("replies come from the mailbox's own address".to_owned());
                }
                "addresses" => {
                    if let Some(Argument::Strings(addresses)) = arguments.next() {
                        own.clone_from(addresses);
                    }
                }
                _ => {
                    arguments.next();
                }
            }
        }
        let message = self.text(node)?.replace("\r\n", "\n");
        if message.trim().is_empty() {
            return refuse(node, "a reply without a text");
        }
        self.own_addresses(node, &own);
        for remark in remarks {
            self.differs(node, remark);
        }
        self.took = true;
        Ok((subject, message))
    }

    fn reply_subject(&self, node: &Node, argument: Option<&Argument>) -> Result<String, Refusal> {
        let Some(Argument::Strings(texts)) = argument else {
            return refuse(node, "`:subject` wants a text");
        };
        let text = texts.first().map(String::as_str).unwrap_or_default();
        let plain = text.replace("${subject}", "");
        if self.variables && plain.contains("${") || text.contains(char::is_control) {
            return refuse(
                node,
                "a Subject with variables other than `${subject}`, or with control characters",
            );
        }
        Ok(if self.variables {
            text.replace("${subject}", "%{subject}")
        } else {
            text.to_owned()
        })
    }

    /// `:addresses` are the owner's other names; whose the mailbox is must be known for that.
    fn own_addresses(&mut self, node: &Node, addresses: &[String]) {
        for text in addresses {
            let bare = text
                .rsplit_once('<')
                .map_or(text.as_str(), |(_, bare)| bare.trim_end_matches('>'));
            let Ok(address) = Address::parse(bare.trim()) else {
                let reason = format!("`{text}` of :addresses is no address");
                self.notes.push(Note {
                    place: node.place,
                    kind: Kind::NotTaken,
                    reason,
                });
                continue;
            };
            match &self.owner {
                Some(owner) if *owner == address.key() => {}
                Some(_) => {
                    let known = self.taken.aliases.iter().any(|alias| fold_address(alias) == fold_address(bare));
                    if !known {
                        self.taken.aliases.push(address.to_string());
                    }
                }
                None => self.differs(node, format!("`{address}` of :addresses: write it into `aliases` unless it is the mailbox itself (with --mailbox it is written)")),
            }
        }
    }

    /// A chain that chooses the reply by the sender. `None`: it is something else.
    fn replies_by_sender(&mut self, chain: &[&Node]) -> Option<Result<(), Refusal>> {
        let replies: Option<Vec<&Node>> = chain.iter().map(|node| only_vacation(node)).collect();
        let replies = replies.filter(|replies| replies.len() > 1)?;
        Some(self.reply_by_sender(chain, &replies))
    }

    fn reply_by_sender(&mut self, chain: &[&Node], replies: &[&Node]) -> Result<(), Refusal> {
        let (Some((last, others)), Some((common, own))) =
            (chain.split_last(), replies.split_last())
        else {
            return Ok(());
        };
        if last.name != "else" {
            return refuse(
                last,
                "a reply to some senders only has no counterpart: `else` is missing",
            );
        }
        let mut per_sender = Vec::new();
        for (node, reply) in others.iter().zip(own) {
            let test = node
                .inner()
                .first()
                .map_or_else(|| refuse(node, "a test is missing"), Ok)?;
            if subject_of(reply) != subject_of(common) {
                self.differs(reply, "all replies have one Subject, that of the last");
            }
            per_sender.push((
                rule::senders(test, self.variables)?,
                self.text(reply)?.replace("\r\n", "\n"),
            ));
        }
        if per_sender.iter().any(|(_, text)| text.trim().is_empty()) {
            return refuse(last, "a reply without a text");
        }
        let (subject, message) = self.prepare_reply(common)?;
        self.taken.reply = Some(Reply {
            subject,
            message,
            per_sender,
            ..Reply::default()
        });
        Ok(())
    }
}

fn subject_of(vacation: &Node) -> Option<&Argument> {
    let is_subject = |argument: &Argument| *argument == Argument::Tag("subject".to_owned());
    let at = vacation.arguments.iter().position(is_subject)?;
    vacation.arguments.get(at + 1)
}

/// The vacation of a block that has nothing else.
fn only_vacation(node: &Node) -> Option<&Node> {
    match node.block.as_deref() {
        Some([only]) if only.name == "vacation" => Some(only),
        _ => None,
    }
}

const WHOLE: &str = "an entry is the end of an address: one that only ends like it is met as well";

/// Adds the entries that are not there in another spelling.
fn add(list: &mut Vec<String>, entries: &[String], key: impl Fn(&str) -> String) {
    for entry in entries {
        if !list.iter().any(|known| key(known) == key(entry)) {
            list.push(entry.clone());
        }
    }
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

fn is_junk(folder: &str) -> bool {
    let name = folder.rsplit(['/', '.', '\\']).next().unwrap_or(folder);
    JUNK.contains(&name.trim().to_lowercase().as_str())
}

fn has_tag(node: &Node, tag: &str) -> bool {
    node.arguments
        .iter()
        .any(|argument| matches!(argument, Argument::Tag(found) if found == tag))
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
    seek(unit, &|node| {
        matches!(
            node.name.as_str(),
            "redirect" | "vacation" | "notify" | "include"
        )
    })
    .is_some()
}

fn seek(unit: &Unit<'_>, wanted: &dyn Fn(&Node) -> bool) -> Option<u32> {
    let (Unit::Chain(nodes) | Unit::Always(nodes)) = unit;
    nodes.iter().find_map(|node| seek_in(node, wanted))
}

fn seek_in(node: &Node, wanted: &dyn Fn(&Node) -> bool) -> Option<u32> {
    if wanted(node) {
        return Some(node.place.line);
    }
    node.block
        .iter()
        .flatten()
        .find_map(|inner| seek_in(inner, wanted))
}
