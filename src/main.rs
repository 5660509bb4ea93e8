//! The process: argv to command to exit code. The only place that prints or exits.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use sekimori::cli::{self, Cli, Exit};
use tikv_jemallocator::Jemalloc;

/// A mail is some thousand small pieces of memory, taken by one thread and given back by another:
/// a fifth less processor time than with glibc's. `src/malloc.c` says how it is set.
#[global_allocator]
static MEMORY: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed stderr leaves nobody to tell.
            let _ = error.print();
            return code(if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            });
        }
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let result = cli::execute(&cli, &mut out).and_then(|()| Ok(out.flush()?));
    drop(out);
    match result {
        Ok(()) => code(Exit::Ok),
        Err(failure) => {
            let name = if failure.has_place { "" } else { "sekimori: " };
            if !failure.message.is_empty() {
                let _ = writeln!(std::io::stderr(), "{name}{failure}");
            }
            code(failure.exit)
        }
    }
}

fn code(exit: Exit) -> ExitCode {
    ExitCode::from(exit as u8)
}
