//! Mailbox files changed by command: text in, change, text out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "edit/properties.rs"]
mod properties;
#[path = "edit/session.rs"]
mod session;
#[path = "edit/yaml.rs"]
mod yaml;
