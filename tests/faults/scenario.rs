//! A dozen mails that go every way through the daemon, a client that bears any answer, and the oracle.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Done, PROGRAM, Site, crlf};
use crate::hop::Hop;

/// A client waits so long for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a faulty daemon may need to send what it can send.
const DRAIN: Duration = Duration::from_millis(1500);
const POLL: Duration = Duration::from_millis(10);
/// The relay refuses this one for good.
const REFUSED: &str = "f09@else.example";

/// One mail and what must come of it.
struct Case {
    subject: &'static str,
    fields: &'static str,
    /// Lines of the body.
    lines: usize,
    recipients: &'static [Recipient],
    /// They get the mail itself.
    forwards: &'static [&'static str],
    /// They get at most one letter of ours.
    letters: &'static [&'static str],
}

struct Recipient {
    local: &'static str,
    settings: &'static str,
    /// Mails in the Maildir at the end.
    kept: usize,
    /// Entries held at the end.
    held: usize,
}

const fn kept(local: &'static str, settings: &'static str) -> Recipient {
    let (kept, held) = (1, 0);
    Recipient {
        local,
        settings,
        kept,
        held,
    }
}

const fn held(local: &'static str, settings: &'static str) -> Recipient {
    let (kept, held) = (0, 1);
    Recipient {
        local,
        settings,
        kept,
        held,
    }
}

const fn plain(recipients: &'static [Recipient]) -> Case {
    Case {
        subject: "hello",
        fields: "",
        lines: 3,
        recipients,
        forwards: &[],
        letters: &[],
    }
}

const REJECT: &str = "reject: {subject_contains: [offer]}\n";

/// The number of a case is its place.
const CASES: &[Case] = &[
    plain(&[kept("m00", "")]),
    Case {
        subject: "offer",
        ..plain(&[held("m01", REJECT)])
    },
    Case {
        forwards: &["f02@else.example"],
        ..plain(&[Recipient {
            local: "m02",
            settings: "forwarding: {mode: all, all: {to: [f02@else.example], keep_copy: false}}\n",
            kept: 0,
            held: 0,
        }])
    },
    Case {
        forwards: &["f03@else.example"],
        letters: &["n03@else.example"],
        ..plain(&[kept(
            "m03",
            "forwarding: {mode: all, all: {to: [f03@else.example], keep_copy: true}}\nnotify: {to: [n03@else.example]}\n",
        )])
    },
    Case {
        letters: &["s04@friend.example"],
        ..plain(&[kept("m04", "auto_reply: {enabled: true, message: away}\n")])
    },
    Case {
        subject: "offer",
        letters: &["n05@else.example"],
        ..plain(&[
            kept("m05", "notify: {to: [n05@else.example]}\n"),
            held("h05", REJECT),
        ])
    },
    Case {
        fields: "X-Spam-Flag: YES\n",
        ..plain(&[held(
            "m06",
            "spam: {scan: true, quarantine: true, notice: off}\n",
        )])
    },
    Case {
        fields: "X-Virus-Status: Infected (Eicar)\n",
        ..plain(&[Recipient {
            local: "m07",
            settings: "virus: {scan: true}\n",
            kept: 1,
            held: 1,
        }])
    },
    Case {
        fields: "X-Spam-Flag: YES\n",
        ..plain(&[
            kept(
                "m08",
                "spam: {scan: true, quarantine: false, mark_subject: \"[spam]\"}\n",
            ),
            kept("k08", ""),
        ])
    },
    plain(&[kept(
        "m09",
        "forwarding: {mode: all, all: {to: [f09@else.example], keep_copy: false}}\n",
    )]),
    Case {
        lines: 6000,
        forwards: &["f10@else.example"],
        ..plain(&[kept(
            "m10",
            "forwarding: {mode: all, all: {to: [f10@else.example], keep_copy: true}}\n",
        )])
    },
    Case {
        subject: "offer",
        ..plain(&[kept(RELEASED, REJECT)])
    },
    Case {
        subject: "offer",
        ..plain(&[Recipient {
            local: DELETED,
            settings: REJECT,
            kept: 0,
            held: 0,
        }])
    },
];

/// What it holds is released.
const RELEASED: &str = "m11";
/// What it holds is deleted.
const DELETED: &str = "m12";

impl Case {
    fn mail(&self, number: usize) -> Vec<u8> {
        let body: String = (0..self.lines)
            .map(|line| format!("line {line} of mail {number}, and some more words to fill it\n"))
            .collect();
        let to: Vec<String> = self.recipients.iter().map(|r| address(r.local)).collect();
        let to = to.join(", ");
        crlf(&format!(
            "Received: by mta.example.net id N{number}; Sun, 22 Nov 2026 09:00:00 +0900\nFrom: s{number:02}@friend.example\nTo: {to}\nSubject: {}\n{}\n{body}end of mail {number}\n",
            self.subject, self.fields
        ))
    }
}

fn address(local: &str) -> String {
    format!("{local}@east.example.jp")
}

/// Settings with all mailboxes of the scenario.
pub(crate) fn site(relay: &Hop) -> Site {
    let site = Site::new().with_relay(relay.port).with(
        "  limits: {message_size: 1MiB}",
        "  timeouts: {shutdown_grace: 1s}\n  limits: {message_size: 1MiB}",
    );
    for recipient in CASES.iter().flat_map(|case| case.recipients) {
        site.set_mailbox(&address(recipient.local), recipient.settings);
    }
    site
}

/// A relay that refuses one address.
pub(crate) fn relay() -> Hop {
    let relay = Hop::smtp();
    relay.at_rcpt(REFUSED, "550 5.1.1 nobody");
    relay
}

/// The daemon as a child, perhaps below a tracer that takes its own arguments first.
pub(crate) fn spawn(site: &Site, tracer: &[String]) -> Child {
    let mut words = tracer.iter().map(String::as_str).chain([PROGRAM]);
    Command::new(words.next().unwrap())
        .args(words)
        .arg("--config")
        .arg(site.path("sekimori.yaml"))
        .arg("run")
        // The calls of a thread are counted: few threads make the counts steady.
        .env("TOKIO_WORKER_THREADS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(site.path("stderr.log")).unwrap())
        .spawn()
        .unwrap()
}

/// Asks `probe` for a while; whether it said yes.
pub(crate) fn within(limit: Duration, mut probe: impl FnMut() -> bool) -> bool {
    let give_up = Instant::now() + limit;
    while Instant::now() < give_up {
        if probe() {
            return true;
        }
        std::thread::sleep(POLL);
    }
    false
}

pub(crate) fn log(site: &Site) -> String {
    let bytes = fs::read(site.path("stderr.log")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for the daemon; its status when it ended instead.
pub(crate) fn await_ready(site: &Site, child: &mut Child) -> Result<(), Option<ExitStatus>> {
    let mut ended = None;
    within(PATIENCE, || {
        ended = child.try_wait().unwrap();
        ended.is_some() || log(site).lines().any(|line| line == "ready")
    });
    match ended {
        None if log(site).lines().any(|line| line == "ready") => Ok(()),
        ended => Err(ended),
    }
}

/// What came out in the end.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) lost: Vec<String>,
    pub(crate) repeated: Vec<String>,
    /// Mails that a target got once more (RFC 1047): allowed.
    pub(crate) again: usize,
    /// Letters that were never sent: allowed, they go out at most once.
    pub(crate) unsent: usize,
}

/// Who is still to be served, as the MTA sees it.
pub(crate) struct Ledger {
    open: Vec<Vec<&'static str>>,
    ids: HashMap<&'static str, String>,
    /// Replies that no MTA should have got.
    pub(crate) wrong: Vec<String>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        let open = CASES
            .iter()
            .map(|case| case.recipients.iter().map(|r| r.local).collect())
            .collect();
        Self {
            open,
            ids: HashMap::new(),
            wrong: Vec::new(),
        }
    }

    /// Recipients without a 2xx.
    pub(crate) fn open(&self) -> usize {
        self.open.iter().map(Vec::len).sum()
    }

    /// Hands over what is open.
    pub(crate) fn hand_over(&mut self, site: &Site) {
        for (number, case) in CASES.iter().enumerate() {
            let open = std::mem::take(&mut self.open[number]);
            if open.is_empty() {
                continue;
            }
            let to: Vec<String> = open.iter().map(|local| address(local)).collect();
            let mut replies = vec![None; to.len()];
            let sender = format!("s{number:02}@friend.example");
            // Whatever broke, the replies that came before stand.
            let _ = give(
                &site.path("lmtp.sock"),
                &sender,
                &to,
                &case.mail(number),
                &mut replies,
            );
            for (local, reply) in open.into_iter().zip(replies) {
                match reply {
                    Some(reply) if reply.starts_with('2') => {
                        let id = reply.split(' ').find_map(|word| word.strip_prefix("q="));
                        self.ids.insert(local, id.unwrap_or_default().to_owned());
                    }
                    reply => {
                        self.wrong.extend(
                            reply.filter(|reply| !reply.starts_with('4') && !reply.is_empty()),
                        );
                        self.open[number].push(local);
                    }
                }
            }
        }
    }

    /// What a person does afterwards: releases one, deletes one. Whatever fails is done again later.
    /// Whether both commands ended: with a reactor that cannot wake they wait for ever.
    pub(crate) fn follow_up(&self, site: &Site) -> bool {
        let pairs = [(RELEASED, "release"), (DELETED, "delete")];
        let ended = pairs.map(|(local, word)| {
            self.ids.get(local).is_none_or(|id| {
                let mut command = Command::new("timeout");
                command.args(["60", PROGRAM, "--config"]);
                command.arg(site.path("sekimori.yaml"));
                Done::of(command.args(["quarantine", word, id]), b"").code != 124
            })
        });
        ended.iter().all(|ended| *ended)
    }

    /// Waits until the queue is empty; not for ever.
    pub(crate) fn drain(&self, site: &Site) {
        within(DRAIN, || queue(site) == Some(0));
    }

    /// What lies where, against what should.
    pub(crate) fn check(&self, site: &Site, relay: &Hop) -> Findings {
        let mut findings = Findings::default();
        let entries = site.json(&["quarantine", "list"]);
        for (number, case) in CASES.iter().enumerate() {
            let raw = case.mail(number);
            for recipient in case.recipients {
                let address = address(recipient.local);
                let mails = site.mailbox(&address);
                findings.compare(&format!("kept for {address}"), mails.len(), recipient.kept);
                let report = recipient.held > 0 && recipient.kept > 0;
                for mail in mails {
                    let lf = String::from_utf8_lossy(&raw).replace("\r\n", "\n");
                    let body = lf.split_once("\n\n").unwrap().1;
                    if !report && !mail.ends_with(body.as_bytes()) {
                        findings.lost.push(format!("half of a mail in {address}"));
                    }
                }
                let held = entries.iter().filter(|entry| {
                    entry["mailbox"] == address.as_str() && entry["state"] != "released"
                });
                findings.compare(&format!("held for {address}"), held.count(), recipient.held);
            }
            for to in case.forwards {
                let mails = relay.mails_to(to);
                findings.compare(&format!("forwarded to {to}"), mails.len().min(1), 1);
                findings.again += mails.len().saturating_sub(1);
                if mails.iter().any(|mail| !mail.data.ends_with(&raw)) {
                    findings.lost.push(format!("half of a mail for {to}"));
                }
            }
            for to in case.letters {
                let letters = relay.mails_to(to).len();
                findings.compare(&format!("letters to {to}"), letters.max(1), 1);
                findings.unsent += usize::from(letters == 0);
            }
        }
        findings
    }
}

impl Findings {
    fn compare(&mut self, what: &str, found: usize, expected: usize) {
        let line = format!("{what}: {found}, not {expected}");
        match found.cmp(&expected) {
            std::cmp::Ordering::Less => self.lost.push(line),
            std::cmp::Ordering::Greater => self.repeated.push(line),
            std::cmp::Ordering::Equal => {}
        }
    }
}

/// Items in the queue, if the daemon says.
pub(crate) fn queue(site: &Site) -> Option<usize> {
    let listed = site.cli(&["queue", "list", "--json"]);
    (listed.code == 0).then(|| listed.stdout.iter().filter(|byte| **byte == b'\n').count())
}

/// One LMTP hand-off. A recipient whose reply never came has none.
pub(crate) fn give(
    socket: &Path,
    sender: &str,
    recipients: &[String],
    mail: &[u8],
    replies: &mut [Option<String>],
) -> io::Result<()> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut stream = BufReader::new(stream);
    let hello = ["", "LHLO mta.example.net", &format!("MAIL FROM:<{sender}>")];
    for line in hello {
        let reply = command(&mut stream, line)?;
        if !reply.starts_with('2') {
            replies.fill(Some(reply));
            return Ok(());
        }
    }
    let mut accepted = Vec::new();
    for (recipient, answer) in recipients.iter().zip(replies.iter_mut()) {
        let reply = command(&mut stream, &format!("RCPT TO:<{recipient}>"))?;
        match reply.starts_with('2') {
            true => accepted.push(answer),
            false => *answer = Some(reply),
        }
    }
    if accepted.is_empty() {
        return Ok(());
    }
    let reply = command(&mut stream, "DATA")?;
    if !reply.starts_with("354") {
        for answer in accepted {
            *answer = Some(reply.clone());
        }
        return Ok(());
    }
    stream.get_mut().write_all(mail)?;
    stream.get_mut().write_all(b".\r\n")?;
    for answer in accepted {
        *answer = Some(read_reply(&mut stream)?);
    }
    Ok(())
}

/// Sends a line, if there is one, and reads a reply.
fn command(stream: &mut BufReader<UnixStream>, line: &str) -> io::Result<String> {
    if !line.is_empty() {
        stream
            .get_mut()
            .write_all(format!("{line}\r\n").as_bytes())?;
    }
    read_reply(stream)
}

/// The last line of a reply.
fn read_reply(stream: &mut BufReader<UnixStream>) -> io::Result<String> {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(line.trim_end().to_owned());
        }
    }
}
