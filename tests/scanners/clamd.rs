//! clamd with two signatures: EICAR, and one of ours.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use crate::engine::{Engine, PATIENCE};
use crate::mails;
use crate::servers::{free_port, open_folder};

/// `StreamMaxLength`, octets: less than the daemon's `limits.message_size`.
pub(crate) const STREAM_MAX: usize = 600 << 10;

/// A running clamd; Unix socket and TCP.
pub(crate) struct Clamd {
    pub(crate) engine: Engine,
    pub(crate) port: u16,
    folder: tempfile::TempDir,
}

impl Clamd {
    pub(crate) fn start() -> Self {
        Self::start_in(open_folder(), free_port(), "")
    }

    /// The same with more lines in its settings.
    pub(crate) fn start_with(more: &str) -> Self {
        Self::start_in(open_folder(), free_port(), more)
    }

    fn start_in(folder: tempfile::TempDir, port: u16, more: &str) -> Self {
        let path = |name: &str| folder.path().join(name);
        let database = path("signatures");
        fs::create_dir_all(&database).unwrap();
        fs::write(database.join("test.ndb"), signatures()).unwrap();
        let settings = format!(
            "Foreground yes\nDatabaseDirectory {}\nLocalSocket {}\nTCPSocket {port}\nTCPAddr 127.0.0.1\n\
             TemporaryDirectory {}\nLogFile {}\nLogClean yes\nStreamMaxLength {STREAM_MAX}\nMaxThreads 4\n\
             SelfCheck 0\nFixStaleSocket yes\n{more}",
            database.display(),
            path("clamd.sock").display(),
            folder.path().display(),
            path("clamd.log").display(),
        );
        fs::write(path("clamd.conf"), settings).unwrap();
        let socket = path("clamd.sock");
        let engine = Engine::start(
            "clamd",
            Command::new("/usr/sbin/clamd")
                .arg("-c")
                .arg(path("clamd.conf")),
            &path("clamd.log"),
            || {
                command(&socket, b"zPING\0").is_ok_and(|said| said == b"PONG\0")
                    && crate::engine::ask(port, b"zPING\0").is_some_and(|said| said == b"PONG\0")
            },
        );
        Self {
            engine,
            port,
            folder,
        }
    }

    /// Starts it again on the same places, after it was killed.
    pub(crate) fn start_again(self) -> Self {
        let Self {
            engine,
            port,
            folder,
        } = self;
        drop(engine);
        Self::start_in(folder, port, "")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("clamd.sock")
    }

    /// The name of what clamd finds in these octets, as any client of it would be told.
    pub(crate) fn finds(&self, octets: &[u8]) -> Option<String> {
        let length = u32::try_from(octets.len()).unwrap().to_be_bytes();
        let request = [b"zINSTREAM\0", length.as_slice(), octets, &[0; 4]].concat();
        let said = command(&self.socket(), &request).unwrap();
        let said = String::from_utf8(said).unwrap();
        let said = said.trim_end_matches('\0');
        if said == "stream: OK" {
            return None;
        }
        let name = said
            .strip_prefix("stream: ")
            .and_then(|rest| rest.strip_suffix(" FOUND"));
        Some(name.unwrap_or_else(|| panic!("{said}")).to_owned())
    }

    /// Streams that it has scanned, by its own log.
    pub(crate) fn scans(&self) -> usize {
        let log = self.engine.log();
        log.lines()
            .filter(|line| line.contains("instream("))
            .count()
    }
}

fn command(socket: &std::path::Path, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// EICAR at the beginning of a file, as its authors want it; ours anywhere.
fn signatures() -> String {
    let hex = |octets: &[u8]| {
        octets.iter().fold(String::new(), |mut text, octet| {
            write!(text, "{octet:02x}").unwrap();
            text
        })
    };
    format!(
        "Eicar-Test-Signature:0:0:{}\nSekimori.Test:0:*:{}\n",
        hex(&mails::eicar()),
        hex(mails::OURS)
    )
}
