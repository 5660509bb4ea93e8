//! The header block, scanned by our own code: every field in order, none swallowed.
//!
//! (mail-parser loses a field behind some dates and shows the last of several, so it is asked for
//! the MIME tree only.)

/// One header field: the name as written and the raw value, folded lines included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// As written, without the colon.
    pub name: String,
    /// Everything between the colon and the line end that closes the field, raw bytes.
    pub value: Vec<u8>,
    /// The field's octets in the message, name and closing line end included.
    pub span: std::ops::Range<usize>,
}

/// All fields of a message's header block, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    fields: Vec<Field>,
}

impl Header {
    /// All fields in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The fields of that name, case-insensitive, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Field> {
        self.fields
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
    }

    /// The first field of that name.
    pub fn first(&self, name: &str) -> Option<&Field> {
        self.fields
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name))
    }

    /// Every mailbox address named in the fields of that name (`To`, `Cc`, `Resent-To`, …),
    /// groups and comments understood, in [`Address::key`](super::Address::key) form.
    pub fn address_keys(&self, _name: &str) -> Vec<String> {
        unimplemented!()
    }
}

impl Field {
    /// The value unfolded and decoded for a person (RFC 2047), trimmed.
    pub fn text(&self) -> String {
        unimplemented!()
    }
}
