//! The automatic reply, `vacation` of RFC 5230.

use super::super::period::Period;
use super::super::rule::{self, Refusal, refuse};
use super::super::script::{Argument, Node};
use super::super::yaml::Reply;
use super::{Importer, Kind, Note};
use crate::mail::Address;

/// Octets of a text (the built-in limit).
const MOST_REPLY_BYTES: usize = 64 << 10;

impl Importer {
    /// Stage 9.
    pub(super) fn reply(&mut self, node: &Node, period: Period) -> Result<(), Refusal> {
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
    pub(super) fn prepare_reply(&mut self, node: &Node) -> Result<(String, String), Refusal> {
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
        if message.trim().is_empty() || message.len() > MOST_REPLY_BYTES {
            let most = MOST_REPLY_BYTES >> 10;
            return refuse(node, format!("a reply has a text of at most {most} KiB"));
        }
        self.own_addresses(node, &own);
        for remark in remarks {
            self.differs(node, remark);
        }
        self.took = true;
        Ok((subject, message))
    }

    pub(super) fn reply_subject(
        &self,
        node: &Node,
        argument: Option<&Argument>,
    ) -> Result<String, Refusal> {
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
    pub(super) fn own_addresses(&mut self, node: &Node, addresses: &[String]) {
        for text in addresses {
            let bare = text
                .rsplit_once('<')
                .map_or(text.as_str(), |(_, bare)| bare.trim_end_matches('>'));
            let bare = bare.trim();
            let Ok(address) = Address::parse(bare) else {
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
                Some(_) if self.taken.rules.iter().any(|rule| rule.to.has(&address.key())) => self.differs(
                    node,
                    format!("`{bare}` of :addresses is forwarded to, so it is no alias here"),
                ),
                Some(_) => self.taken.aliases.add(address.key(), bare),
                None => self.differs(node, format!("`{address}` of :addresses: write it into `aliases` unless it is the mailbox itself (with --mailbox it is written)")),
            }
        }
    }

    /// A chain that chooses the reply by the sender. `None`: it is something else.
    pub(super) fn replies_by_sender(&mut self, chain: &[&Node]) -> Option<Result<(), Refusal>> {
        let replies: Option<Vec<&Node>> = chain.iter().map(|node| only_vacation(node)).collect();
        let replies = replies.filter(|replies| replies.len() > 1)?;
        Some(self.reply_by_sender(chain, &replies))
    }

    pub(super) fn reply_by_sender(
        &mut self,
        chain: &[&Node],
        replies: &[&Node],
    ) -> Result<(), Refusal> {
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
        let sound = |text: &str| !text.trim().is_empty() && text.len() <= MOST_REPLY_BYTES;
        if !per_sender.iter().all(|(_, text)| sound(text)) {
            let most = MOST_REPLY_BYTES >> 10;
            return refuse(last, format!("a reply has a text of at most {most} KiB"));
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
