//! One engine's process: started in a group of its own, stopped, continued and killed as a whole.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::harness::eventually;
use crate::servers::show_log;

/// How long an engine may take for one answer before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running engine with all its workers; it is killed with the value.
pub(crate) struct Engine {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Engine {
    /// Starts `command`, whose output goes to `log`, and waits until `ready` says so.
    pub(crate) fn start(
        name: &'static str,
        command: &mut Command,
        log: &Path,
        mut ready: impl FnMut() -> bool,
    ) -> Self {
        let program = Path::new(command.get_program());
        assert!(
            program.exists(),
            "{} is not installed: tests/run installs what the tests need",
            program.display()
        );
        let output = log.with_extension("out");
        let file = File::create(&output).unwrap();
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut engine = Self {
            name,
            child,
            log: log.to_owned(),
        };
        eventually(&format!("{name} answers"), || {
            if let Some(status) = engine.child.try_wait().unwrap() {
                show_log(&output);
                panic!("{name} ended: {status}");
            }
            ready().then_some(())
        });
        engine
    }

    /// Not a step further, for all its processes. Its sockets still take connections.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// On from where it was stopped.
    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGKILL, as the kernel does when memory runs out.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// What it wrote into its log so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        let _ = kill_process_group(Pid::from_raw(pid).unwrap(), signal);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Once it was waited for, its number may be another's.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
        if std::thread::panicking() {
            eprintln!("--- {}", self.name);
            show_log(&self.log);
        }
    }
}

/// Everything that an engine on this port says to `request` until it closes; `None` where nothing listens.
pub(crate) fn ask(port: u16, request: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(answer)
}

/// Whether this process may do everything: some engines then want to be told that they may, too.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
