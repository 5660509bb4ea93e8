//! LMTP (RFC 2033) and SMTP (RFC 5321) without a socket: bytes in, events and replies out.

pub mod command;
pub mod data;
pub mod reply;
pub mod session;
pub mod writer;

pub use reply::{EnhancedCode, Reply};
