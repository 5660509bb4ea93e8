//! What a block of commands does.

use super::super::rule::{Refusal, refuse};
use super::super::script::{Argument, Node};
use super::Importer;
use crate::mail::Address;

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

/// What a block does.
#[derive(Default)]
pub(super) struct Actions<'a> {
    /// Something without a counterpart.
    pub(super) refused: Vec<Refusal>,
    /// Put into a folder of thrown-away mail, discarded or refused; why that is not the same.
    pub(super) held: Option<(&'a Node, Option<&'static str>)>,
    pub(super) redirects: Vec<(&'a Node, String)>,
    /// A redirect without `:copy`: the mail is not kept by itself.
    pub(super) plain: bool,
    pub(super) keep: bool,
    pub(super) stop: bool,
    pub(super) vacation: Option<&'a Node>,
    pub(super) notices: Vec<(&'a Node, String)>,
    pub(super) flags: Vec<&'a Node>,
}

impl Importer {
    pub(super) fn actions<'a>(&self, nodes: impl Iterator<Item = &'a Node>) -> Actions<'a> {
        let mut actions = Actions::default();
        for node in nodes {
            let refusal = self.action(node, &mut actions).err();
            actions.refused.extend(refusal);
        }
        actions
    }

    pub(super) fn action<'a>(
        &self,
        node: &'a Node,
        actions: &mut Actions<'a>,
    ) -> Result<(), Refusal> {
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
                actions.plain |= !has_tag(node, "copy");
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
    pub(super) fn text(&self, node: &Node) -> Result<String, Refusal> {
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

    pub(super) fn notified(&self, node: &Node) -> Result<String, Refusal> {
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
