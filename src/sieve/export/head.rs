//! What stands before a script: its `require`, and the list of differences as comments.

use std::collections::BTreeSet;

use super::super::script::{Argument, Node, Script};
use super::{Difference, QUARANTINE};
use crate::policy::Policy;

/// The script with its `require` and the list of differences before it.
pub(super) fn headed(script: Script, policy: &Policy, differences: &[Difference]) -> Script {
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
    let mut found = BTreeSet::new();
    collect(nodes, &mut found);
    found.into_iter().map(str::to_owned).collect()
}

fn collect(nodes: &[Node], found: &mut BTreeSet<&'static str>) {
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

pub(super) fn uses_dollar(nodes: &[Node]) -> bool {
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
