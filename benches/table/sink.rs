//! Takes every mail by LMTP and SMTP, counts it and forgets it. `XCOUNT` is answered with the count
//! so far. `--refuse` answers every `MAIL` with 451: what a server does before delivery, alone.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use memchr::{memchr, memmem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Options;

const END: &[u8] = b"\r\n.\r\n";
const PIECE: usize = 128 * 1024;
const EXTENSIONS: &[u8] =
    b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE 104857600\r\n";
static TAKEN: AtomicU64 = AtomicU64::new(0);

#[derive(Default)]
struct Session {
    refuse: bool,
    lmtp: bool,
    recipients: u32,
    /// The last octets of the data so far, while in data.
    data: Option<Vec<u8>>,
    line: Vec<u8>,
    over: bool,
}

pub(crate) fn run(options: &Options) {
    let refuse = options.text("refuse") == Some("yes");
    let port: u16 = options.number("port", 0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(serve(stream, refuse));
        }
    });
}

async fn serve(mut stream: TcpStream, refuse: bool) -> io::Result<()> {
    let mut session = Session {
        refuse,
        ..Session::default()
    };
    let mut piece = vec![0; PIECE];
    let mut out = b"220 sink ESMTP\r\n".to_vec();
    loop {
        if !out.is_empty() {
            stream.write_all(&out).await?;
            out.clear();
        }
        if session.over {
            return Ok(());
        }
        match stream.read(&mut piece).await? {
            0 => return Ok(()),
            count => session.take(&piece[..count], &mut out),
        }
    }
}

impl Session {
    fn take(&mut self, mut octets: &[u8], out: &mut Vec<u8>) {
        while !octets.is_empty() && !self.over {
            octets = match self.data.take() {
                Some(last) => self.data(last, octets, out),
                None => self.command(octets, out),
            };
        }
    }

    /// The octets behind the end of the data.
    fn data<'a>(&mut self, mut last: Vec<u8>, octets: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let seam = octets.len().min(END.len() - 1);
        let kept = last.len();
        last.extend_from_slice(&octets[..seam]);
        let end = match memmem::find(&last, END) {
            Some(at) => Some(at + END.len() - kept),
            None => memmem::find(octets, END).map(|at| at + END.len()),
        };
        let Some(end) = end else {
            let tail = if octets.len() == seam { &last } else { octets };
            self.data = Some(tail[tail.len().saturating_sub(END.len() - 1)..].to_vec());
            return &[];
        };
        TAKEN.fetch_add(1, Ordering::Relaxed);
        let replies = if self.lmtp { self.recipients } else { 1 };
        for _ in 0..replies {
            out.extend(b"250 2.0.0 taken\r\n");
        }
        &octets[end..]
    }

    fn command<'a>(&mut self, octets: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let Some(end) = memchr(b'\n', octets) else {
            self.line.extend_from_slice(octets);
            return &[];
        };
        self.line.extend_from_slice(&octets[..end]);
        let verb = self.line.get(..4).unwrap_or_default().to_ascii_uppercase();
        match verb.as_slice() {
            b"LHLO" | b"EHLO" | b"HELO" => {
                self.lmtp = verb == b"LHLO";
                out.extend(EXTENSIONS);
            }
            b"MAIL" if self.refuse => out.extend(b"451 4.3.0 not now\r\n"),
            b"MAIL" => {
                self.recipients = 0;
                out.extend(b"250 2.1.0 ok\r\n");
            }
            b"RCPT" if self.refuse => out.extend(b"503 5.5.1 no sender\r\n"),
            b"RCPT" => {
                self.recipients += 1;
                out.extend(b"250 2.1.5 ok\r\n");
            }
            b"DATA" if self.recipients == 0 => out.extend(b"503 5.5.1 no recipient\r\n"),
            b"DATA" => {
                out.extend(b"354 go\r\n");
                // The line end of the command: a lone dot ends an empty mail.
                self.data = Some(b"\r\n".to_vec());
            }
            b"XCOU" => out.extend(format!("250 {}\r\n", TAKEN.load(Ordering::Relaxed)).bytes()),
            b"QUIT" => {
                out.extend(b"221 2.0.0 bye\r\n");
                self.over = true;
            }
            _ => out.extend(b"250 2.0.0 ok\r\n"),
        }
        self.line.clear();
        &octets[end + 1..]
    }
}
