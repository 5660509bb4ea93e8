//! What every server of these tests needs: a folder, free ports, waiting for a condition, accounts, a clean end.

use std::collections::HashSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Output};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

/// Long enough for a slow machine; a passing test never waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Asks `probe` until it answers; panics with `what` when it never does.
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < give_up, "never happened: {what}");
        std::thread::sleep(POLL);
    }
}

/// A TCP port on 127.0.0.1 that was free a moment ago and that no other test of this process was given.
pub(crate) fn free_port() -> u16 {
    static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    loop {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        if GIVEN.lock().unwrap().insert(port) {
            return port;
        }
    }
}

/// A temporary folder that the servers' own accounts can enter.
pub(crate) fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new()
        .prefix("sekimori-mta-")
        .tempdir()
        .unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Creates `path` and gives it to the account `owner`.
pub(crate) fn folder_of(path: &Path, owner: &str) {
    fs::create_dir_all(path).unwrap();
    let (uid, gid) = account(owner);
    chown(path, Some(uid), Some(gid)).unwrap();
}

/// Panics with the way out when a program of the tests' Debian packages is not installed, or this is not root.
pub(crate) fn require(program: &str) {
    assert!(
        Path::new(program).exists(),
        "{program} is not installed: tests/run installs what the tests need and runs them"
    );
    assert!(
        account_of_process() == 0,
        "a Postfix master is started by root only: tests/run asks sudo for that"
    );
}

/// Runs a command to its end and panics with its output when it fails.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// SIGTERM, then waits for the end.
pub(crate) fn terminate(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id())
        && let Some(pid) = rustix::process::Pid::from_raw(pid)
    {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    let _ = child.wait();
}

/// The end of a log, shown when a test has failed.
pub(crate) fn show_log(path: &Path) {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let skip = text.lines().count().saturating_sub(60);
    eprintln!("--- {}", path.display());
    text.lines().skip(skip).for_each(|line| eprintln!("{line}"));
}

fn account(name: &str) -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let fields: Vec<&str> = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields[0] == name)
        .unwrap_or_else(|| panic!("no account {name}: tests/run installs what the tests need"));
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}

fn account_of_process() -> u32 {
    rustix::process::geteuid().as_raw()
}
