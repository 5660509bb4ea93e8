//! A linear look at a mail before any recursive parser sees it: are header fields, parts and
//! nesting within bounds?

/// The bounds (`server.limits`); beyond them a mail is decided on its header fields alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Header fields of the message, a count.
    pub header_fields: usize,
    /// Octets of the message's header block.
    pub header_bytes: usize,
    /// MIME parts, a count.
    pub mime_parts: usize,
    /// Nesting of multiparts and message/rfc822.
    pub mime_depth: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            header_fields: 1000,
            header_bytes: 1 << 20,
            mime_parts: 1000,
            mime_depth: 64,
        }
    }
}

/// The first bound that a mail exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// More than `header_fields` fields; the first ones were read.
    HeaderFields,
    /// More than `header_bytes` octets of header; the first ones were read.
    HeaderBytes,
    /// More than `mime_parts` parts.
    MimeParts,
    /// Deeper than `mime_depth`.
    MimeDepth,
}
