//! sekimori (関守): a mail filtering daemon between an MTA and the mailbox.
//!
//! One mail comes in by LMTP or SMTP, each of its recipients gets a decision, the decision is
//! carried out durably, and only then is the hand-off answered. Modules are declared in reading
//! order; dependencies point upwards only (`tests/architecture.rs` holds that):
//!
//! * ring 0, pure: [`mail`] (what a message is), [`policy`] (what to do with it), [`smtp`]
//!   (bytes in, events and replies out). No clock, socket, file, runtime or serde.
//! * ring 1, settings: [`config`] turns the two kinds of YAML file into policies; [`sieve`] turns
//!   policies into scripts and scripts into mailbox files.
//! * ring 2, adapters: [`store`], [`scan`], [`deliver`], [`relay`]; each owns its error.
//! * ring 3, the daemon: [`agent`] walks one message, [`execute`] carries out its plans,
//!   [`server`] listens, [`control`] and [`cli`] are the operator's side.
//!
//! `durable` brings new files to the disk for two of the adapters; [`failpoint`] names the places of the crash order at which tests end the process.

pub mod mail;
pub mod policy;
pub mod smtp;

pub mod config;
pub mod sieve;

mod durable;
pub mod failpoint;

pub mod deliver;
pub mod relay;
pub mod scan;
pub mod store;

pub mod agent;
pub mod execute;
pub mod server;
pub mod telemetry;
pub mod view;

pub mod cli;
pub mod control;
pub mod daemon;
