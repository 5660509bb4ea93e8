//! JSON Schema (draft-07) of the settings files, for editors.
//!
//! What it refuses the reader refuses too. The reader refuses more: limits are settings themselves,
//! and addresses, time zones and paths are more than a regular expression can say.

use serde_json::{Map, Value, json};

use super::mailbox::{OWN_KEYS, RawMailbox, VERSION};
use super::raw::RawConfig;
use super::setting::{BuiltIn, Key, Section, Setting as _, Shape};

/// The two kinds of settings files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `sekimori.yaml`.
    Daemon,
    /// One mailbox.
    Mailbox,
}

impl Kind {
    pub(crate) fn shape(self) -> Shape {
        match self {
            Self::Daemon => RawConfig::shape(),
            Self::Mailbox => RawMailbox::shape(),
        }
    }
}

/// The JSON Schema (draft-07) of a kind of file.
pub fn schema(kind: Kind) -> Value {
    let title = match kind {
        Kind::Daemon => "sekimori: the daemon file",
        Kind::Mailbox => "sekimori: a mailbox file",
    };
    let mut root = json!({"$schema": "http://json-schema.org/draft-07/schema#", "title": title});
    if let (Some(root), Value::Object(body)) = (root.as_object_mut(), of_shape(&kind.shape())) {
        root.extend(body);
    }
    root
}

fn of_shape(shape: &Shape) -> Value {
    match shape {
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Whole(least, None) => json!({"type": "integer", "minimum": least}),
        Shape::Whole(least, Some(most)) => {
            json!({"type": "integer", "minimum": least, "maximum": most})
        }
        Shape::Number(least, most) => json!({"type": "number", "minimum": least, "maximum": most}),
        // What YAML takes for a number is text here.
        Shape::Free => json!({"type": ["string", "number", "boolean"]}),
        Shape::Text(pattern) => json!({"type": "string", "pattern": pattern}),
        Shape::Words(words) => {
            let names: Vec<&str> = words.iter().map(|word| word.name).collect();
            json!({"enum": names})
        }
        Shape::Lines => {
            let text = json!({"type": "string", "pattern": "\\S"});
            json!({"anyOf": [text, {"type": "array", "items": text}]})
        }
        Shape::List(items) => {
            let once = matches!(**items, Shape::Words(_));
            let mut list = json!({"type": "array", "items": of_shape(items)});
            if once {
                list["uniqueItems"] = true.into();
            }
            list
        }
        Shape::Section(section) => of_section(section, &[]),
    }
}

fn of_section(section: &Section, without: &[&str]) -> Value {
    let keys = || {
        section
            .keys
            .iter()
            .filter(|key| !without.contains(&key.name))
    };
    let properties: Map<String, Value> = keys()
        .map(|key| (key.name.to_owned(), of_key(key)))
        .collect();
    let required: Vec<&str> = keys()
        .filter(|key| key.built_in == BuiltIn::Required)
        .map(|key| key.name)
        .collect();
    let mut schema = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if !section.either.is_empty() {
        let not = |(one, other): &(&str, &str)| json!({"not": {"required": [one, other]}});
        schema["allOf"] = section.either.iter().map(not).collect();
    }
    schema
}

fn of_key(key: &Key) -> Value {
    let mut schema = match ((key.shape)(), key.name) {
        (_, "version") => json!({"const": VERSION}),
        (Shape::Section(section), "defaults") => of_section(section, &OWN_KEYS),
        (shape, _) => of_shape(&shape),
    };
    schema["description"] = key.doc.into();
    let is_value = !matches!((key.shape)(), Shape::Section(_));
    if is_value && let Some(built_in) = key.built_in_value() {
        schema["default"] = built_in;
    }
    schema
}
