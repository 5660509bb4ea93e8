//! From the tree to the settings as written: all mistakes of shape in one pass, each with its place.
//!
//! The structs of `raw` and `mailbox` name the keys (serde); this deserializer compares them with
//! the tree, reports what does not fit and goes on with the next key. What passed is read once more
//! by serde_yaml: the two must agree, so that no text means two things.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use saphyr_parser::ScalarStyle;

use super::error::Severity;
use super::field::FIELD;
use super::lines::{self, LINES, Line, Lines};
use super::patterns;
use super::source::{Place, Report, Source};
use super::tree::{self, Kind, Node, Pair, Scalar, Tree};

/// Reads file `file` of the report as a `T`. `None` when it is no YAML map; what else is wrong is
/// in the report, and what is wrong is left out of `T`.
pub(crate) fn settings<T>(report: &mut Report, file: u16) -> Option<T>
where
    T: DeserializeOwned + PartialEq,
{
    let Tree { root, whole } = tree::read(report, file)?;
    let value = {
        let report = RefCell::new(&mut *report);
        let reader = Reader {
            report: &report,
            file,
        };
        let value = Value {
            reader,
            node: &root,
            key: root.place,
        };
        T::deserialize(value)
            .map_err(|error| reader.say(root.place, error))
            .ok()?
    };
    if !report.has_errors() {
        second_opinion(report, file, &value);
    }
    whole.then_some(value)
}

/// YAML 1.1 and 1.2 differ in rare texts (a line separator, a lone CR): such a text is refused.
fn second_opinion<T: DeserializeOwned + PartialEq>(report: &mut Report, file: u16, value: &T) {
    let text = report.source(file).map(Source::text).unwrap_or_default();
    // A block at the very end has a line end for one of the two only.
    let ended = match text.ends_with('\n') {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("{text}\n")),
    };
    let (at, why) = match serde_yaml::from_str::<T>(&ended) {
        Ok(other) if other == *value => return,
        Ok(_) => (
            None,
            "YAML 1.1 and 1.2 read this file differently".to_owned(),
        ),
        Err(error) => (error.location().map(|l| l.index()), error.to_string()),
    };
    let odd = text.find(['\u{85}', '\u{2028}', '\u{2029}']);
    let before = odd.or(at).and_then(|at| text.get(..at)).unwrap_or_default();
    let at = Place {
        file,
        ..patterns::place_of(before)
    };
    report.error_help(
        "dialect",
        at,
        why,
        "quote the value, or write it on lines of its own",
    );
}

/// An error that has its place already, or the words of one that gets it one level up.
#[derive(Debug)]
pub(crate) enum ReadError {
    Reported,
    Said(String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reported => f.write_str("reported"),
            Self::Said(words) => f.write_str(words),
        }
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(words: T) -> Self {
        Self::Said(words.to_string())
    }
}

#[derive(Clone, Copy)]
struct Reader<'a, 'r> {
    report: &'a RefCell<&'r mut Report>,
    file: u16,
}

impl Reader<'_, '_> {
    fn say(self, at: Place, error: ReadError) -> ReadError {
        if let ReadError::Said(words) = error {
            self.report.borrow_mut().error("value", at, words);
        }
        ReadError::Reported
    }

    fn fail(self, id: &'static str, at: Place, message: String, help: &str) -> ReadError {
        self.report.borrow_mut().error_help(id, at, message, help);
        ReadError::Reported
    }
}

/// One value of the tree as serde sees it.
#[derive(Clone, Copy)]
struct Value<'a, 'r> {
    reader: Reader<'a, 'r>,
    node: &'a Node,
    key: Place,
}

impl<'a> Value<'a, '_> {
    fn wanted(&self, what: &str, help: &str) -> ReadError {
        let at = self.node.place;
        match &self.node.kind {
            Kind::Refused => ReadError::Reported,
            Kind::Null => {
                let help = "leave the key out, or give it a value; quote text with `#` or `~`";
                self.reader.fail(
                    "null",
                    self.key,
                    format!("no value, {what} is wanted"),
                    help,
                )
            }
            kind => {
                let message = format!("{} where {what} is wanted", kind.in_words());
                self.reader.fail("type", at, message, help)
            }
        }
    }

    fn plain(&self) -> Option<&'a str> {
        match &self.node.kind {
            Kind::Scalar(Scalar {
                text,
                style: ScalarStyle::Plain,
                ..
            }) => Some(text),
            _ => None,
        }
    }

    fn lines(&self) -> Result<Lines, ReadError> {
        let mut report = self.reader.report.borrow_mut();
        match &self.node.kind {
            Kind::Scalar(scalar) if !lines::is_number_or_bool(scalar) => Ok(lines::of_block(
                &mut report,
                scalar,
                self.node.place,
                self.key,
            )),
            Kind::Seq(items) => Ok(lines::of_list(&mut report, items)),
            _ => {
                drop(report);
                let help = "a block of text, one entry a line, or a list of strings; quote numbers";
                Err(self.wanted("a list of texts", help))
            }
        }
    }
}

impl Kind {
    fn in_words(&self) -> String {
        match self {
            Self::Scalar(Scalar { text, .. }) => {
                let mut short: String = text.chars().take(40).collect();
                if short.len() < text.len() {
                    short.push('…');
                }
                format!("{short:?}")
            }
            Self::Seq(_) => "a list".to_owned(),
            Self::Map(_) => "a section of keys".to_owned(),
            Self::Null | Self::Refused => "nothing".to_owned(),
        }
    }
}

impl<'de> Deserializer<'de> for Value<'_, '_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::Seq(_) => self.deserialize_seq(visitor),
            _ => self.deserialize_str(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::Scalar(scalar) => visitor.visit_str(&scalar.text),
            _ => Err(self.wanted("text", "write it on one line, in quotes if need be")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.plain() {
            Some("true") => visitor.visit_bool(true),
            Some("false") => visitor.visit_bool(false),
            _ => Err(self.wanted(
                "`true` or `false`",
                "write `true` or `false`, without quotes",
            )),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let digits = self
            .plain()
            .filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
        let canonical = digits.filter(|t| *t == "0" || !t.starts_with('0'));
        match canonical.and_then(|t| t.parse().ok()) {
            Some(number) => visitor.visit_u64(number),
            None => Err(self.wanted("a whole number", "digits only, without quotes")),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let digits = self
            .plain()
            .filter(|t| t.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
            // `0660` is text in YAML.
            .filter(|t| t.len() < 2 || !t.starts_with('0') || t.starts_with("0."));
        match digits.and_then(|t| t.parse().ok()) {
            Some(number) => visitor.visit_f64(number),
            None => Err(self.wanted("a number", "digits and a point, without quotes")),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match name {
            FIELD => visitor.visit_seq(FieldAccess {
                value: self,
                next: 0,
            }),
            LINES => visitor.visit_seq(LinesAccess {
                lines: self.lines()?.split().into_iter(),
                line: None,
            }),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::Seq(items) => visitor.visit_seq(Items {
                reader: self.reader,
                items: items.iter(),
            }),
            _ => Err(self.wanted("a list", "write `[one, two]`")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match &self.node.kind {
            Kind::Map(pairs) => {
                let reader = self.reader;
                visitor.visit_map(Keys {
                    reader,
                    pairs: pairs.iter(),
                    fields,
                    value: None,
                })
            }
            _ => Err(self.wanted("a section", "write `key: value` below it")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let text = match &self.node.kind {
            Kind::Scalar(scalar) => Some(scalar.text.as_str()),
            _ => None,
        };
        match text.filter(|t| variants.contains(t)) {
            Some(word) => {
                let word: StrDeserializer<'_, ReadError> = word.into_deserializer();
                visitor.visit_enum(word)
            }
            None => {
                let help = suggestion(text.unwrap_or_default(), variants);
                Err(self.wanted("one word of a few", &help))
            }
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 char bytes byte_buf option unit unit_struct
        tuple tuple_struct map identifier ignored_any
    }
}

/// What a `Field` is made of: place of key and value, then the value.
struct FieldAccess<'a, 'r> {
    value: Value<'a, 'r>,
    next: usize,
}

impl<'de> de::SeqAccess<'de> for FieldAccess<'_, '_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        let Value { reader, node, key } = self.value;
        let places = [
            reader.file.into(),
            key.line,
            key.col,
            node.place.line,
            node.place.col,
        ];
        let place: Option<u32> = places.get(self.next).copied();
        self.next += 1;
        match place {
            Some(number) => seed.deserialize(number.into_deserializer()).map(Some),
            None => seed
                .deserialize(self.value)
                .map(Some)
                .map_err(|e| reader.say(node.place, e)),
        }
    }
}

/// Entries of a `Lines`, three elements each: line, column, text.
struct LinesAccess {
    lines: std::vec::IntoIter<Line>,
    line: Option<(Line, u8)>,
}

impl<'de> de::SeqAccess<'de> for LinesAccess {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        let Some((line, part)) = self.line.take().or_else(|| Some((self.lines.next()?, 0))) else {
            return Ok(None);
        };
        let value = match part {
            0 => seed.deserialize(u32::from(line.place.file).into_deserializer()),
            1 => seed.deserialize(line.place.line.into_deserializer()),
            2 => seed.deserialize(line.place.col.into_deserializer()),
            _ => return seed.deserialize(line.text.into_deserializer()).map(Some),
        };
        self.line = Some((line, part + 1));
        value.map(Some)
    }
}

struct Items<'a, 'r> {
    reader: Reader<'a, 'r>,
    items: std::slice::Iter<'a, Node>,
}

impl<'de> de::SeqAccess<'de> for Items<'_, '_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        let Some(node) = self.items.next() else {
            return Ok(None);
        };
        seed.deserialize(Value {
            reader: self.reader,
            node,
            key: node.place,
        })
        .map(Some)
    }
}

/// The known keys of a section; the unknown ones are reported and left out.
struct Keys<'a, 'r> {
    reader: Reader<'a, 'r>,
    pairs: std::slice::Iter<'a, Pair>,
    fields: &'static [&'static str],
    value: Option<(&'a Pair, usize)>,
}

impl<'de> de::MapAccess<'de> for Keys<'_, '_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        let mut seen = self.value.take().map_or(0, |(_, seen)| seen);
        for pair in self.pairs.by_ref() {
            let Some(index) = self.fields.iter().position(|f| *f == pair.key) else {
                let reader = self.reader;
                let full =
                    reader
                        .report
                        .borrow()
                        .is_full(Severity::Error, "unknown-key", reader.file);
                let help = if full {
                    String::new()
                } else {
                    suggestion(&pair.key, self.fields)
                };
                let short: String = pair.key.chars().take(40).collect();
                self.reader.fail(
                    "unknown-key",
                    pair.key_place,
                    format!("unknown key `{short}`"),
                    &help,
                );
                continue;
            };
            // The second of two equal keys was reported with the tree; a third would end serde.
            let bit = 1usize << index;
            if seen & bit != 0 {
                continue;
            }
            seen |= bit;
            self.value = Some((pair, seen));
            return seed
                .deserialize(pair.key.as_str().into_deserializer())
                .map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let Some((pair, _)) = self.value else {
            return Err(ReadError::Reported);
        };
        seed.deserialize(Value {
            reader: self.reader,
            node: &pair.value,
            key: pair.key_place,
        })
    }
}

/// `did you mean ...?`, or all there is.
fn suggestion(written: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|word| (distance(written, word), word))
        .filter(|(far, word)| *far <= 1 + word.len() / 4)
        .min_by_key(|(far, _)| *far);
    match near {
        Some((_, word)) => format!("did you mean `{word}`?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// Edits between two words (Levenshtein); words over 64 octets are far from everything.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.to_lowercase().chars().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        for (y, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let here = (corner + usize::from(x != *y))
                .min(left + 1)
                .min(*above + 1);
            corner = std::mem::replace(above, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}
