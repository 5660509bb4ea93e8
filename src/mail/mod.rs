//! What a message is: its envelope, header fields, decoded and folded text, MIME facts.
//!
//! Pure: parsing never fails and never reads a clock, file or socket; it only finds less.

#![deny(clippy::indexing_slicing)]

pub mod address;
mod buffer;
mod charset;
pub mod compose;
pub mod edit;
pub mod envelope;
pub mod fold;
pub mod header;
mod letter;
pub mod locate;
mod mailbox;
pub mod message;
pub mod notice;
pub(crate) mod octets;
mod parameter;
pub mod parts;
pub mod prescan;
mod removal;
mod transfer;
mod words;

pub use address::{Address, AddressError};
pub use buffer::buffer;
pub use envelope::{Client, Envelope, Protocol, ReversePath};
pub use fold::Folded;
pub use header::{Field, Header, find_field};
pub use message::{FromAddress, FromField, Message, SubjectField, SubjectText};
pub use octets::{Fetching, Octets, Stored};
pub use parts::{Encoding, Infected, Part, parts};
pub use prescan::{Bounds, Exceeded};
pub use removal::{Piece, cleaned};
pub use words::{harmless, is_harmful};
