//! A Postfix of its own: configuration, queue and data in the test's folder, smtpd on a free loopback port.
//! Everything for `east.example.jp` goes on by LMTP to a port that the test names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::{eventually, folder_of, free_port, require, run, show_log};

/// A running Postfix; it ends with the value.
pub(crate) struct Postfix {
    folder: PathBuf,
    port: u16,
    master: Child,
}

impl Postfix {
    /// Starts in `folder`/postfix and waits for smtpd. `lmtp_port` need not be open.
    pub(crate) fn start(folder: &Path, lmtp_port: u16) -> Self {
        Self::start_on(free_port(), folder, lmtp_port)
    }

    /// The same with smtpd on that port.
    pub(crate) fn start_on(port: u16, folder: &Path, lmtp_port: u16) -> Self {
        Self::start_with(port, folder, lmtp_port, "")
    }

    /// The same with `more` lines in main.cf.
    pub(crate) fn start_with(port: u16, folder: &Path, lmtp_port: u16, more: &str) -> Self {
        require("/usr/sbin/postfix");
        let folder = folder.join("postfix");
        fs::create_dir_all(folder.join("conf")).unwrap();
        folder_of(&folder.join("queue"), "root");
        folder_of(&folder.join("data"), "postfix");
        let main_cf = main_cf(&folder, lmtp_port) + more;
        fs::write(folder.join("conf/main.cf"), main_cf).unwrap();
        fs::write(folder.join("conf/master.cf"), master_cf(port)).unwrap();
        let log = fs::File::create(folder.join("start.log")).unwrap();
        let master = Command::new("/usr/sbin/postfix")
            .arg("-c")
            .arg(folder.join("conf"))
            .arg("start-fg")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let postfix = Self {
            folder,
            port,
            master,
        };
        eventually("Postfix listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        postfix
    }

    /// Hands `mail` (CRLF line ends) over with swaks; the queue id that Postfix gave it.
    pub(crate) fn send(&self, sender: &str, recipient: &str, mail: &[u8]) -> String {
        require("/usr/bin/swaks");
        let file = self.folder.join("swaks.eml");
        // swaks ends the data with a line end of its own.
        fs::write(&file, mail.strip_suffix(b"\r\n").unwrap()).unwrap();
        let output = run(Command::new("/usr/bin/swaks")
            .args([
                "--server",
                "127.0.0.1",
                "--port",
                &self.port.to_string(),
                "--helo",
                "client.example.net",
            ])
            .args(["--from", sender, "--to", recipient, "--data"])
            .arg(format!("@{}", file.display())));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let id = text
            .split("queued as ")
            .nth(1)
            .unwrap_or_else(|| panic!("not queued:\n{text}"));
        id.split_whitespace().next().unwrap().to_owned()
    }

    /// Waits until the log says that the mail went on to `recipient`; the next hop's reply.
    pub(crate) fn reply_of(&self, queue_id: &str, recipient: &str) -> String {
        let what = format!("Postfix hands {queue_id} on to {recipient}");
        self.await_log(&what, queue_id, recipient, "status=sent")
    }

    /// Waits until the log says that an attempt for `recipient` was put off; the reason.
    pub(crate) fn deferral_of(&self, queue_id: &str, recipient: &str) -> String {
        let what = format!("Postfix defers {queue_id} to {recipient}");
        self.await_log(&what, queue_id, recipient, "status=deferred")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.folder.join("maillog")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Tries all deferred mail now.
    pub(crate) fn flush(&self) {
        run(Command::new("/usr/sbin/postqueue")
            .arg("-c")
            .arg(self.folder.join("conf"))
            .arg("-f"));
    }

    fn await_log(&self, what: &str, queue_id: &str, recipient: &str, status: &str) -> String {
        let (id, to) = (format!(" {queue_id}: "), format!("to=<{recipient}>"));
        eventually(what, || {
            let log = self.log();
            let line = log
                .lines()
                .find(|line| line.contains(&id) && line.contains(&to) && line.contains(status))?;
            line.split_once(&format!("{status} "))
                .map(|(_, reply)| reply.to_owned())
        })
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let _ = Command::new("/usr/sbin/postfix")
            .arg("-c")
            .arg(self.folder.join("conf"))
            .arg("abort")
            .output();
        let _ = self.master.wait();
        if std::thread::panicking() {
            show_log(&self.folder.join("start.log"));
            show_log(&self.folder.join("maillog"));
        }
    }
}

fn main_cf(folder: &Path, lmtp_port: u16) -> String {
    let folder = folder.display();
    format!(
        "compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
myhostname = mx.example.net
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = loopback-only
inet_protocols = ipv4
local_header_rewrite_clients =
local_recipient_maps =
alias_maps =
alias_database =
smtpd_recipient_restrictions = permit_mynetworks, reject
smtp_dns_support_level = disabled
lmtp_dns_support_level = disabled
relay_domains = east.example.jp
relay_transport = lmtp:inet:127.0.0.1:{lmtp_port}
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
transport_retry_time = 1s
"
    )
}

fn master_cf(port: u16) -> String {
    format!(
        "127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
lmtp unix - - n - - lmtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"
    )
}
