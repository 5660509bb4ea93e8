//! The bare program: LMTP in, a file, its `fsync`, a rename, the folder's `fsync`, the reply. No
//! parsing, no rules, no limits, no care. A floor for what a durable hand-off costs on a machine;
//! not a server for anybody.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memchr::{memchr, memmem};

use crate::Options;

const END: &[u8] = b"\r\n.\r\n";
const STACK: usize = 128 * 1024;
static COUNT: AtomicU64 = AtomicU64::new(0);

pub(crate) fn run(options: &Options) {
    let listener = TcpListener::bind(("127.0.0.1", options.number("port", 0))).unwrap();
    let base: Arc<Path> = Path::new(options.text("dir").unwrap()).into();
    for stream in listener.incoming() {
        let (stream, base) = (stream.unwrap(), base.clone());
        let thread = std::thread::Builder::new().stack_size(STACK);
        thread.spawn(move || drop(serve(stream, &base))).unwrap();
    }
}

fn serve(mut stream: TcpStream, base: &Path) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut held = vec![0; 64 * 1024];
    let mut len = 0;
    let mut user = String::new();
    let mut in_data = false;
    let mut looked = 0;
    let mut out = b"220 bare LMTP\r\n".to_vec();
    loop {
        stream.write_all(&out)?;
        out.clear();
        if held.len() - len < 32 * 1024 {
            held.resize(2 * held.len(), 0);
        }
        match stream.read(&mut held[len..])? {
            0 => return Ok(()),
            count => len += count,
        }
        let mut from = 0;
        loop {
            let open = &held[from..len];
            if in_data {
                let Some(end) = memmem::find(&open[looked..], END).map(|at| at + looked) else {
                    looked = open.len().saturating_sub(END.len() - 1);
                    break;
                };
                out.extend(match store(base, &user, &open[..end + 2]) {
                    Ok(()) => b"250 2.0.0 ok\r\n".as_slice(),
                    Err(_) => b"451 4.3.0 trouble\r\n",
                });
                in_data = false;
                from += end + END.len();
                continue;
            }
            let Some(end) = memchr(b'\n', open) else {
                break;
            };
            let line = &open[..end];
            from += end + 1;
            match line.get(..4).unwrap_or_default() {
                b"LHLO" => out.extend(b"250-bare\r\n250-PIPELINING\r\n250 8BITMIME\r\n"),
                b"RCPT" => {
                    let name = line.split(|byte| matches!(byte, b'<' | b'@')).nth(1);
                    user = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
                    out.extend(b"250 2.1.5 ok\r\n");
                }
                b"DATA" => {
                    out.extend(b"354 go\r\n");
                    (in_data, looked) = (true, 0);
                }
                b"QUIT" => return stream.write_all(b"221 2.0.0 bye\r\n"),
                _ => out.extend(b"250 2.0.0 ok\r\n"),
            }
        }
        held.copy_within(from..len, 0);
        len -= from;
    }
}

fn store(base: &Path, user: &str, mail: &[u8]) -> io::Result<()> {
    let folder = base.join(user);
    let name = format!("{}.bare", COUNT.fetch_add(1, Ordering::Relaxed));
    let (written, kept) = (
        folder.join("tmp").join(&name),
        folder.join("new").join(&name),
    );
    let create = || {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).open(&written)
    };
    let mut file = match create() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            for part in ["tmp", "new", "cur"] {
                fs::create_dir_all(folder.join(part))?;
            }
            create()?
        }
        made => made?,
    };
    file.write_all(mail)?;
    file.sync_all()?;
    fs::rename(&written, &kept)?;
    File::open(folder.join("new"))?.sync_all()
}
