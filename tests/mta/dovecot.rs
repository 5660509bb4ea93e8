//! A Dovecot of its own: LMTP in, Maildir in the test's folder, IMAP out. Every address has a mailbox, every password fits.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::{eventually, folder_of, free_port, require, show_log, terminate};

/// A running Dovecot; it ends with the value, its mail stays in the folder.
pub(crate) struct Dovecot {
    folder: PathBuf,
    imap_port: u16,
    master: Child,
}

impl Dovecot {
    /// Starts in `folder`/dovecot with LMTP on `lmtp_port`, and waits for both listeners.
    pub(crate) fn start(folder: &Path, lmtp_port: u16) -> Self {
        require("/usr/lib/dovecot/lmtp");
        require("/usr/lib/dovecot/imap");
        let folder = folder.join("dovecot");
        let imap_port = free_port();
        folder_of(&folder, "root");
        folder_of(&folder.join("mail"), "nobody");
        let settings = folder.join("dovecot.conf");
        fs::write(&settings, dovecot_conf(&folder, lmtp_port, imap_port)).unwrap();
        let log = fs::File::create(folder.join("start.log")).unwrap();
        let master = Command::new("/usr/sbin/dovecot")
            .arg("-F")
            .arg("-c")
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let dovecot = Self {
            folder,
            imap_port,
            master,
        };
        for port in [lmtp_port, imap_port] {
            eventually("Dovecot listens", || {
                TcpStream::connect(("127.0.0.1", port)).ok()
            });
        }
        dovecot
    }

    /// Every mail of the INBOX as IMAP gives it, oldest first.
    pub(crate) fn inbox(&self, mailbox: &str) -> Vec<Vec<u8>> {
        let mut imap = Imap::connect(self.imap_port);
        imap.command(&format!("LOGIN {mailbox} any"));
        let exists = imap.command("SELECT INBOX").iter().find_map(|line| {
            line.strip_prefix("* ")?
                .strip_suffix(" EXISTS")?
                .parse::<usize>()
                .ok()
        });
        (1..=exists.unwrap())
            .map(|number| imap.fetch(number))
            .collect()
    }

    /// Waits until the INBOX holds `count` mails or more, then gives them all.
    pub(crate) fn inbox_of(&self, mailbox: &str, count: usize) -> Vec<Vec<u8>> {
        eventually(&format!("{count} mails in the INBOX of {mailbox}"), || {
            Some(self.inbox(mailbox)).filter(|mails| mails.len() >= count)
        })
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        terminate(&mut self.master);
        if std::thread::panicking() {
            show_log(&self.folder.join("start.log"));
            show_log(&self.folder.join("dovecot.log"));
        }
    }
}

/// As much of RFC 3501 as reading back takes.
struct Imap {
    stream: BufReader<TcpStream>,
}

impl Imap {
    fn connect(port: u16) -> Self {
        let mut imap = Self {
            stream: BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap()),
        };
        let greeting = imap.line();
        assert!(greeting.starts_with("* OK"), "{greeting}");
        imap
    }

    fn command(&mut self, command: &str) -> Vec<String> {
        self.send(command);
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            if line.starts_with("t ") {
                assert!(line.starts_with("t OK"), "{command}: {line}");
                return lines;
            }
            lines.push(line);
        }
    }

    fn fetch(&mut self, number: usize) -> Vec<u8> {
        self.send(&format!("FETCH {number} BODY.PEEK[]"));
        let head = self.line();
        let length = head
            .rsplit_once('{')
            .and_then(|(_, rest)| rest.strip_suffix('}'))
            .unwrap_or_else(|| panic!("{head}"));
        let mut mail = vec![0; length.parse().unwrap()];
        self.stream.read_exact(&mut mail).unwrap();
        assert_eq!(self.line(), ")");
        let done = self.line();
        assert!(done.starts_with("t OK"), "{done}");
        mail
    }

    fn send(&mut self, command: &str) {
        write!(self.stream.get_mut(), "t {command}\r\n").unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(
            self.stream.read_line(&mut line).unwrap() > 0,
            "IMAP connection closed"
        );
        line.trim_end().to_owned()
    }
}

fn dovecot_conf(folder: &Path, lmtp_port: u16, imap_port: u16) -> String {
    let folder = folder.display();
    format!(
        "base_dir = {folder}/run
state_dir = {folder}/state
instance_name = {folder}
log_path = {folder}/dovecot.log
protocols = lmtp imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
first_valid_uid = 1
mail_location = maildir:~/Maildir
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={folder}/mail/%d/%n allow_all_users=yes
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp_port}
  }}
}}
service imap-login {{
  inet_listener imap {{
    address = 127.0.0.1
    port = {imap_port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
protocol lmtp {{
  postmaster_address = postmaster@east.example.jp
}}
"
    )
}
