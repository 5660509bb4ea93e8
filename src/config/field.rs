//! A setting as written: its value if it could be read, and its place.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use super::source::Place;

/// The name by which [`super::read`] knows a [`Field`].
pub(crate) const FIELD: &str = "$field";

/// One key's value. Equality looks at the value only.
#[derive(Debug, Clone)]
pub(crate) struct Field<T> {
    /// `None` when the key is left out, or was refused.
    pub(crate) value: Option<T>,
    /// `None` when the key is left out.
    pub(crate) at: Option<At>,
}

/// Where a key and its value stand; the same for an item of a list.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct At {
    pub(crate) key: Place,
    pub(crate) value: Place,
}

impl<T> Field<T> {
    /// Whether the key stands in the file, readable or not.
    pub(crate) fn is_given(&self) -> bool {
        self.at.is_some()
    }

    /// The place of the key; of nothing when it is left out.
    pub(crate) fn key(&self) -> Place {
        self.at.unwrap_or_default().key
    }

    /// The place of the value; of nothing when it is left out.
    pub(crate) fn place(&self) -> Place {
        self.at.unwrap_or_default().value
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.value.as_ref()
    }
}

impl<T: Clone> Field<T> {
    /// With a built-in value that depends on other keys, where there is no value yet.
    pub(crate) fn or_built_in(self, value: T) -> Self {
        Self {
            value: self.value.or(Some(value)),
            at: self.at,
        }
    }
}

impl<T: Clone + Default> Field<T> {
    /// The value, or what the type has for nothing: no entries, a section with nothing set. Once it
    /// lies over the built-in layer only a key without a built-in value has none.
    pub(crate) fn or_default(&self) -> T {
        self.value.clone().unwrap_or_default()
    }
}

impl<T> Default for Field<T> {
    fn default() -> Self {
        Self {
            value: None,
            at: None,
        }
    }
}

impl<T: PartialEq> PartialEq for Field<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(FIELD, FieldVisitor(PhantomData))
    }
}

struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    /// serde_yaml: no places, the first error ends it.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, d: D) -> Result<Field<T>, D::Error> {
        Ok(Field {
            value: Some(T::deserialize(d)?),
            at: None,
        })
    }

    /// Our reader: the place, then the value; what is wrong with it has been reported.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field<T>, A::Error> {
        let mut number = || {
            seq.next_element::<u32>()?
                .ok_or_else(|| A::Error::custom("a place is wanted"))
        };
        let file = u16::try_from(number()?).unwrap_or(u16::MAX);
        let key = Place {
            file,
            line: number()?,
            col: number()?,
        };
        let value = Place {
            file,
            line: number()?,
            col: number()?,
        };
        let at = At { key, value };
        Ok(Field {
            value: seq.next_element().ok().flatten(),
            at: Some(at),
        })
    }
}
