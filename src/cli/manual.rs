//! `sekimori completions` and `sekimori man`: from the definitions that the command line is parsed
//! with.

use std::io::Write;

use clap::{Command, CommandFactory, ValueEnum};

use super::{Cli, Done, Exit, Failure};

/// Shells that we can complete for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn completions(shell: Shell, out: &mut dyn Write) -> Done {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    // The generator panics where its output ends early (`| head`): it gets a buffer.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sekimori", &mut script);
    Ok(out.write_all(&script)?)
}

/// The page of the program, or of one of its commands.
pub(super) fn man(path: &[String], out: &mut dyn Write) -> Done {
    let mut program = Cli::command();
    program.build();
    let mut command = &program;
    for name in path {
        command = command.find_subcommand(name).ok_or_else(|| {
            let known: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
            let message = format!("no command `{name}`; known here: {}", known.join(", "));
            Failure::new(Exit::Usage, message)
        })?;
    }
    Ok(clap_mangen::Man::new(command.clone()).render(out)?)
}
