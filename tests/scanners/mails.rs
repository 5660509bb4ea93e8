//! The mails: clean, infected in one place or another, spam. What an engine looks for is put together
//! here, so that no file of the project holds it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::harness::{TARO, crlf};
use crate::zip;

/// What our own signature finds, anywhere.
pub(crate) const OURS: &[u8] = b"sekimori-test-virus-5e41";
/// What rspamd and spamd give [`SEVEN_POINTS`] for.
pub(crate) const SEVEN: &str = "sekimori-seven-points";
pub(crate) const SEVEN_POINTS: &str = "7.2";

/// The EICAR test file (68 octets).
pub(crate) fn eicar() -> Vec<u8> {
    [
        r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-",
        "STANDARD-ANTIVIRUS-TEST-FILE!$H+H*",
    ]
    .concat()
    .into_bytes()
}

/// The generic test for unsolicited bulk email: one line.
pub(crate) fn gtube() -> String {
    [
        "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-",
        "STANDARD-ANTI-UBE-TEST-EMAIL*C.34X",
    ]
    .concat()
}

/// A field block that is no spam for SpamAssassin, with a new hand-off each time.
pub(crate) fn head(subject: &str) -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!(
        "Received: from mail.partner.example by mx.example.jp with ESMTP id {number:08};\n\
         \tSun, 22 Nov 2026 09:00:00 +0900\n\
         From: Alice <alice@partner.example>\n\
         To: Taro <{TARO}>\n\
         Subject: {subject}\n\
         Date: Sun, 22 Nov 2026 08:59:58 +0900\n\
         Message-ID: <20261122085958.{number:08}@mail.partner.example>\n\
         MIME-Version: 1.0\n"
    )
}

/// A plain text mail.
pub(crate) fn text(subject: &str, body: &str) -> Vec<u8> {
    let head = head(subject);
    crlf(&format!(
        "{head}Content-Type: text/plain; charset=UTF-8\n\n{body}\n"
    ))
}

pub(crate) fn ham() -> Vec<u8> {
    text(
        "Minutes of Thursday",
        "The minutes of our meeting on Thursday are ready. Please read them and tell me what is missing.",
    )
}

pub(crate) fn spam() -> Vec<u8> {
    text("Minutes of Thursday", &gtube())
}

/// Between `add header` and `reject` for rspamd, above its threshold for spamd.
pub(crate) fn seven_points() -> Vec<u8> {
    text(
        "Minutes of Thursday",
        &format!("The minutes of our meeting on Thursday are ready: {SEVEN}. Please read them."),
    )
}

/// A part: fields and body, LF.
pub(crate) fn part(fields: &str, body: &str) -> String {
    format!("{fields}\n\n{body}")
}

pub(crate) fn text_part(body: &str) -> String {
    part("Content-Type: text/plain; charset=UTF-8", body)
}

/// An attached file in base64.
pub(crate) fn file_part(name: &str, contents: &[u8]) -> String {
    let encoded = STANDARD.encode(contents);
    let lines: Vec<&str> = encoded
        .as_bytes()
        .chunks(76)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    part(
        &format!(
            "Content-Type: application/octet-stream; name=\"{name}\"\n\
             Content-Disposition: attachment; filename=\"{name}\"\n\
             Content-Transfer-Encoding: base64"
        ),
        &lines.join("\n"),
    )
}

/// A multipart of these parts, with the fields that say so.
pub(crate) fn multipart(boundary: &str, parts: &[String]) -> String {
    let body: String = parts
        .iter()
        .map(|part| format!("--{boundary}\n{part}\n"))
        .collect();
    part(
        &format!("Content-Type: multipart/mixed; boundary=\"{boundary}\""),
        &format!("{body}--{boundary}--\n"),
    )
}

/// A mail of these parts.
pub(crate) fn mixed(parts: &[String]) -> Vec<u8> {
    crlf(&format!("{}{}", head("Files"), multipart("outer", parts)))
}

/// A mail as a part of another.
pub(crate) fn forwarded(parts: &[String]) -> String {
    let inner = format!(
        "From: Carol <carol@partner.example>\nTo: alice@partner.example\nSubject: inner\nMIME-Version: 1.0\n{}",
        multipart("inner", parts)
    );
    part("Content-Type: message/rfc822", &inner)
}

/// EICAR in an attached file.
pub(crate) fn infected() -> Vec<u8> {
    mixed(&[
        text_part("The report is attached."),
        file_part("report.com", &eicar()),
    ])
}

/// EICAR in a zip in a forwarded mail in a multipart.
pub(crate) fn infected_deep() -> Vec<u8> {
    let archive = zip::stored("report.com", &eicar());
    mixed(&[
        text_part("See what Carol sends."),
        forwarded(&[
            text_part("It is in the archive."),
            file_part("report.zip", &archive),
        ]),
        file_part("notes.txt", b"nothing special in here\r\n"),
    ])
}
