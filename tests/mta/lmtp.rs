//! An LMTP client (RFC 2033) for what Postfix would split into several hand-offs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// Hands `mail` to all `recipients` in one transaction; the reply for each, in their order.
pub(crate) fn hand_over(
    port: u16,
    sender: &str,
    recipients: &[String],
    mail: &[u8],
) -> Vec<String> {
    let mut data = Vec::with_capacity(mail.len() + 64);
    for line in mail.split_inclusive(|&byte| byte == b'\n') {
        data.extend_from_slice(if line.starts_with(b".") { b"." } else { b"" });
        data.extend_from_slice(line);
    }
    transaction(port, sender, recipients, &data)
}

/// Hands over octets as they are, no dot stuffed; the reply for the recipient.
pub(crate) fn hand_over_raw(port: u16, sender: &str, recipient: &str, data: &[u8]) -> String {
    transaction(port, sender, &[recipient.to_owned()], data).remove(0)
}

/// Writes a whole session at once and reads to its end.
pub(crate) fn blind(port: u16, session: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(session).unwrap();
    let mut replies = String::new();
    stream.read_to_string(&mut replies).unwrap();
    replies
}

fn transaction(port: u16, sender: &str, recipients: &[String], data: &[u8]) -> Vec<String> {
    let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap());
    expect(&mut stream, "220");
    send(&mut stream, b"LHLO client.example.net\r\n");
    expect(&mut stream, "250");
    send(
        &mut stream,
        format!("MAIL FROM:<{sender}> BODY=8BITMIME\r\n").as_bytes(),
    );
    expect(&mut stream, "250");
    for recipient in recipients {
        send(&mut stream, format!("RCPT TO:<{recipient}>\r\n").as_bytes());
        expect(&mut stream, "250");
    }
    send(&mut stream, b"DATA\r\n");
    expect(&mut stream, "354");
    send(&mut stream, data);
    send(&mut stream, b".\r\n");
    let replies = recipients.iter().map(|_| reply(&mut stream)).collect();
    send(&mut stream, b"QUIT\r\n");
    expect(&mut stream, "221");
    replies
}

fn send(stream: &mut BufReader<TcpStream>, bytes: &[u8]) {
    stream.get_mut().write_all(bytes).unwrap();
}

fn expect(stream: &mut BufReader<TcpStream>, code: &str) {
    let reply = reply(stream);
    assert!(reply.starts_with(code), "{reply}");
}

/// The last line of one reply.
fn reply(stream: &mut BufReader<TcpStream>) -> String {
    loop {
        let mut line = String::new();
        assert!(
            stream.read_line(&mut line).unwrap() > 0,
            "LMTP connection closed"
        );
        if line.as_bytes().get(3) != Some(&b'-') {
            return line.trim_end().to_owned();
        }
    }
}
