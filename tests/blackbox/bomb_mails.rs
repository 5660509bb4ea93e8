//! Mails that are made to cost more than they weigh. Their size grows with one number, so that
//! `benches/hostile.rs` can measure by how much the cost does.

/// One kind of bomb.
pub(crate) struct Bomb {
    pub(crate) name: &'static str,
    /// Octets grow linearly with the number.
    pub(crate) make: fn(usize) -> Vec<u8>,
    /// A number that is hostile.
    pub(crate) count: usize,
    /// The bound that a why-record names, if one is passed.
    pub(crate) bound: Option<&'static str>,
}

const fn bomb(
    name: &'static str,
    count: usize,
    bound: Option<&'static str>,
    make: fn(usize) -> Vec<u8>,
) -> Bomb {
    Bomb {
        name,
        make,
        count,
        bound,
    }
}

/// All kinds.
pub(crate) const BOMBS: &[Bomb] = &[
    bomb("parts", 100_000, Some("MimeParts"), |n| {
        multipart("b", &"--b\r\n\r\n".repeat(n))
    }),
    bomb("parts with a name each", 100_000, Some("MimeParts"), |n| {
        multipart(
            "b",
            &"--b\r\nContent-Disposition: attachment; filename=a\r\n\r\nx\r\n".repeat(n),
        )
    }),
    bomb("header fields", 10_000, Some("HeaderFields"), |n| {
        mail(&"X-A: b\r\n".repeat(n), "")
    }),
    bomb("fields of a part", 100_000, None, |n| {
        multipart("b", &format!("--b\r\n{}\r\nx\r\n", "X-A: b\r\n".repeat(n)))
    }),
    bomb("one line", 50 << 20, None, |n| mail("", &"x".repeat(n))),
    bomb("one header line", 900_000, None, |n| {
        mail(&format!("X-A: {}\r\n", "x".repeat(n)), "")
    }),
    bomb(
        "one header line over the bound",
        4 << 20,
        Some("HeaderBytes"),
        |n| mail(&format!("X-A: {}\r\n", "x".repeat(n)), ""),
    ),
    bomb("continuation lines", 100_000, None, |n| {
        mail(&format!("X-A: b\r\n{}", " c\r\n".repeat(n)), "")
    }),
    bomb("multiparts in each other", 10_000, Some("MimeDepth"), |n| {
        let levels: String = (0..n)
            .map(|level| {
                format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n")
            })
            .collect();
        mail(&levels, "")
    }),
    bomb(
        "multiparts of one boundary",
        10_000,
        Some("MimeDepth"),
        |n| {
            let level = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n";
            mail(&level.repeat(n), "")
        },
    ),
    bomb("messages in each other", 10_000, Some("MimeDepth"), |n| {
        mail(&"Content-Type: message/rfc822\r\n\r\n".repeat(n), "")
    }),
    bomb("boundaries that begin alike", 100_000, None, |n| {
        multipart("b", &"--bb\r\n--b-\r\n--b--b\r\n-- b\r\n--B\r\n".repeat(n))
    }),
    bomb("every level's boundary on every line", 20_000, None, |n| {
        let open: String = (0..60)
            .map(|level| {
                format!(
                    "Content-Type: multipart/mixed; boundary={}\r\n\r\n--{0}\r\n",
                    "b".repeat(level + 1)
                )
            })
            .collect();
        mail(&open, &format!("--{}c\r\n", "b".repeat(61)).repeat(n))
    }),
    bomb("a long boundary", 900_000, None, |n| {
        let long = "b".repeat(n / 4);
        multipart(
            &long,
            &format!("--{long}\r\n\r\n--{long}x\r\n--{long}--\r\n"),
        )
    }),
    bomb("a boundary that is none", 200_000, None, |n| {
        multipart("", &"--\r\n".repeat(n))
    }),
    bomb("one Content-Type parameter", 1_000_000, None, |n| {
        mail(
            &format!("Content-Type: text/plain; name=\"{}\"\r\n", "x".repeat(n)),
            "",
        )
    }),
    bomb("one parameter full of escapes", 500_000, None, |n| {
        mail(
            &format!(
                "Content-Type: text/plain; name=\"{}\"\r\n",
                "\\\"".repeat(n)
            ),
            "",
        )
    }),
    bomb("many Content-Type parameters", 150_000, None, |n| {
        mail(
            &format!("Content-Type: text/plain{}\r\n", "; a=b".repeat(n)),
            "",
        )
    }),
    bomb("numbered parameters", 50_000, None, |n| {
        let pieces: String = (0..n).map(|at| format!(";\r\n name*{at}*=%41")).collect();
        mail(&format!("Content-Disposition: attachment{pieces}\r\n"), "")
    }),
    bomb("addresses in From", 60_000, None, |n| {
        from(&"a@b.example, ".repeat(n))
    }),
    bomb("addresses in To", 100_000, Some("HeaderBytes"), |n| {
        mail(&format!("To: {}\r\n", "a@b.example, ".repeat(n)), "")
    }),
    bomb("groups in From", 300_000, None, |n| from(&"a:".repeat(n))),
    bomb("comments in From", 900_000, None, |n| from(&"(".repeat(n))),
    bomb("closed comments in From", 300_000, None, |n| {
        from(&format!("{}{} <a@b.example>", "(".repeat(n), ")".repeat(n)))
    }),
    bomb("angles in From", 900_000, None, |n| from(&"<".repeat(n))),
    bomb("quotes in From", 450_000, None, |n| from(&"\" ".repeat(n))),
    bomb("an address without end", 900_000, None, |n| {
        from(&format!("a@{}", "b.".repeat(n / 2)))
    }),
    bomb("encoded words", 50_000, None, |n| {
        subject(&"=?UTF-8?B?5pyq?= ".repeat(n))
    }),
    bomb("one encoded word", 900_000, None, |n| {
        subject(&format!("=?UTF-8?Q?{}?=", "=41".repeat(n / 3)))
    }),
    bomb("encoded words without end", 90_000, None, |n| {
        subject(&"=?UTF-8?B?".repeat(n))
    }),
    bomb("question marks", 450_000, None, |n| {
        subject(&"=?".repeat(n))
    }),
    bomb("character set changes", 100_000, None, |n| {
        subject(&"\u{1b}$B\u{1b}(B".repeat(n))
    }),
    bomb("marks on one letter", 300_000, None, |n| {
        subject(&format!("a{}", "\u{301}\u{323}".repeat(n / 2)))
    }),
    bomb("letters that fold to many", 100_000, None, |n| {
        subject(&"\u{fdfa}".repeat(n))
    }),
    bomb("Message-IDs in References", 60_000, None, |n| {
        let ids = "<a@b.example> ".repeat(n);
        mail(
            &format!("Message-ID: <x@b.example>\r\nReferences: {ids}\r\n"),
            "",
        )
    }),
    bomb("trace fields", 10_000, Some("HeaderFields"), |n| {
        mail(&"Received: from a by b; now\r\n".repeat(n), "")
    }),
    bomb("null octets", 900_000, None, |n| {
        mail(
            &format!("X-A: {0}\r\nSubject: {0}\r\n", "\0".repeat(n / 2)),
            "\0\0",
        )
    }),
    bomb("blank lines first", 300_000, None, |n| {
        [&b"\r\n".repeat(n), mail("", "").as_slice()].concat()
    }),
    bomb("white space first", 300_000, None, |n| {
        [&b" \r\n".repeat(n), mail("", "").as_slice()].concat()
    }),
];

fn mail(fields: &str, body: &str) -> Vec<u8> {
    let mut raw = String::with_capacity(fields.len() + body.len() + 128);
    raw.push_str("From: a@friend.example\r\nTo: taro@east.example.jp\r\nMIME-Version: 1.0\r\n");
    for piece in [fields, "\r\n", body, "\r\n"] {
        raw.push_str(piece);
    }
    raw.into_bytes()
}

fn multipart(boundary: &str, body: &str) -> Vec<u8> {
    mail(
        &format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n"),
        body,
    )
}

fn from(value: &str) -> Vec<u8> {
    format!("From: {value}\r\nTo: taro@east.example.jp\r\n\r\nx\r\n").into_bytes()
}

fn subject(value: &str) -> Vec<u8> {
    mail(&format!("Subject: {value}\r\n"), "x")
}
