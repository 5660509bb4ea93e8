//! The settings of a mailbox as a script for Dovecot Pigeonhole (0.5), and a list of what it
//! decides differently.
//!
//! The order is the pipeline's. Quarantine is a folder; what lies there goes no further (`stop`).
//! `tests/sieve` runs script and settings over real mail and holds them against each other.

use super::script::{Argument, Node, Script};
use super::spelling;
use crate::mail::Address;
use crate::policy::{
    Allow, AllowSet, AutoReply, ForwardRule, Forwarding, HeaderCondition, Hit, Language, Notify,
    NotifyField, Origin, Policy, Redirect, SizeCondition, SubstringSet, SuffixSet,
};

/// The folder that stands for the quarantine.
pub const QUARANTINE: &str = "Quarantine";
/// Redirects that Pigeonhole carries out for one mail unless told otherwise.
const DEFAULT_REDIRECTS: usize = 4;
/// Octets of a script that Pigeonhole reads unless told otherwise.
const DEFAULT_SCRIPT_BYTES: usize = 1 << 20;
const DAY: i64 = 24 * 60 * 60;

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
        let field = field.filter(|_| self.policy.virus)?;
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
        let field = field?;
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
        if let Some(notify) = notify {
            if notify.fields.contains(&NotifyField::Size) {
                self.differs(
                    "notify.fields",
                    "the size is not told: a script does not know it",
                );
            }
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

/// The script with its `require` and the list of differences before it.
fn headed(script: Script, policy: &Policy, differences: &[Difference]) -> Script {
    let mut head = Node::new("require").strings(extensions(&script.commands));
    head = head.comment(format!(
        "The settings of {}, for Dovecot Pigeonhole.",
        policy.mailbox
    ));
    head = head.comment(format!(
        "Held mail goes into the folder {QUARANTINE}; nothing removes it from there."
    ));
    for difference in differences {
        let origin = difference
            .origin
            .as_ref()
            .map(|origin| format!(" {origin}"))
            .unwrap_or_default();
        head = head.comment(format!(
            "differs:{origin} {}: {}",
            difference.setting, difference.reason
        ));
    }
    let mut commands = script.commands;
    if !matches!(head.arguments.as_slice(), [Argument::Strings(names)] if names.is_empty()) {
        commands.insert(0, head);
    } else {
        let keep = Node {
            comments: head.comments,
            ..Node::new("keep")
        };
        commands.insert(0, keep);
    }
    Script { commands }
}

/// The extensions that these commands use (each RFC's own name of its capability).
fn extensions(nodes: &[Node]) -> Vec<String> {
    let mut found = std::collections::BTreeSet::new();
    collect(nodes, &mut found);
    found.into_iter().map(str::to_owned).collect()
}

fn collect(nodes: &[Node], found: &mut std::collections::BTreeSet<&'static str>) {
    for node in nodes {
        found.extend(match node.name.as_str() {
            "fileinto" => Some("fileinto"),
            "set" | "string" => Some("variables"),
            "foreverypart" => Some("foreverypart"),
            "currentdate" => Some("date"),
            "envelope" => Some("envelope"),
            "vacation" => Some("vacation"),
            "notify" => Some("enotify"),
            "ihave" => Some("ihave"),
            _ => None,
        });
        for argument in &node.arguments {
            found.extend(match argument {
                Argument::Tag(tag) => match tag.as_str() {
                    "create" => Some("mailbox"),
                    "copy" => Some("copy"),
                    "mime" => Some("mime"),
                    "regex" => Some("regex"),
                    "value" | "count" => Some("relational"),
                    _ => None,
                },
                Argument::Strings(texts) if *texts == ["i;ascii-numeric"] => {
                    Some("comparator-i;ascii-numeric")
                }
                _ => None,
            });
        }
        collect(node.inner(), found);
        collect(node.block.as_deref().unwrap_or_default(), found);
    }
}

fn uses_dollar(nodes: &[Node]) -> bool {
    let here = |node: &Node| {
        node.arguments.iter().any(|argument| {
            matches!(argument, Argument::Strings(texts) if texts.iter().any(|text| text.contains("${dollar}")))
        })
    };
    nodes.iter().any(|node| {
        here(node)
            || uses_dollar(node.inner())
            || uses_dollar(node.block.as_deref().unwrap_or_default())
    })
}

fn titled(mut nodes: Vec<Node>, title: &str) -> Vec<Node> {
    if let Some(first) = nodes.first_mut() {
        first
            .comments
            .splice(0..0, [String::new(), title.to_owned()]);
    }
    nodes
}

/// Text of the settings in a script with variables: no `${` in it may be taken for one (RFC 5229).
fn literal(text: &str) -> String {
    text.replace("${", "${dollar}{")
}

/// A `:matches` pattern of what ends so.
fn ends_with(text: &str) -> String {
    let mut pattern = String::from("*");
    for c in text.chars() {
        if matches!(c, '*' | '?' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    literal(&pattern)
}

fn set(name: &str, value: &str) -> Node {
    Node::new("set").string(name).string(value)
}

fn is_set(name: &str) -> Node {
    Node::new("string")
        .tag("is")
        .string(format!("${{{name}}}"))
        .string("yes")
}

/// Keeps a header field's text as the variable of its name.
fn remembered(name: &str) -> Node {
    let any = Node::new("header").tag("matches").string(name).string("*");
    Node::new("if").test(any).block(vec![set(name, "${1}")])
}

fn file() -> Node {
    Node::new("fileinto").tag("create").string(QUARANTINE)
}

fn held(stage: &str, test: Node) -> Node {
    let block = vec![file(), Node::new("stop")];
    Node::new("if")
        .test(test)
        .block(block)
        .comment("")
        .comment(stage)
}

fn exists(field: &str) -> Node {
    Node::new("exists").string(field)
}

fn header_test(condition: HeaderCondition) -> Node {
    let not_blank = |field: &str| {
        Node::new("header")
            .tag("matches")
            .string(field)
            .string("?*")
    };
    let blank = |field: &str| Node::all(vec![exists(field), Node::negated(not_blank(field))]);
    match condition {
        HeaderCondition::FromMissing => Node::negated(exists("from")),
        HeaderCondition::SubjectMissing => Node::negated(exists("subject")),
        HeaderCondition::FromEmpty => blank("from"),
        HeaderCondition::SubjectEmpty => blank("subject"),
        HeaderCondition::FromEmptyAddress => {
            let address = Node::new("address")
                .tag("all")
                .tag("matches")
                .string("from")
                .string("?*@?*");
            Node::all(vec![not_blank("from"), Node::negated(address)])
        }
    }
}

fn size_test(condition: SizeCondition) -> Node {
    let over = |octets: u64| Node::new("size").tag("over").number(octets);
    match condition {
        SizeCondition::AtLeast(0) => Node::new("true"),
        SizeCondition::AtLeast(octets) => over(octets - 1),
        SizeCondition::AtMost(octets) => Node::negated(over(octets)),
    }
}

fn matching(field: &str, regex: impl Into<String>) -> Node {
    Node::new("header").tag("regex").string(field).string(regex)
}

/// The field's value begins with the word, and the word ends there.
fn found(field: Finding<'_>) -> Node {
    let mut regex = String::from("^[[:space:]]*");
    for c in field.word.chars() {
        if "\\^$.[]|()*+?{}".contains(c) {
            regex.push('\\');
        }
        regex.push(c);
    }
    regex.push_str("([^[:alnum:]]|$)");
    matching(field.header, literal(&regex))
}

/// Sets the variable `attachment` (RFC 5703): the contract's words for what one is.
fn attachment() -> Node {
    let field = |name: &str, part: &str, kind: &str, texts: &[&str]| {
        let node = Node::new("header")
            .tag("mime")
            .tag(part)
            .tag(kind)
            .string(name);
        node.strings(texts.iter().map(|text| (*text).to_owned()).collect())
    };
    let kind = |part, texts: &[&str]| field("Content-Type", part, "is", texts);
    let param = |name: &str, param: &str| {
        let node = Node::new("header").tag("mime").tag("param").string(param);
        node.tag("matches").string(name).string("?*")
    };
    let disposition = |texts: &[&str]| field("Content-Disposition", "type", "is", texts);
    let named = Node::any(vec![
        param("Content-Type", "name"),
        param("Content-Disposition", "filename"),
    ]);
    let disposed = field("Content-Disposition", "type", "matches", &["?*"]);
    let elsewhere = Node::all(vec![disposed, Node::negated(disposition(&["inline"]))]);
    let typed = field("Content-Type", "type", "matches", &["?*"]);
    let no_text = Node::all(vec![typed, Node::negated(kind("type", &["text"]))]);
    let apart = Node::any(vec![
        elsewhere,
        no_text,
        kind("contenttype", &["text/calendar"]),
    ]);
    let leaf = Node::all(vec![
        named,
        Node::negated(kind("type", &["multipart"])),
        Node::negated(kind("contenttype", &["text/rfc822-headers"])),
        apart,
    ]);
    let test = Node::any(vec![
        kind("contenttype", &["message/rfc822", "message/global"]),
        disposition(&["attachment"]),
        leaf,
    ]);
    let yes = vec![set("attachment", "yes"), Node::new("break")];
    let each = Node::new("if").test(test).block(yes);
    Node::new("foreverypart")
        .block(vec![each])
        .comment("")
        .comment("an attachment?")
}

fn own_keys(policy: &Policy) -> Vec<String> {
    let own = std::iter::once(&policy.mailbox).chain(&policy.aliases);
    own.map(Address::key).collect()
}

/// Comments (RFC 5322 3.2.2, one deep) and white space.
const GAP: &str = "([[:space:]]|\\([^)]*\\))*";

/// `Auto-Submitted` with another word than `no`.
fn auto_submitted() -> Node {
    let other = "([^n([:space:]]|n([^o]|$)|no[^[:space:];(]|$)";
    matching("auto-submitted", format!("^{GAP}{other}"))
}

/// Whom nobody answers; Pigeonhole's `vacation` knows some of them, we say all.
fn robots() -> Vec<Node> {
    let any_field = |names: &[&str]| names.iter().map(|name| exists(name)).collect::<Vec<_>>();
    let first_word =
        |field, words: &str| matching(field, format!("^{GAP}({words})[[:space:]]*([;(]|$)"));
    let mut tests = vec![auto_submitted()];
    tests.extend(any_field(&[
        "list-id",
        "list-help",
        "list-subscribe",
        "list-unsubscribe",
        "list-post",
        "list-owner",
        "list-archive",
    ]));
    tests.push(first_word("precedence", "bulk|list|junk"));
    tests.extend(any_field(&["x-autoreply", "x-autorespond", "x-loop"]));
    tests.push(matching(
        "x-auto-response-suppress",
        "(^|[,;[:space:]])(all|autoreply|oof)([,;[:space:]]|$)",
    ));
    tests.push(first_word(
        "content-type",
        "multipart/report|message/delivery-status|message/disposition-notification|\
         message/global-delivery-status|message/global-disposition-notification",
    ));
    let roles = Node::new("envelope")
        .tag("localpart")
        .tag("regex")
        .string("from");
    tests.push(roles.strings(roles_regexes()));
    tests
}

/// Local parts of programs, as stage 9 knows them.
fn roles_regexes() -> Vec<String> {
    let squeezed = |word: &str| {
        let letters: Vec<String> = word.chars().map(String::from).collect();
        format!("^[-_.]*{}", letters.join("[-_.]*"))
    };
    let mut regexes = vec![squeezed("noreply"), squeezed("donotreply")];
    let exact = [
        "^(listserv|majordomo)([+=]|$)",
        "^(mailer-daemon|owner-|bounce|srs[01][=+-]|prvs=)",
        "-request",
        "^[^+=]*(-bounces|[-_.]noreply|-no-reply|_no_reply|\\.no-reply|-donotreply|-do-not-reply)([+=]|$)",
    ];
    regexes.extend(exact.map(str::to_owned));
    regexes
}

/// A point in time beside now; both as UTC text, so that they order as text.
fn moment(relation: &str, seconds: i64) -> Node {
    let utc = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    let text = utc.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    let node = Node::new("currentdate")
        .tag("zone")
        .string("+0000")
        .tag("value")
        .string(relation);
    node.string("iso8601").string(text)
}

fn vacation(policy: &Policy, reply: &AutoReply, message: &str) -> Node {
    // A sender gets one reply, whatever its text.
    let mut node = Node::new("vacation")
        .tag("days")
        .number(days(reply.interval))
        .tag("handle")
        .string("auto_reply");
    if !reply.subject.is_empty() {
        let parts: Vec<String> = reply.subject.split("%{subject}").map(literal).collect();
        node = node.tag("subject").string(parts.join("${subject}"));
    }
    let own = std::iter::once(&policy.mailbox).chain(&policy.aliases);
    let own = own.map(|address| literal(&address.to_string())).collect();
    node.tag("addresses").strings(own).string(literal(message))
}

fn days(seconds: i64) -> u64 {
    u64::try_from(seconds)
        .unwrap_or(0)
        .div_ceil(DAY.unsigned_abs())
        .max(1)
}

/// A notice for each target (RFC 5435, 5436), its text behind variables of the mail.
fn notices(policy: &Policy, notify: &Notify) -> Vec<Node> {
    let (title, words) = match policy.language {
        Language::Ja => (
            "メール受信のお知らせ",
            ["差出人", "宛先", "件名", "添付ファイル"],
        ),
        Language::En => ("You have new mail", ["From", "To", "Subject", "Attachment"]),
    };
    let mut commands = Vec::new();
    let mut body = String::new();
    for field in &notify.fields {
        let [from, to, subject, attachment] = words;
        let (label, value) = match field {
            NotifyField::From => (from, "${from}".to_owned()),
            NotifyField::To => (to, literal(&policy.mailbox.to_string())),
            NotifyField::Subject => (subject, "${subject}".to_owned()),
            NotifyField::Attachment => (attachment, "${attachment}".to_owned()),
            NotifyField::Size => continue,
        };
        match field {
            NotifyField::From => commands.push(remembered("from")),
            NotifyField::Subject => commands.push(remembered("subject")),
            NotifyField::To | NotifyField::Attachment | NotifyField::Size => {}
        }
        body.push_str(&format!("{label}: {value}\n"));
    }
    commands.push(
        Node::new("set")
            .tag("encodeurl")
            .string("body")
            .string(body),
    );
    for to in &notify.to {
        let method = format!("mailto:{}?body=${{body}}", uri(&to.to_string()));
        commands.push(
            Node::new("notify")
                .tag("message")
                .string(title)
                .string(method),
        );
    }
    commands
}

/// An address in a mailto URI (RFC 6068).
fn uri(address: &str) -> String {
    let mut uri = String::new();
    for octet in address.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~@!+'*".contains(&octet) {
            uri.push(char::from(octet));
        } else {
            uri.push_str(&format!("%{octet:02X}"));
        }
    }
    uri
}
