//! The servers behind the daemon: the relay (SMTP) and the mail store (LMTP). They outlive every kill
//! and note each mail that they took.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::letter::{Rng, digest, number_in};

/// How often a mail is put off with 451, one in so many.
const PUT_OFF: u64 = 50;

/// One mail that was taken for one recipient.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) number: u64,
    pub(crate) to: String,
    /// Of its original.
    pub(crate) digest: u64,
    /// Which start of the daemon sent it.
    pub(crate) life: u32,
    pub(crate) at: Instant,
}

#[derive(Default)]
struct Shared {
    taken: Mutex<Vec<Taken>>,
    /// Mails without a number: nothing that was sent.
    strange: Mutex<Vec<String>>,
    /// Nothing is put off any more.
    kind: AtomicBool,
}

/// A listening server; its threads end with the test.
pub(crate) struct Sink {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Sink {
    /// `life` is raised at each death of the daemon: a connection belongs to the life in which it
    /// was opened.
    pub(crate) fn new(lmtp: bool, life: Arc<AtomicU32>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared: Arc<Shared> = Arc::default();
        let kept = shared.clone();
        std::thread::spawn(move || {
            for (count, stream) in listener.incoming().flatten().enumerate() {
                let (kept, life) = (kept.clone(), life.load(Ordering::SeqCst));
                let rng = Rng(count as u64);
                // A daemon that dies breaks off in the middle.
                std::thread::spawn(move || converse(stream, &kept, lmtp, life, rng));
            }
        });
        Self { port, shared }
    }

    /// Puts nothing off from now on.
    pub(crate) fn relent(&self) {
        self.shared.kind.store(true, Ordering::SeqCst);
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.shared.taken.lock().unwrap().clone()
    }

    pub(crate) fn strange(&self) -> Vec<String> {
        self.shared.strange.lock().unwrap().clone()
    }
}

fn converse(
    stream: TcpStream,
    shared: &Shared,
    lmtp: bool,
    life: u32,
    mut rng: Rng,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    output.write_all(b"220 sink.example ready\r\n")?;
    let mut recipients: Vec<String> = Vec::new();
    while let Some(line) = read_line(&mut input)? {
        let line = String::from_utf8_lossy(&line).into_owned();
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply = match verb.as_str() {
            "EHLO" | "LHLO" => {
                "250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n".to_owned()
            }
            "MAIL" | "RSET" => {
                recipients.clear();
                "250 2.0.0 ok\r\n".to_owned()
            }
            "RCPT" => {
                recipients.extend(path(&line));
                "250 2.1.5 ok\r\n".to_owned()
            }
            "DATA" => {
                output.write_all(b"354 go on\r\n")?;
                let Some(data) = read_data(&mut input)? else {
                    return Ok(());
                };
                let to = std::mem::take(&mut recipients);
                finish(shared, lmtp, life, &mut rng, to, &data)
            }
            "QUIT" => "221 2.0.0 bye\r\n".to_owned(),
            _ => "500 5.5.2 what\r\n".to_owned(),
        };
        output.write_all(reply.as_bytes())?;
    }
    Ok(())
}

/// Notes what is taken, before anybody is told; the reply or replies to the data.
fn finish(
    shared: &Shared,
    lmtp: bool,
    life: u32,
    rng: &mut Rng,
    recipients: Vec<String>,
    data: &[u8],
) -> String {
    let put_off = !shared.kind.load(Ordering::SeqCst) && rng.one_in(PUT_OFF);
    let unlucky = usize::try_from(rng.below(recipients.len().max(1) as u64)).unwrap();
    let mut replies = String::new();
    for (index, to) in recipients.into_iter().enumerate() {
        if put_off && (!lmtp || index == unlucky) {
            replies.push_str("451 4.3.0 later\r\n");
        } else {
            replies.push_str("250 2.0.0 taken\r\n");
            note(shared, life, to, data);
        }
    }
    match lmtp {
        true => replies,
        false => replies
            .split_inclusive('\n')
            .next()
            .unwrap_or_default()
            .to_owned(),
    }
}

fn note(shared: &Shared, life: u32, to: String, data: &[u8]) {
    // An auto-reply goes to the sender, who has the number in his name.
    match number_in(to.as_bytes()).or_else(|| number_in(data)) {
        Some(number) => shared.taken.lock().unwrap().push(Taken {
            number,
            to,
            digest: digest(data),
            life,
            at: Instant::now(),
        }),
        None => {
            let text = String::from_utf8_lossy(data).into_owned();
            shared.strange.lock().unwrap().push(format!("{to}: {text}"));
        }
    }
}

fn read_data(input: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut data = Vec::new();
    while let Some(line) = read_line(input)? {
        if line == b".\r\n" {
            return Ok(Some(data));
        }
        data.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
    Ok(None)
}

/// `None` at the end, also in the middle of a line.
fn read_line(input: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line)?;
    Ok(line.ends_with(b"\n").then_some(line))
}

fn path(command: &str) -> Option<String> {
    let (_, rest) = command.split_once('<')?;
    Some(rest.split_once('>')?.0.to_owned())
}
