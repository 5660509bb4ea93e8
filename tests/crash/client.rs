//! MTAs at work: threads that hand mail over by LMTP and send it again, the same octets, until every
//! recipient was answered 2xx, over any number of deaths of the daemon.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::letter::{Kind, Letter, Rng};
use crate::site::Site;

/// One hand-off in so many whose reply is not read, and is sent again at once.
const LOST_REPLY: u64 = 25;
/// One in so many whose replies were read, and is sent again all the same.
const FORGOTTEN: u64 = 25;
/// One held mail in so many is released.
const RELEASED: u64 = 3;
/// Before another try where nobody listens.
const PAUSE: Duration = Duration::from_millis(2);
/// Longer than any reply takes; a daemon that hangs shows.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the threads and whoever steers them share.
pub(crate) struct Load {
    pub(crate) socket: PathBuf,
    /// The trial that new mails belong to.
    pub(crate) trial: AtomicUsize,
    /// Raised at each death of the daemon.
    pub(crate) life: Arc<AtomicU32>,
    /// Recipients answered 2xx so far, each once.
    pub(crate) taken: AtomicU64,
    /// The power is being cut, or is.
    pub(crate) cut: AtomicBool,
    /// No new mail: what waits is finished.
    pub(crate) draining: AtomicBool,
    /// The trials failed: nothing is finished.
    pub(crate) given_up: AtomicBool,
    /// Hand-offs whose reply was lost, or forgotten, on purpose.
    pub(crate) repeated: AtomicU64,
    next: AtomicU64,
    /// Held mails that shall be released: number and id.
    releases: Mutex<VecDeque<(u64, String)>>,
}

impl Load {
    pub(crate) fn new(socket: PathBuf, life: Arc<AtomicU32>) -> Self {
        Self {
            socket,
            trial: AtomicUsize::new(0),
            life,
            taken: AtomicU64::new(0),
            cut: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            repeated: AtomicU64::new(0),
            next: AtomicU64::new(1),
            releases: Mutex::default(),
        }
    }
}

/// One client, until the load drains; the mails that it made, all taken.
pub(crate) fn run(load: &Load, seed: u64) -> Vec<Letter> {
    let mut rng = Rng(seed);
    let mut done = Vec::new();
    let mut waiting: VecDeque<Letter> = VecDeque::new();
    let mut session = None;
    loop {
        let draining = load.draining.load(Ordering::SeqCst);
        if load.given_up.load(Ordering::SeqCst) || (draining && waiting.is_empty()) {
            return done;
        }
        let Some(open) = session.take().or_else(|| Session::open(load).ok()) else {
            std::thread::sleep(PAUSE);
            continue;
        };
        let mut letter = waiting.pop_front().unwrap_or_else(|| {
            let number = load.next.fetch_add(1, Ordering::SeqCst);
            Letter::new(number, load.trial.load(Ordering::SeqCst), &mut rng)
        });
        if draining && letter.is_taken() {
            session = Some(open);
            done.push(letter);
            continue;
        }
        // On doubt the connection is new.
        let again = match hand_over(open, load, &mut letter, draining, &mut rng) {
            Ok((open, again)) => {
                session = open;
                again
            }
            Err(error) => {
                assert!(error.kind() != io::ErrorKind::WouldBlock, "no reply came");
                true
            }
        };
        if again || !letter.is_taken() {
            waiting.push_back(letter);
        } else {
            done.push(letter);
        }
    }
}

/// Hands one mail over, once; whether every recipient was answered 2xx.
pub(crate) fn give(load: &Load, letter: &mut Letter) -> bool {
    let session = Session::open(load);
    let tried = session.and_then(|session| hand_over(session, load, letter, true, &mut Rng(0)));
    tried.is_ok() && letter.is_taken()
}

/// One try; what is left of the session, and whether to hand the same over again.
fn hand_over(
    mut session: Session,
    load: &Load,
    letter: &mut Letter,
    draining: bool,
    rng: &mut Rng,
) -> io::Result<(Option<Session>, bool)> {
    let again = !draining && letter.is_taken();
    let open: Vec<usize> = (0..letter.recipients.len())
        .filter(|&index| again || letter.recipients[index].taken.is_none())
        .collect();
    let mut envelope = format!("MAIL FROM:<{}>\r\n", letter.sender());
    for &index in &open {
        let address = letter.recipients[index].kind.address();
        envelope.push_str(&format!("RCPT TO:<{address}>\r\n"));
    }
    envelope.push_str("DATA\r\n");
    session.write(envelope.as_bytes())?;
    let mut accepted = Vec::new();
    session.reply()?;
    for index in open {
        if session.reply()?.starts_with("250") {
            accepted.push(index);
        }
    }
    if !session.reply()?.starts_with("354") {
        return Ok((None, true));
    }
    session.write(&stuffed(&letter.raw))?;
    if !draining && rng.one_in(LOST_REPLY) {
        load.repeated.fetch_add(1, Ordering::Relaxed);
        return Ok((None, true));
    }
    for index in accepted {
        let reply = session.reply()?;
        if let Some(id) = id_of(&reply) {
            note(load, letter, index, (id, session.life), rng);
        }
    }
    let forget = !draining && !again && rng.one_in(FORGOTTEN);
    load.repeated
        .fetch_add(u64::from(forget), Ordering::Relaxed);
    Ok((Some(session), forget))
}

/// A recipient was answered 2xx.
fn note(load: &Load, letter: &mut Letter, index: usize, (id, life): (String, u32), rng: &mut Rng) {
    let number = letter.number;
    let recipient = &mut letter.recipients[index];
    if recipient.taken.is_some() {
        return;
    }
    if recipient.kind == Kind::Held && rng.one_in(RELEASED) {
        let mut releases = load.releases.lock().unwrap();
        releases.push_back((number, id));
    }
    recipient.taken = Some(life);
    recipient.late = load.cut.load(Ordering::SeqCst);
    load.taken.fetch_add(1, Ordering::SeqCst);
}

/// The owner who has held mail released, and asks again until it is; the numbers of those mails.
pub(crate) fn release(load: &Load, site: &Site) -> Vec<u64> {
    let mut released = Vec::new();
    loop {
        let draining = load.draining.load(Ordering::SeqCst);
        let next = load.releases.lock().unwrap().pop_front();
        if load.given_up.load(Ordering::SeqCst) || (draining && next.is_none()) {
            return released;
        }
        let Some((number, id)) = next else {
            std::thread::sleep(PAUSE);
            continue;
        };
        let answer = site.http("POST", &format!("/v1/quarantine/{id}/release"));
        match answer {
            Ok((200, body)) if has_state_released(&body) => released.push(number),
            // The account misses it in the quarantine.
            Ok((404, _)) => println!("LOST: mail {number}, which was to be released"),
            _ => {
                load.releases.lock().unwrap().push_back((number, id));
                std::thread::sleep(PAUSE);
            }
        }
    }
}

fn has_state_released(entry: &[u8]) -> bool {
    String::from_utf8_lossy(entry).contains("\"state\":\"released\"")
}

/// The mail as it goes over the wire, its final dot included.
fn stuffed(raw: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(raw.len() + 16);
    for line in raw.split_inclusive(|&octet| octet == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

/// `q=` of a 2xx.
fn id_of(reply: &str) -> Option<String> {
    let mut words = reply.split(' ').filter(|_| reply.starts_with("250 2.0.0 "));
    words
        .find_map(|word| word.strip_prefix("q="))
        .map(str::to_owned)
}

struct Session {
    stream: BufReader<UnixStream>,
    /// Which start of the daemon it speaks with.
    life: u32,
}

impl Session {
    fn open(load: &Load) -> io::Result<Self> {
        let life = load.life.load(Ordering::SeqCst);
        let stream = UnixStream::connect(&load.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut session = Self {
            stream: BufReader::new(stream),
            life,
        };
        session.write(b"LHLO mta.example.net\r\n")?;
        for _ in 0..2 {
            let reply = session.reply()?;
            if !reply.starts_with('2') {
                return Err(io::Error::other(reply));
            }
        }
        Ok(session)
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(octets)
    }

    /// The last line of a reply; an error where it is cut off.
    fn reply(&mut self) -> io::Result<String> {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            if !line.ends_with("\r\n") {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line.trim_end().to_owned());
            }
        }
    }
}
