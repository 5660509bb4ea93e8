//! The listeners over real sockets: the torture cases, and what RFC 2033, 5321 and CONTRACT
//! section 3 ask of replies, limits, time and shutdown.
//!
//! `protocol_torture.json` was written for this project; its own keys say how to read it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::env::temp_dir;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sekimori::mail::{Address, Envelope, Octets, Protocol, ReversePath};
use sekimori::server::{Handoff, ListenerSettings, Server, Timeouts};
use sekimori::smtp::{
    Answer, BareNewline, Limits, ListenAddress, Reply, ReplyParser, ServerReply, wire_data,
};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);
const MESSAGE_SIZE: u64 = 24 << 20;

/// Takes every mail; what it does with one is said by its recipients' local parts.
#[derive(Default)]
struct Recorder {
    taken: Mutex<Vec<(Envelope, Vec<u8>)>>,
    entered: Notify,
    gate: Notify,
}

impl Handoff for Recorder {
    async fn mail(&self, _: &ReversePath, declared_size: Option<u64>) -> Result<(), Reply> {
        match declared_size {
            Some(4242) => Err(Reply::new(452, 3, 1, "no room")),
            _ => Ok(()),
        }
    }

    async fn recipient(&self, address: &Address) -> Result<(), Reply> {
        match address.local() {
            "unknown" => Err(Reply::new(550, 1, 1, "unknown\r\nmailbox")),
            "panic-at-rcpt" => panic!("on purpose"),
            _ => Ok(()),
        }
    }

    async fn message(&self, envelope: Envelope, raw: Octets) -> Vec<Answer> {
        let mut answers = Vec::new();
        for address in &envelope.recipients {
            answers.push(match address.local() {
                "panic" => panic!("on purpose"),
                "never" => std::future::pending().await,
                "short" => return answers,
                "gated" => {
                    self.entered.notify_one();
                    self.gate.notified().await;
                    taken(address)
                }
                "deferred" => Answer::Refused(Reply::new(451, 3, 0, "later")),
                _ => taken(address),
            });
        }
        // A clone of `raw` would keep its memory booked.
        let raw = raw.whole().await.unwrap().to_vec();
        self.taken.lock().unwrap().push((envelope, raw));
        answers
    }
}

fn taken(address: &Address) -> Answer {
    Answer::Taken {
        id: format!("Q-{}", address.local()),
        verdict: "deliver",
        stage: None,
    }
}

impl Recorder {
    /// Mails, each counted once a mailbox.
    fn delivered(&self) -> usize {
        let taken = self.taken.lock().unwrap();
        let mailboxes = |(envelope, _): &(Envelope, Vec<u8>)| {
            let keys: BTreeSet<String> = envelope.recipients.iter().map(Address::key).collect();
            keys.len()
        };
        taken.iter().map(mailboxes).sum()
    }

    fn raws(&self) -> Vec<Vec<u8>> {
        let taken = self.taken.lock().unwrap();
        taken.iter().map(|(_, raw)| raw.clone()).collect()
    }
}

fn settings(protocol: Protocol, bare_newline: BareNewline) -> ListenerSettings {
    ListenerSettings {
        name: "test".into(),
        protocol,
        address: "127.0.0.1:0".parse().unwrap(),
        clients: vec!["127.0.0.0/8".parse().unwrap()],
        tls: None,
        bare_newline,
        max_connections: 50,
        timeouts: Timeouts {
            command: PATIENCE,
            data_block: PATIENCE,
            final_reply: PATIENCE,
        },
        limits: Limits {
            message_size: MESSAGE_SIZE,
            recipients: 500,
            errors: 20,
        },
        hostname: "mx.east.test".into(),
        default_domain: Some("east.test".into()),
    }
}

fn lmtp() -> ListenerSettings {
    settings(Protocol::Lmtp, BareNewline::Normalize)
}

struct Running {
    server: Server,
    handoff: Arc<Recorder>,
}

impl Running {
    async fn start(settings: ListenerSettings) -> Self {
        Self::with_memory(settings, 64 << 20).await
    }

    async fn with_memory(settings: ListenerSettings, memory: u64) -> Self {
        let handoff = Arc::new(Recorder::default());
        let server = Server::start(vec![settings], memory, temp_dir(), handoff.clone())
            .await
            .unwrap();
        Self { server, handoff }
    }

    async fn connect(&self) -> Client<TcpStream> {
        let (_, address) = &self.server.addresses()[0];
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client::new(stream)
    }

    /// A connection that has read the greeting and said hello.
    async fn greeted(&self, hello: &str) -> Client<TcpStream> {
        let mut client = self.connect().await;
        client.expect("220").await;
        client.send(format!("{hello} client.test\r\n")).await;
        client.expect("250").await;
        client
    }

    async fn stop(self) -> Arc<Recorder> {
        self.server.shutdown(PATIENCE).await;
        self.handoff
    }
}

/// A client that reads replies strictly.
struct Client<S> {
    stream: S,
    parser: ReplyParser,
    seen: Vec<ServerReply>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    fn new(stream: S) -> Self {
        Self {
            stream,
            parser: ReplyParser::new(),
            seen: Vec::new(),
        }
    }

    /// A server that closed meanwhile is noticed when its reply is read.
    async fn send(&mut self, octets: impl AsRef<[u8]>) {
        let _ = timeout(PATIENCE, self.stream.write_all(octets.as_ref()))
            .await
            .expect("stuck writing");
    }

    /// The next reply; `None` when the server closed.
    async fn reply(&mut self) -> Option<ServerReply> {
        let mut piece = [0; 4096];
        loop {
            if let Some(reply) = self.parser.next_reply().expect("a strict reply") {
                self.seen.push(reply.clone());
                return Some(reply);
            }
            match timeout(PATIENCE, self.stream.read(&mut piece))
                .await
                .expect("no reply in time")
            {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.parser.feed(&piece[..count]),
            }
        }
    }

    /// The next reply as `code enhanced text` must begin so.
    async fn expect(&mut self, start: &str) -> String {
        let reply = self
            .reply()
            .await
            .unwrap_or_else(|| panic!("closed before {start}"));
        let reply = Reply::from(reply).to_string();
        assert!(reply.starts_with(start), "{reply:?} is not {start}");
        reply
    }

    async fn expect_closed(&mut self) {
        assert_eq!(self.reply().await, None);
    }

    /// Says that no more comes and reads what is left.
    async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
        while self.reply().await.is_some() {}
    }
}

fn mail_to(recipients: &[&str]) -> String {
    let to: String = recipients
        .iter()
        .map(|to| format!("RCPT TO:<{to}@east.test>\r\n"))
        .collect();
    format!("MAIL FROM:<sender@example.org>\r\n{to}DATA\r\n")
}

const BODY: &str = "From: <sender@example.org>\r\nSubject: t\r\n\r\nb\r\n.\r\n";

mod torture {
    use super::*;

    fn substitute(text: &str, protocol: Protocol, index: usize) -> Vec<u8> {
        let text = text
            .replace("{{RCPT1}}", "one@east.test")
            .replace("{{RCPT2}}", "two@east.test")
            .replace("{{RCPT_I}}", &format!("box{index}@east.test"))
            .replace("{{RCPT_DEFER}}", "deferred@east.test")
            .replace("{{UNKNOWN}}", "unknown@east.test")
            .replace("{{DOMAIN1}}", "east.test");
        let text = match protocol {
            Protocol::Smtp => text.replace("LHLO", "EHLO"),
            Protocol::Lmtp => text,
        };
        text.chars()
            .map(|c| u8::try_from(u32::from(c)).unwrap())
            .collect()
    }

    fn nested_multipart(depth: u64) -> String {
        let level = |n| format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n");
        (0..depth).map(level).collect()
    }

    struct Run {
        id: String,
        client: Client<TcpStream>,
        protocol: Protocol,
        may_close: bool,
        closed: bool,
        accepted: usize,
        waited: Duration,
    }

    impl Run {
        async fn steps(&mut self, steps: &[Value], index: usize) {
            for step in steps {
                if self.closed {
                    return;
                }
                let (key, value) = step
                    .as_object()
                    .unwrap()
                    .iter()
                    .find(|(key, _)| *key != "depth")
                    .unwrap();
                self.step(key, value, step, index).await;
            }
        }

        async fn step(&mut self, key: &str, value: &Value, step: &Value, index: usize) {
            match key {
                "send" => {
                    let octets = substitute(value.as_str().unwrap(), self.protocol, index);
                    self.client.send(octets).await;
                }
                "send_repeat" => {
                    let data = substitute(value["data"].as_str().unwrap(), self.protocol, index);
                    let count = usize::try_from(value["count"].as_u64().unwrap()).unwrap();
                    self.client.send(data.repeat(count)).await;
                }
                "send_until_limit_plus" => {
                    let octets = MESSAGE_SIZE + value.as_u64().unwrap();
                    let line = format!("{}\r\n", "x".repeat(62));
                    let lines = line.repeat(usize::try_from(octets / 64 + 1).unwrap());
                    self.client.send(lines).await;
                }
                "gen" => {
                    assert_eq!(value, "nested_multipart");
                    let content = nested_multipart(step["depth"].as_u64().unwrap());
                    self.client.send(content).await;
                }
                "send_slow" => {
                    self.client
                        .send(&value["data"].as_str().unwrap()[..1])
                        .await;
                    self.client.expect("421 4.4.2").await;
                    self.client.expect_closed().await;
                    self.closed = true;
                }
                "expect" | "expect_any" => self.expect(value).await,
                "repeat" => {
                    for index in 0..usize::try_from(value["count"].as_u64().unwrap()).unwrap() {
                        let steps = value["steps"].as_array().unwrap();
                        Box::pin(self.steps(steps, index)).await;
                    }
                }
                "expect_count" => {
                    for _ in 0..self.accepted {
                        self.client.expect("250 2.0.0 <one@east.test> q=").await;
                    }
                }
                "allow_close" => self.may_close = true,
                "expect_close_ms" => {
                    self.client.expect_closed().await;
                    self.closed = true;
                }
                "within_ms" => {
                    let limit = Duration::from_millis(value.as_u64().unwrap());
                    assert!(self.waited < limit, "{}: {:?}", self.id, self.waited);
                }
                "close" => {
                    if value == "rst" {
                        self.client.stream.set_zero_linger().unwrap();
                    }
                    self.closed = true;
                }
                "sleep_ms" | "drain_ms" => {}
                other => panic!("{}: step {other}", self.id),
            }
        }

        async fn expect(&mut self, value: &Value) {
            let asked = Instant::now();
            let reply = self.client.reply().await;
            self.waited = asked.elapsed();
            let Some(reply) = reply else {
                assert!(self.may_close, "{}: closed before {value}", self.id);
                self.closed = true;
                return;
            };
            let code = reply.code.to_string();
            let fits = |wanted: &Value| {
                let wanted = wanted.as_str().unwrap();
                wanted
                    .chars()
                    .zip(code.chars())
                    .all(|(w, c)| w == '.' || w == c)
            };
            assert!(
                value.as_array().unwrap().iter().any(fits),
                "{}: {reply:?} is not {value}",
                self.id
            );
            if reply
                .enhanced
                .is_some_and(|enhanced| enhanced.to_string() == "2.1.5")
            {
                self.accepted += 1;
            }
        }
    }

    fn allowed_deliveries(case: &Value) -> Option<BTreeSet<u64>> {
        let mut counts = BTreeSet::new();
        for outcome in case["allowed"].as_array().unwrap() {
            match &outcome["delivered"] {
                Value::Number(number) => counts.extend(number.as_u64()),
                Value::String(text) if text == "0 or 1" => counts.extend([0, 1]),
                Value::String(text) if text.starts_with("100 mailboxes") => counts.extend([100]),
                Value::String(text) if text.starts_with("{{RCPT2}}: 1") => counts.extend([2]),
                Value::Null => {}
                other => panic!("{other}"),
            }
        }
        (!counts.is_empty()).then_some(counts)
    }

    /// What the stored mail of a case must hold, where the case's `check` says it in words.
    fn must_hold(id: &str) -> &'static str {
        match id {
            "eod-dotdot" => "body\r\n.\r\nMAIL FROM:<evil",
            id if id.starts_with("eod-crcrlf") || id == "eod-split-everywhere" => "body\r\n",
            id if id.starts_with("eod-") && id != "eod-then-next-in-same-segment" => {
                "MAIL FROM:<evil"
            }
            "dot-unstuff" => "\r\n\r\none\r\n.two\r\n..three\r\n.\r\n",
            "dot-relay-restuff" => "\r\n\r\n.\r\n.x\r\n",
            "bare-lf-only-content" => "From: a@example.org\r\nSubject: lf\r\n\r\nbody\r\nline\r\n",
            "leading-blank-line" => "\r\nFrom: evil@blocked.test\r\n",
            "date-zone-swallow" => "Z\r\nFrom: <evil@blocked.test>\r\n",
            _ => "",
        }
    }

    async fn run(case: &Value, protocol: Protocol, bare_newline: BareNewline) {
        let id = case["id"].as_str().unwrap().to_owned();
        let mut settings = settings(protocol, bare_newline);
        if id == "slowloris" {
            settings.timeouts.data_block = Duration::from_millis(200);
        }
        let running = Running::start(settings).await;
        let mut run = Run {
            client: running.connect().await,
            id: id.clone(),
            protocol,
            may_close: false,
            closed: false,
            accepted: 0,
            waited: Duration::ZERO,
        };
        run.steps(case["steps"].as_array().unwrap(), 0).await;
        if !run.closed {
            run.client.finish().await;
        }
        let seen = std::mem::take(&mut run.client.seen);
        drop(run);
        let mut after = running.connect().await;
        after.expect("220").await;
        drop(after);
        let handoff = running.stop().await;

        let delivered = handoff.delivered() as u64;
        if let Some(allowed) = allowed_deliveries(case) {
            assert!(
                allowed.contains(&delivered),
                "{id}: {delivered} is not of {allowed:?}"
            );
        }
        for raw in handoff.raws() {
            let text = String::from_utf8_lossy(&raw);
            assert!(text.contains(must_hold(&id)), "{id}: {text:?}");
            assert!(
                wire_data(&[&raw]).is_ok(),
                "{id}: what is stored can be sent on"
            );
        }
        if case["category"] == "smuggling" {
            let codes: Vec<u16> = seen.iter().map(|reply| reply.code / 100).collect();
            let end = codes.iter().position(|&class| class == 3).unwrap();
            assert_eq!(
                codes.len() - end - 1,
                2,
                "{id}: one for the mail, one more: {seen:?}"
            );
            let taken = handoff.taken.lock().unwrap();
            for (envelope, _) in taken.iter() {
                assert_eq!(envelope.sender.to_string(), "sender@example.org", "{id}");
                assert_eq!(envelope.recipients.len(), 1, "{id}");
            }
        }
        match id.as_str() {
            "noop-storm" => assert_eq!((seen.len(), seen[102].code), (103, 421)),
            "rset-storm" => assert_eq!((seen.len(), seen[202].code), (203, 421)),
            "junk-storm" => {
                assert_eq!(seen.len(), 23, "20 errors and the last word");
                assert_eq!(seen[22].code, 421);
            }
            "http-request" => assert!(seen.iter().all(|reply| reply.code != 354)),
            "rcpt-1000" => assert_eq!(seen.len(), 3 + 1000 + 1 + 500),
            "size-lie-low" => assert!(handoff.raws()[0].len() > 1 << 20),
            _ => {}
        }
    }

    async fn all(protocol: Protocol, bare_newline: BareNewline) {
        let file: Value = serde_json::from_str(include_str!("protocol_torture.json")).unwrap();
        let cases = file["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 63);
        for case in cases {
            if protocol == Protocol::Lmtp || case["proto"] != "lmtp" {
                run(case, protocol, bare_newline).await;
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn lmtp_normalize() {
        all(Protocol::Lmtp, BareNewline::Normalize).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn lmtp_reject() {
        all(Protocol::Lmtp, BareNewline::Reject).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn smtp_normalize() {
        all(Protocol::Smtp, BareNewline::Normalize).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn smtp_reject() {
        all(Protocol::Smtp, BareNewline::Reject).await;
    }
}

#[tokio::test]
async fn lmtp_replies_to_each_recipient_in_order() {
    let running = Running::start(lmtp()).await;
    let mut client = running.greeted("LHLO").await;
    let recipients = ["one", "deferred", "unknown", "two", "one"];
    client
        .send(mail_to(&recipients) + BODY + "NOOP\r\nQUIT\r\n")
        .await;
    for start in [
        "250 2.1.0",
        "250 2.1.5",
        "250 2.1.5",
        "550 5.1.1 unknown\\r\\nmailbox",
        "250 2.1.5",
        "250 2.1.5",
        "354 ",
        "250 2.0.0 <one@east.test> q=Q-one verdict=deliver",
        "451 4.3.0 later",
        "250 2.0.0 <two@east.test> q=Q-two verdict=deliver",
        "250 2.0.0 <one@east.test> q=Q-one verdict=deliver",
        "250 2.0.0 ok",
        "221 2.0.0",
    ] {
        client.expect(start).await;
    }
    client.expect_closed().await;
    let handoff = running.stop().await;
    assert_eq!(
        handoff.raws(),
        [BODY.strip_suffix(".\r\n").unwrap().as_bytes()]
    );
}

#[tokio::test]
async fn smtp_replies_once() {
    let running = Running::start(settings(Protocol::Smtp, BareNewline::Reject)).await;
    let mut client = running.greeted("EHLO").await;
    let rows: &[(&[&str], &str)] = &[
        (
            &["one"],
            "250 2.0.0 <one@east.test> q=Q-one verdict=deliver",
        ),
        (&["one", "two"], "250 2.0.0 q=Q-one q=Q-two verdict=deliver"),
        (&["one", "deferred"], "451 4.3.0 later"),
    ];
    for (recipients, last) in rows {
        client.send(mail_to(recipients) + BODY).await;
        for _ in 0..=recipients.len() {
            client.expect("250 2.1.").await;
        }
        client.expect("354").await;
        client.expect(last).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn size_and_origin() {
    let running = Running::start(lmtp()).await;
    let mut client = running.greeted("LHLO").await;
    let hello = &client.seen[1].lines;
    assert!(hello.contains(&format!("SIZE {MESSAGE_SIZE}")), "{hello:?}");
    client
        .send(format!("MAIL FROM:<> SIZE={}\r\n", MESSAGE_SIZE + 1))
        .await;
    client.expect("552 5.3.4").await;
    client.send("MAIL FROM:<> SIZE=4242\r\n").await;
    client.expect("452 4.3.1 no room").await;
    client
        .send("XFORWARD NAME=real.example ADDR=192.0.2.9\r\n")
        .await;
    client.expect("250 2.0.0").await;
    client
        .send(format!(
            "MAIL FROM:<> SIZE={MESSAGE_SIZE}\r\nRCPT TO:<ONE>\r\nDATA\r\n{BODY}"
        ))
        .await;
    for start in ["250 2.1.0", "250 2.1.5", "354", "250 2.0.0 <ONE@east.test>"] {
        client.expect(start).await;
    }
    let handoff = running.stop().await;
    let taken = handoff.taken.lock().unwrap();
    let (envelope, _) = &taken[0];
    assert_eq!(envelope.sender, ReversePath::Null);
    assert_eq!(envelope.client.ip, "127.0.0.1".parse().ok());
    assert_eq!(envelope.client.helo, "client.test");
    assert!(envelope.client.trusted);
    assert_eq!(envelope.client.origin_ip, "192.0.2.9".parse().ok());
    assert_eq!(envelope.client.origin_name.as_deref(), Some("real.example"));
}

#[tokio::test]
async fn a_hand_off_that_fails_is_451() {
    let mut settings = lmtp();
    settings.timeouts.final_reply = Duration::from_millis(300);
    let running = Running::start(settings).await;
    let mut client = running.greeted("LHLO").await;
    let rows: &[(&[&str], &[&str])] = &[
        (&["one", "panic"], &["451 4.3.0", "451 4.3.0"]),
        (
            &["one", "short", "two"],
            &["250 2.0.0 <one@", "451 4.3.0", "451 4.3.0"],
        ),
        (&["one", "never"], &["451 4.4.5", "451 4.4.5"]),
        (&["one"], &["250 2.0.0 <one@"]),
    ];
    for (recipients, replies) in rows {
        client.send(mail_to(recipients) + BODY).await;
        for _ in 0..=recipients.len() {
            client.expect("250 2.1.").await;
        }
        client.expect("354").await;
        for reply in *replies {
            client.expect(reply).await;
        }
    }
    client
        .send("MAIL FROM:<>\r\nRCPT TO:<panic-at-rcpt>\r\nRCPT TO:<one>\r\n")
        .await;
    for start in ["250", "451 4.3.0", "250"] {
        client.expect(start).await;
    }
    drop(client);
    running.stop().await;
}

#[tokio::test]
async fn who_may_connect() {
    let rows: &[(&[&str], &str)] = &[
        (&["127.0.0.0/8"], "220"),
        (&["::1", "127.0.0.1"], "220"),
        (&["192.0.2.0/24"], "554"),
        (&[], "554"),
    ];
    for (clients, greeting) in rows {
        let mut settings = lmtp();
        settings.clients = clients
            .iter()
            .map(|network| network.parse().unwrap())
            .collect();
        let running = Running::start(settings).await;
        let mut client = running.connect().await;
        client.expect(greeting).await;
        if *greeting == "554" {
            client.expect_closed().await;
        }
        running.stop().await;
    }
}

#[tokio::test]
async fn one_connection_too_many() {
    let mut settings = lmtp();
    settings.max_connections = 2;
    let running = Running::start(settings).await;
    let first = running.greeted("LHLO").await;
    let mut second = running.greeted("LHLO").await;
    let mut third = running.connect().await;
    third.expect("421 4.3.2").await;
    third.expect_closed().await;
    second.send("QUIT\r\n").await;
    second.expect("221").await;
    second.finish().await;
    drop((first, second));
    // A slot is free once the server has seen the end of one of the two.
    timeout(PATIENCE, async {
        while running.connect().await.reply().await.unwrap().code != 220 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    running.stop().await;
}

/// They come before the first of them can be accepted: a short backlog drops the rest, and a client
/// that was dropped waits for a greeting for ever.
#[tokio::test]
async fn a_burst_of_clients_is_greeted() {
    let mut settings = lmtp();
    settings.max_connections = 300;
    let running = Running::start(settings).await;
    let (_, address) = &running.server.addresses()[0];
    let burst: Vec<_> = (0..300)
        .map(|_| std::net::TcpStream::connect_timeout(address, PATIENCE).unwrap())
        .collect();
    for stream in burst {
        stream.set_nonblocking(true).unwrap();
        Client::new(TcpStream::from_std(stream).unwrap())
            .expect("220")
            .await;
    }
    running.stop().await;
}

#[tokio::test]
async fn a_silent_client_is_told() {
    let mut settings = lmtp();
    settings.timeouts.command = Duration::from_millis(300);
    settings.timeouts.data_block = Duration::from_millis(300);
    let running = Running::start(settings).await;
    let rows = [("", 0), ("NOO", 0), ("MAIL FROM:<>\r\n", 1)];
    for (sent, replies) in rows {
        let mut client = running.greeted("LHLO").await;
        client.send(sent).await;
        for _ in 0..replies {
            client.expect("250").await;
        }
        client.expect("421 4.4.2").await;
        client.expect_closed().await;
    }
    let mut client = running.greeted("LHLO").await;
    client.send(mail_to(&["one"]) + "half").await;
    for start in ["250", "250", "354", "421 4.4.2"] {
        client.expect(start).await;
    }
    assert_eq!(running.stop().await.delivered(), 0);
}

#[tokio::test]
async fn mail_in_flight_is_bounded() {
    let memory = 256 << 10;
    let running = Running::with_memory(lmtp(), memory).await;
    let line = format!("{}\r\n", "x".repeat(62));
    let half = line.repeat((memory / 2 / 64) as usize + 1);

    let mut too_big = running.greeted("LHLO").await;
    too_big
        .send(mail_to(&["one"]) + &half.repeat(3) + ".\r\n")
        .await;
    for start in ["250", "250", "354", "452 4.3.1"] {
        too_big.expect(start).await;
    }

    let mut first = running.greeted("LHLO").await;
    first.send(mail_to(&["gated"]) + &half + ".\r\n").await;
    running.handoff.entered.notified().await;
    let mut second = running.greeted("LHLO").await;
    second.send(mail_to(&["one"]) + &half + ".\r\n").await;
    for start in ["250", "250", "354"] {
        second.expect(start).await;
    }
    assert_eq!(
        running.handoff.delivered(),
        0,
        "the second waits for the first's memory"
    );
    running.handoff.gate.notify_one();
    for start in ["250", "250", "354", "250 2.0.0"] {
        first.expect(start).await;
    }
    second.expect("250 2.0.0").await;
    assert_eq!(running.stop().await.delivered(), 2);
}

#[tokio::test]
async fn a_mail_that_never_has_room_is_put_off_at_once() {
    let running = Running::with_memory(lmtp(), 1 << 20).await;
    let mut client = running.greeted("LHLO").await;
    client.send("MAIL FROM:<> SIZE=1048577\r\n").await;
    client.expect("452 4.3.1").await;
    client.send("MAIL FROM:<> SIZE=1048576\r\n").await;
    client.expect("250").await;
    running.stop().await;
}

/// A disk in trouble is not a full one (CONTRACT section 3).
#[tokio::test]
async fn a_mail_that_cannot_be_kept_is_451() {
    let handoff = Arc::new(Recorder::default());
    let gone = temp_dir().join("sekimori-no-such-folder");
    let server = Server::start(vec![lmtp()], 64 << 20, gone, handoff.clone()).await;
    let running = Running {
        server: server.unwrap(),
        handoff,
    };
    let mut client = running.greeted("LHLO").await;
    let line = format!("{}\r\n", "x".repeat(1022));
    let large = mail_to(&["one", "two"]) + &line.repeat(4200) + ".\r\n";
    client.send(large + &mail_to(&["one"]) + BODY).await;
    for start in ["250", "250", "250", "354", "451 4.3.0", "451 4.3.0"] {
        client.expect(start).await;
    }
    for start in ["250", "250", "354", "250 2.0.0"] {
        client.expect(start).await;
    }
    assert_eq!(running.stop().await.delivered(), 1);
}

/// What was kept of a refused mail goes with it, in memory and in a file.
#[tokio::test]
async fn the_mail_after_a_refused_one_is_its_own() {
    let line = format!("{}\r\n", "x".repeat(1022));
    let short = BODY.len() - 3;
    let rows: &[(u64, u64, usize, &str)] = &[
        (1000, 500, 501, "452 4.3.1"),
        (400, 4000, 401, "552 5.3.4"),
        (100, 4000, 101, "552 5.3.4"),
        (500, 500, 500, "250 2.0.0"),
        (500, 4000, 3, "250 2.0.0"),
    ];
    for (message_kib, memory_kib, lines, reply) in rows {
        let mut settings = lmtp();
        settings.limits.message_size = message_kib << 10;
        let running = Running::with_memory(settings, memory_kib << 10).await;
        let mut client = running.greeted("LHLO").await;
        let mail = mail_to(&["one"]) + &line.repeat(*lines) + ".\r\n";
        client.send(mail + &mail_to(&["two"]) + BODY).await;
        for start in ["250", "250", "354", reply, "250", "250", "354", "250 2.0.0"] {
            client.expect(start).await;
        }
        let raws = running.stop().await.raws();
        let lengths: Vec<usize> = raws.iter().map(Vec::len).collect();
        let expected = [lines * 1024, short];
        let taken = if reply.starts_with("250") { 0 } else { 1 };
        assert_eq!(lengths, expected[taken..], "{message_kib} {memory_kib}");
    }
}

#[tokio::test]
async fn a_silent_client_goes_sooner_where_nearly_all_connections_are_taken() {
    let mut settings = lmtp();
    settings.max_connections = 5;
    settings.timeouts.command = PATIENCE * 2;
    let running = Running::start(settings).await;
    let mut silent = running.greeted("LHLO").await;
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(running.greeted("LHLO").await);
    }
    silent.expect("421 4.4.2").await;
    silent.expect_closed().await;
    drop(others);
    running.stop().await;
}

#[tokio::test]
async fn shutdown_finishes_what_is_open() {
    let running = Running::start(lmtp()).await;
    let mut idle = running.greeted("LHLO").await;
    let mut open = running.greeted("LHLO").await;
    open.send(mail_to(&["gated"]) + BODY).await;
    running.handoff.entered.notified().await;
    let address = running.server.addresses()[0].1;
    let handoff = running.handoff.clone();
    let stopping = tokio::spawn(running.stop());
    idle.expect("421 4.3.2").await;
    idle.expect_closed().await;
    handoff.gate.notify_one();
    for start in ["250", "250", "354", "250 2.0.0", "421 4.3.2"] {
        open.expect(start).await;
    }
    assert_eq!(stopping.await.unwrap().delivered(), 1);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn shutdown_cuts_what_outlasts_its_grace() {
    let running = Running::start(lmtp()).await;
    let mut open = running.greeted("LHLO").await;
    open.send(mail_to(&["gated"]) + BODY).await;
    running.handoff.entered.notified().await;
    let Running { server, handoff } = running;
    server.shutdown(Duration::from_millis(100)).await;
    for start in ["250", "250", "354"] {
        open.expect(start).await;
    }
    open.expect_closed().await;
    timeout(PATIENCE, async {
        while Arc::strong_count(&handoff) > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the hand-off is dropped");
    assert_eq!(handoff.delivered(), 0);
}

#[tokio::test]
async fn unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lmtp.sock");
    let mut settings = lmtp();
    settings.address = ListenAddress::Unix(path.to_str().unwrap().to_owned());
    settings.clients = Vec::new();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a crash leaves the socket file");

    let running = Running::start(settings.clone()).await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let second = Server::start(
        vec![settings.clone()],
        1 << 20,
        temp_dir(),
        Arc::new(Recorder::default()),
    )
    .await;
    assert_eq!(second.unwrap_err().source.kind(), io::ErrorKind::AddrInUse);

    let mut client = Client::new(UnixStream::connect(&path).await.unwrap());
    client.expect("220").await;
    client
        .send("LHLO c\r\nXFORWARD NAME=x\r\n".to_owned() + &mail_to(&["one"]) + BODY)
        .await;
    for start in ["250", "250 2.0.0", "250", "250", "354", "250 2.0.0"] {
        client.expect(start).await;
    }
    let handoff = running.stop().await;
    assert_eq!(handoff.taken.lock().unwrap()[0].0.client.ip, None);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing is left"
    );

    std::fs::write(&path, "a file of someone else").unwrap();
    let refused = Server::start(
        vec![settings],
        1 << 20,
        temp_dir(),
        Arc::new(Recorder::default()),
    )
    .await;
    assert!(refused.is_err());
    assert!(path.exists());
}

#[tokio::test]
async fn what_cannot_be_opened_is_named() {
    let running = Running::start(lmtp()).await;
    let taken = running.server.addresses()[0].1.to_string();
    let rows = [
        taken.as_str(),
        "systemd:nothing",
        "/nonexistent/folder/lmtp.sock",
    ];
    for address in rows {
        let mut settings = lmtp();
        settings.address = address.parse().unwrap();
        let error = Server::start(
            vec![settings],
            1 << 20,
            temp_dir(),
            Arc::new(Recorder::default()),
        )
        .await
        .unwrap_err();
        assert_eq!(
            (error.name.as_str(), error.address.to_string().as_str()),
            ("test", address)
        );
    }
    running.stop().await;
}
