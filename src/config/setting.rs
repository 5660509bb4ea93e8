//! What a setting is to the program, beside its name: how layers merge, what is built in, what may
//! be written, and how its value is shown.
//!
//! `raw` and `mailbox` list every key once, with its meaning, its type and its built-in value. The
//! reader, the merge, the built-in layer, `config show`, `config example` and `config schema` all
//! come from that list.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::field::Field;
use super::lines::Lines;
use super::source::{Place, Report};
use super::text::Text;

/// A value of a settings file. The methods without a body to override are those of a plain value.
pub(crate) trait Setting: Clone + 'static {
    /// What may be written.
    fn shape() -> Shape;

    /// The value to show; relative paths joined to the folder of the file at `place`.
    fn shown(&self, report: &Report, place: Place) -> Shown;

    /// The one merge rule: leaf by leaf the upper one counts, lists replace.
    fn over(self, _below: &Self) -> Self {
        self
    }

    /// A section with nothing but what is built in. `None` for other values.
    fn built_in() -> Option<&'static Self> {
        None
    }

    /// Over what is built in: also for the items of lists, which lie over nothing else.
    fn complete(self) -> Self {
        match Self::built_in() {
            Some(below) => self.over(below),
            None => self,
        }
    }
}

/// What may be written for a setting.
#[derive(Debug)]
pub(crate) enum Shape {
    /// `true` or `false`.
    Bool,
    /// A whole number, the least and the most.
    Whole(u64, Option<u64>),
    /// A number, perhaps with a point, the least and the most.
    Number(u64, u64),
    /// Any text on one line or in a block.
    Free,
    /// A text that matches this regular expression (ECMA 262).
    Text(&'static str),
    /// One of these.
    Words(&'static [Word]),
    /// Patterns, one a line or as a list.
    Lines,
    /// A list.
    List(Box<Shape>),
    /// A map.
    Section(&'static Section),
}

/// A word of a closed set, and what it means unless that is plain.
#[derive(Debug)]
pub(crate) struct Word {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
}

/// The keys of a map.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) keys: &'static [Key],
    /// Of two such keys a file has one at most.
    pub(crate) either: &'static [(&'static str, &'static str)],
}

/// One key.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// Its meaning, in one line.
    pub(crate) doc: &'static str,
    pub(crate) built_in: BuiltIn,
    /// YAML text for the example, where the built-in value shows too little.
    pub(crate) like: Option<&'static str>,
    /// YAML text for the example, as a comment: instead of another key, or for a rare need.
    pub(crate) or: Option<&'static str>,
    pub(crate) shape: fn() -> Shape,
}

/// What counts when a key is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BuiltIn {
    /// YAML text.
    Value(&'static str),
    /// It must not be left out.
    Required,
    /// Nothing, though it is a section.
    Absent,
    /// Of a section: what its keys say; else nothing.
    Inner,
}

impl Key {
    /// The YAML text of the built-in value, where the key itself states one.
    pub(crate) fn built_in(&self) -> Option<&'static str> {
        match self.built_in {
            BuiltIn::Value(text) => Some(text),
            _ => None,
        }
    }

    /// The built-in value where it is a plain one or a list of such.
    pub(crate) fn built_in_value(&self) -> Option<Value> {
        let value: Value = serde_yaml::from_str(self.built_in()?).ok()?;
        let is_section = |value: &Value| value.is_object();
        let sections = value
            .as_array()
            .is_some_and(|list| list.iter().any(is_section));
        (!sections && !value.is_object()).then_some(value)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.name, (self.shape)())
    }
}

/// A value as `config show` prints it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shown {
    Leaf(Value),
    List(Vec<Item>),
    Section(Vec<(&'static str, Item)>),
}

/// A value and where it was written; `None` when it is built in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    pub(crate) at: Option<Place>,
    pub(crate) value: Shown,
}

impl<T: Setting> Field<T> {
    /// `self` over the same key of the layer below. A value that was refused counts as left out, but
    /// its place is known.
    pub(crate) fn over(self, below: &Self) -> Self {
        let at = self.at.or(below.at);
        let value = match (self.value, &below.value) {
            (Some(upper), Some(lower)) => Some(upper.over(lower)),
            (Some(upper), None) => Some(upper.complete()),
            (None, lower) => lower.clone(),
        };
        Self { value, at }
    }

    /// `None` when there is no value.
    pub(crate) fn shown(&self, report: &Report) -> Option<Item> {
        Some(Item {
            at: self.at.map(|at| at.key),
            value: self.get()?.shown(report, self.place()),
        })
    }
}

/// A built-in value from its YAML text.
pub(crate) fn parse<T: Setting + DeserializeOwned>(text: &str) -> Field<T> {
    Field {
        value: serde_yaml::from_str(text).ok().map(T::complete),
        at: None,
    }
}

impl Setting for bool {
    fn shape() -> Shape {
        Shape::Bool
    }

    fn shown(&self, _: &Report, _: Place) -> Shown {
        Shown::Leaf((*self).into())
    }
}

impl Setting for u64 {
    fn shape() -> Shape {
        Shape::Whole(0, None)
    }

    fn shown(&self, _: &Report, _: Place) -> Shown {
        Shown::Leaf((*self).into())
    }
}

impl Setting for String {
    fn shape() -> Shape {
        Shape::Free
    }

    fn shown(&self, _: &Report, _: Place) -> Shown {
        Shown::Leaf(self.as_str().into())
    }
}

impl Setting for Lines {
    fn shape() -> Shape {
        Shape::Lines
    }

    fn shown(&self, _: &Report, _: Place) -> Shown {
        let item = |(place, text): (Place, &str)| Item {
            at: (place.line > 0).then_some(place),
            value: Shown::Leaf(text.into()),
        };
        Shown::List(self.iter().map(item).collect())
    }
}

impl<T: Setting> Setting for Vec<Field<T>> {
    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }

    fn shown(&self, report: &Report, _: Place) -> Shown {
        Shown::List(self.iter().filter_map(|item| item.shown(report)).collect())
    }

    fn over(self, _below: &Self) -> Self {
        self.complete()
    }

    fn complete(self) -> Self {
        let complete = |item: Field<T>| Field {
            value: item.value.map(T::complete),
            at: item.at,
        };
        self.into_iter().map(complete).collect()
    }
}

/// A value that is written as one text. Its `Display` gives a text that is read as the same value.
pub(crate) trait Written:
    FromStr<Err: fmt::Display> + fmt::Display + Clone + 'static
{
    /// What the text matches, as far as a regular expression can say it.
    fn shape() -> Shape;

    /// With a relative path joined to `folder`.
    fn below(self, _folder: &Path) -> Self {
        self
    }
}

impl<T: Written> Setting for Text<T> {
    fn shape() -> Shape {
        T::shape()
    }

    fn shown(&self, report: &Report, place: Place) -> Shown {
        let resolved = self.0.clone().below(report.folder(place));
        Shown::Leaf(resolved.to_string().into())
    }
}

/// Sections of a settings file: a line of doc and a line `key: Type` for each key. Behind the type:
/// `= "YAML"`, its built-in value; `= required`; `= none` for a section that is not there unless
/// it is written; `like "YAML"`, what the example shows where the built-in value shows too little;
/// `or "YAML"`, what it shows as a comment.
///
/// `lists(a a_file, ...)`: such a pair is one leaf. `either(a b, ...)`: a file has one of the two.
/// `then(f)`: `f` finishes the built-in values that depend on others.
macro_rules! sections {
    ($($(#[doc = $section_doc:literal])+ $name:ident {
        $(#[doc = $doc:literal]
        $key:ident: $value:ty $(= $built_in:tt)? $(, like $like:literal)? $(, or $or:literal)?;)+
    } $(lists($($list:ident $list_file:ident),+))? $(either($($one:ident $other:ident),+))?
      $(then($finish:path))?)+) => {
        $(
            $(#[doc = $section_doc])+
            #[derive(Debug, Clone, Default, PartialEq, serde::Deserialize)]
            #[serde(default, deny_unknown_fields)]
            pub(crate) struct $name {
                $(#[doc = $doc] pub(crate) $key: $crate::config::field::Field<$value>),+
            }

            impl $crate::config::setting::Setting for $name {
                fn shape() -> $crate::config::setting::Shape {
                    use $crate::config::setting::{Key, Section, Setting, Shape, name};
                    const SECTION: Section = Section {
                        keys: &[$(Key {
                            name: name(stringify!($key)),
                            doc: $doc.trim_ascii(),
                            built_in: $crate::config::setting::sections!(@built_in $($built_in)?),
                            like: $crate::config::setting::sections!(@like $($like)?),
                            or: $crate::config::setting::sections!(@like $($or)?),
                            shape: <$value as Setting>::shape,
                        }),+],
                        either: &[
                            $($((stringify!($list), stringify!($list_file)),)+)?
                            $($((stringify!($one), stringify!($other)),)+)?
                        ],
                    };
                    Shape::Section(&SECTION)
                }

                fn shown(
                    &self,
                    report: &$crate::config::source::Report,
                    _: $crate::config::source::Place,
                ) -> $crate::config::setting::Shown {
                    let items = [$(
                        ($crate::config::setting::name(stringify!($key)), self.$key.shown(report))
                    ),+];
                    let items = items.into_iter().filter_map(|(name, item)| Some((name, item?)));
                    $crate::config::setting::Shown::Section(items.collect())
                }

                #[allow(unused_mut)]
                fn over(self, below: &Self) -> Self {
                    let mut below = std::borrow::Cow::Borrowed(below);
                    $($(if self.$list.is_given() || self.$list_file.is_given() {
                        let below = below.to_mut();
                        below.$list = Default::default();
                        below.$list_file = Default::default();
                    })+)?
                    Self { $($key: self.$key.over(&below.$key)),+ }
                }

                fn built_in() -> Option<&'static Self> {
                    static BUILT_IN: std::sync::LazyLock<$name> = std::sync::LazyLock::new(|| {
                        $name { $(
                            $key: $crate::config::setting::sections!(@value $value, $($built_in)?)
                        ),+ }
                    });
                    Some(&BUILT_IN)
                }

                $(fn complete(self) -> Self {
                    let Some(below) = Self::built_in() else { return self };
                    $finish(self.over(below))
                })?
            }
        )+
    };
    (@built_in) => { $crate::config::setting::BuiltIn::Inner };
    (@built_in none) => { $crate::config::setting::BuiltIn::Absent };
    (@built_in required) => { $crate::config::setting::BuiltIn::Required };
    (@built_in $text:literal) => { $crate::config::setting::BuiltIn::Value($text) };
    (@like) => { None };
    (@like $text:literal) => { Some($text) };
    (@value $value:ty, none) => { Default::default() };
    (@value $value:ty, required) => { Default::default() };
    (@value $value:ty, $text:literal) => { $crate::config::setting::parse($text) };
    (@value $value:ty,) => {
        $crate::config::field::Field {
            value: <$value as $crate::config::setting::Setting>::built_in().cloned(),
            at: None,
        }
    };
}
pub(crate) use sections;

/// Closed sets of words, written in snake case; a doc behind `///` where a word is not plain.
macro_rules! words {
    ($($(#[doc = $set_doc:literal])+ $name:ident {
        $(#[doc = $first_doc:literal])? $first:ident = $first_word:literal
        $(, $(#[doc = $doc:literal])? $variant:ident = $word:literal)* $(,)?
    })+) => {
        $(
            $(#[doc = $set_doc])+
            #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
            pub(crate) enum $name {
                #[default]
                #[serde(rename = $first_word)]
                $first,
                $(#[serde(rename = $word)] $variant),*
            }

            impl $name {
                /// As written.
                pub(crate) const fn word(self) -> &'static str {
                    match self {
                        Self::$first => $first_word,
                        $(Self::$variant => $word),*
                    }
                }
            }

            impl $crate::config::setting::Setting for $name {
                fn shape() -> $crate::config::setting::Shape {
                    use $crate::config::setting::Word;
                    const WORDS: &[Word] = &[
                        Word { name: $first_word, doc: concat!($($first_doc)?).trim_ascii() },
                        $(Word { name: $word, doc: concat!($($doc)?).trim_ascii() }),*
                    ];
                    $crate::config::setting::Shape::Words(WORDS)
                }

                fn shown(
                    &self,
                    _: &$crate::config::source::Report,
                    _: $crate::config::source::Place,
                ) -> $crate::config::setting::Shown {
                    $crate::config::setting::Shown::Leaf(self.word().into())
                }
            }
        )+
    };
}
pub(crate) use words;

/// A key's name without the mark that Rust's own words need.
pub(crate) const fn name(identifier: &'static str) -> &'static str {
    match identifier.as_bytes() {
        [b'r', b'#', ..] => identifier.split_at(2).1,
        _ => identifier,
    }
}
