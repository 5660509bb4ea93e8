//! `sekimori store`: looking after the store's files.

use std::io::Write;

use clap::Subcommand;
use hyper::Method;

use super::run::store_exit;
use super::{Done, Exit, Failure, Global, client, config_of, text};
use crate::daemon;
use crate::store::{Store, StoreError};
use crate::view;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Reads every entry and every file, and tells what does not fit together
    Verify,
}

/// Asks the running daemon, or opens the store where none runs.
pub(super) fn store(global: &Global, command: &Command, out: &mut dyn Write) -> Done {
    let Command::Verify = command;
    let config = config_of(global)?;
    let report: serde_json::Value = match client::call(
        &config.control.socket,
        Method::POST,
        "/v1/store/verify",
        None,
    ) {
        Ok(answer) => serde_json::from_slice(&answer.body)
            .map_err(|error| Failure::new(Exit::Software, error.to_string()))?,
        Err(failure) if failure.exit == Exit::Unavailable => {
            if !config.store.path.is_dir() {
                let shown = config.store.path.display();
                return Err(Failure::new(
                    Exit::NoInput,
                    format!("{shown}: no store here"),
                ));
            }
            let failed = |error: StoreError| Failure::new(store_exit(&error), error.to_string());
            let store = Store::open(
                daemon::store_settings(&config),
                jiff::Timestamp::now().as_millisecond(),
            );
            view::verify(&store.map_err(failed)?.verify().map_err(failed)?)
        }
        Err(failure) => return Err(failure),
    };
    if global.json {
        writeln!(out, "{}", text::json(&report))?;
    } else {
        text::members(&report, out)?;
    }
    match report["problems"]
        .as_array()
        .is_some_and(|problems| problems.is_empty())
    {
        true => Ok(()),
        false => Err(Failure::new(Exit::Data, "the store has problems")),
    }
}
