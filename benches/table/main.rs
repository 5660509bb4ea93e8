//! The tools of `benches/table/run`: what sends mail, what takes it, the least that a durable server
//! does, and a store that is filled beforehand. `run` builds and calls them; without arguments this
//! does nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    reason = "a bench is not shipped"
)]

mod bare;
mod fill;
mod histogram;
mod load;
mod sink;

use std::collections::HashMap;
use std::str::FromStr;

const USAGE: &str = "table load|sink|bare|fill --NAME VALUE…; benches/table/run calls it";

/// `--name value`, each at most once.
struct Options(HashMap<String, String>);

impl Options {
    fn of(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut options = HashMap::new();
        while let Some(name) = arguments.next() {
            let value = arguments.next().unwrap_or_default();
            options.insert(name.trim_start_matches('-').to_owned(), value);
        }
        Self(options)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn number<T: FromStr>(&self, name: &str, otherwise: T) -> T {
        match self.text(name) {
            None => otherwise,
            Some(text) => text.parse().unwrap_or_else(|_| {
                eprintln!("--{name} {text}: not a number");
                std::process::exit(64)
            }),
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let options = Options::of(arguments);
    match command.as_str() {
        "load" => load::run(&options),
        "sink" => sink::run(&options),
        "bare" => bare::run(&options),
        "fill" => fill::run(&options),
        // cargo calls every bench, with `--bench`.
        "" | "--bench" => println!("{USAGE}"),
        _ => {
            eprintln!("{USAGE}");
            std::process::exit(64)
        }
    }
}
