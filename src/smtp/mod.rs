//! LMTP (RFC 2033) and SMTP (RFC 5321) without a socket: bytes in, events and replies out.
//!
//! The server's side is [`session`], which reads [`command`]s and [`data`]; the client's side is
//! [`writer`] and [`reply_parser`]. [`listen`] holds the two types that name a listener.
#![deny(clippy::indexing_slicing)]

mod answer;
pub mod command;
pub mod data;
pub mod listen;
pub mod reply;
pub mod reply_parser;
pub mod session;
pub mod writer;

pub use answer::Answer;
pub use data::{BareNewline, DataFault};
pub use listen::{Cidr, ListenAddress};
pub use reply::{EnhancedCode, Reply};
pub use reply_parser::{ReplyError, ReplyParser, ServerReply};
pub use session::{Event, Limits, Session, SessionSettings};
pub use writer::{StrayLineEnd, Writer, wire_data};
