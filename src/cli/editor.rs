//! `sekimori mailbox edit`: the person's own editor on a private copy, which counts when it is good.
//!
//! The one place of the program that starts another one: what a person at a terminal has named, with
//! the name of our copy and nothing of a mail.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use super::change::{self, Outcome, Told};
use super::{Done, Exit, Failure, Global, config_of};
use crate::config::edit::{Access, EditError, Session};

pub(super) fn edit(global: &Global, mailbox: &str, out: &mut dyn Write) -> Done {
    let config = Arc::new(config_of(global)?);
    let mailbox = change::owner(&config, mailbox)?;
    // The lock is not held while the person writes.
    let (before, text, path) = {
        let session = Session::open(&config, &mailbox, Access::Replace)?;
        let before = session.on_disk().map(str::to_owned);
        (before, session.text().to_owned(), session.path().to_owned())
    };
    let copy = Copy::of(&mailbox.to_string(), &text)?;
    copy.run_editor()?;
    let new = copy.read()?;
    let told = Told {
        mailbox: mailbox.to_string(),
        file: path.display().to_string(),
        dry_run: false,
    };
    let saved = (|| {
        let mut session = Session::open(&config, &mailbox, Access::Replace)?;
        session.replace_text(before.as_deref(), new)?;
        session.save()
    })();
    match saved {
        Ok(saved) => {
            copy.remove();
            change::tell(global, &told, &Outcome::default(), &saved, out)
        }
        Err(error) => Err(copy.kept(error)),
    }
}

/// The copy that is edited; it stays where something went wrong.
struct Copy {
    path: PathBuf,
}

impl Copy {
    fn of(mailbox: &str, text: &str) -> Result<Self, Failure> {
        let name: String = mailbox
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '@' || *c == '.')
            .take(60)
            .collect();
        let (mut file, path) = tempfile::Builder::new()
            .prefix(&format!("sekimori-{name}-"))
            .suffix(".yaml")
            .tempfile()
            .and_then(|file| file.keep().map_err(|error| error.error))
            .map_err(|error| Failure::io("a copy to edit", &error))?;
        file.write_all(text.as_bytes())
            .map_err(|error| Failure::io(path.display(), &error))?;
        Ok(Self { path })
    }

    /// `$VISUAL` or `$EDITOR`, else vi; words behind the program's name are its arguments.
    fn run_editor(&self) -> Result<(), Failure> {
        let named = ["VISUAL", "EDITOR"]
            .iter()
            .filter_map(|name| std::env::var(name).ok())
            .find(|value| !value.trim().is_empty())
            .unwrap_or_else(|| "vi".to_owned());
        let mut words = named.split_whitespace();
        let program = words.next().unwrap_or("vi");
        let status = Command::new(program).args(words).arg(&self.path).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                let words = format!("{program}: {status}; nothing is changed");
                Err(self.with_place(Exit::TempFail, &words))
            }
            Err(error) => {
                self.remove();
                let words = format!("{program}: {error}: set VISUAL or EDITOR to your editor");
                Err(Failure::new(Exit::Usage, words))
            }
        }
    }

    fn read(&self) -> Result<String, Failure> {
        let bytes =
            fs::read(&self.path).map_err(|error| Failure::io(self.path.display(), &error))?;
        String::from_utf8(bytes)
            .map_err(|_| self.with_place(Exit::Data, "octets that are not UTF-8"))
    }

    fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }

    fn kept(&self, error: EditError) -> Failure {
        let failure = Failure::from(error);
        Failure {
            has_place: failure.has_place,
            ..self.with_place(failure.exit, &failure.message)
        }
    }

    fn with_place(&self, exit: Exit, words: &str) -> Failure {
        let place = self.path.display();
        Failure::new(exit, format!("{words}\nyour text is kept in {place}"))
    }
}
