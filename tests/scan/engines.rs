//! The real clamd, rspamd and spamd of Debian, each with settings of its own in a temporary folder,
//! on loopback.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sekimori::scan::{Endpoint, Settings};
use tempfile::TempDir;

use crate::peer::LONG;

/// Long enough for a loaded machine; a passing test does not wait for it.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// A running engine; killed with its children when dropped.
pub struct Engine {
    child: Child,
    folder: TempDir,
}

impl Engine {
    /// Starts `command` in a process group of its own and waits until `port` answers.
    fn start(mut command: Command, folder: TempDir, port: u16) -> Self {
        let log = fs::File::create(folder.path().join("output")).unwrap();
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut engine = Self { child, folder };
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = engine.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < until,
                "{command:?} does not listen: {ended:?}\n{}",
                fs::read_to_string(engine.folder.path().join("output")).unwrap()
            );
            std::thread::sleep(POLL);
        }
        engine
    }

    pub fn signal(&self, signal: Signal) {
        let group = rustix::process::Pid::from_raw(self.child.id().cast_signed()).unwrap();
        rustix::process::kill_process_group(group, signal).unwrap();
    }

    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn tcp(port: u16) -> Settings {
    Settings {
        address: Endpoint::Tcp {
            host: "127.0.0.1".to_owned(),
            port,
        },
        timeout: LONG,
    }
}

/// A folder that the engine's own user may enter and write.
fn open_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

pub fn clamd() -> (Engine, Settings, Settings) {
    let folder = open_folder();
    let (port, at) = (free_port(), folder.path().to_owned());
    let database = at.join("db");
    fs::create_dir(&database).unwrap();
    // Digests and bodies of our own; nothing is downloaded.
    fs::write(
        database.join("test.hdb"),
        "44d88612fea8a8f36de82e1278abb02f:68:Eicar-Test-Signature\n",
    )
    .unwrap();
    let body: String = b"SEKIMORI-TEST-VIRUS"
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    fs::write(
        database.join("test.ndb"),
        format!("Sekimori.Test:0:*:{body}\n"),
    )
    .unwrap();
    let settings = format!(
        "DatabaseDirectory {}\nLocalSocket {}\nTCPSocket {port}\nTCPAddr 127.0.0.1\nForeground yes\nStreamMaxLength 1M\nMaxThreads 4\n",
        database.display(),
        at.join("clamd.sock").display()
    );
    fs::write(at.join("clamd.conf"), settings).unwrap();
    let mut command = Command::new("/usr/sbin/clamd");
    command.arg("-c").arg(at.join("clamd.conf"));
    let engine = Engine::start(command, folder, port);
    // It opens this one after the other.
    while UnixStream::connect(at.join("clamd.sock")).is_err() {
        std::thread::sleep(POLL);
    }
    let unix = Settings {
        address: Endpoint::Unix(at.join("clamd.sock")),
        timeout: LONG,
    };
    (engine, unix, tcp(port))
}

/// rspamd with the rules that need no module, so no redis, DNS or downloads; its learned mail lies in SQLite files.
pub fn rspamd() -> (Engine, Settings, Settings) {
    let folder = open_folder();
    let (port, control, at) = (
        free_port(),
        free_port(),
        folder.path().display().to_string(),
    );
    let settings = format!(
        "options {{
  filters = \"regexp\";
  tempdir = \"{at}\";
  hs_cache_dir = \"{at}\";
  cache_file = \"{at}/symbols.cache\";
  control_socket = \"{at}/control.sock mode=0600\";
  dns {{ nameserver = [\"127.0.0.1:1\"]; timeout = 0.1s; retransmits = 1; }}
  max_message = 1mb;
  url_tld = \"{at}/suffixes\";
}}
lua = \"$RULESDIR/rspamd.lua\"
.include \"$CONFDIR/metrics.conf\"
.include \"$CONFDIR/actions.conf\"
.include \"$CONFDIR/groups.conf\"
logging {{ type = \"console\"; level = \"warning\"; }}
classifier \"bayes\" {{
  # No locks: the scanner reads it while the controller learns.
  backend = \"mmap\";
  tokenizer {{ name = \"osb\"; }}
  cache {{ type = \"sqlite3\"; path = \"{at}/cache.sqlite\"; }}
  statfile {{ symbol = \"BAYES_HAM\"; spam = false; size = 1M; path = \"{at}/ham.statfile\"; }}
  statfile {{ symbol = \"BAYES_SPAM\"; spam = true; size = 1M; path = \"{at}/spam.statfile\"; }}
}}
worker \"normal\" {{
  bind_socket = \"127.0.0.1:{port}\";
  count = 1;
}}
worker \"controller\" {{
  bind_socket = \"127.0.0.1:{control}\";
  count = 1;
  password = \"sekimori-look\";
  enable_password = \"sekimori-change\";
}}
"
    );
    fs::write(folder.path().join("rspamd.conf"), settings).unwrap();
    // All public suffixes take seconds to compile.
    fs::write(folder.path().join("suffixes"), "example\njp\n").unwrap();
    let mut command = Command::new("/usr/bin/rspamd");
    command
        .arg("-f")
        .arg("-c")
        .arg(folder.path().join("rspamd.conf"));
    if rustix::process::geteuid().is_root() {
        command.args(["-u", "_rspamd", "-g", "_rspamd"]);
    }
    for place in ["DBDIR", "RUNDIR", "LOGDIR"] {
        command.arg(format!("--var={place}={at}"));
    }
    command.arg("--var=CONFDIR=/etc/rspamd");
    command.arg(format!("--var=LOCAL_CONFDIR={at}/none"));
    let engine = Engine::start(command, folder, port);
    (engine, tcp(port), tcp(control))
}

pub fn spamd(options: &[&str]) -> (Engine, Settings) {
    let folder = open_folder();
    let (port, at) = (free_port(), folder.path().to_owned());
    for file in fs::read_dir("/etc/spamassassin").unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "pre") {
            fs::copy(&path, at.join(path.file_name().unwrap())).unwrap();
        }
    }
    let settings = format!(
        "use_bayes 1\nbayes_auto_learn 0\nbayes_path {}\n",
        at.join("bayes").display()
    );
    fs::write(at.join("local.cf"), settings).unwrap();
    let mut command = Command::new("/usr/sbin/spamd");
    command
        .args([
            "-L",
            "-x",
            "-m",
            "2",
            "-s",
            "stderr",
            "-i",
            "127.0.0.1",
            "-p",
        ])
        .arg(port.to_string())
        .arg(format!("--siteconfigpath={}", at.display()))
        .arg(format!("--helper-home-dir={}", at.display()))
        .args(options);
    if rustix::process::geteuid().is_root() {
        command.args(["-u", "nobody"]);
    }
    let engine = Engine::start(command, folder, port);
    (engine, tcp(port))
}
