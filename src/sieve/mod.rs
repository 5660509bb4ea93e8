//! Sieve (RFC 5228): the settings of a mailbox as a script that Dovecot Pigeonhole runs, and the
//! scripts of webmail rule editors as a mailbox file.
//!
//! Pure: text and settings in, text and lists out. [`script`] is what a script is and how it is
//! written down, `lexer` and `parser` read one ([`parse`]). [`export`] and [`import`] say of
//! everything that has no counterpart on the other side where it stands and why.

pub mod export;
pub mod import;
mod lexer;
mod parser;
mod period;
mod rule;
pub mod script;
mod spelling;
mod yaml;

pub use lexer::SyntaxError;
pub use parser::parse;
