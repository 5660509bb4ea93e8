//! The mails that are sent, and the comparison with what is read back.

/// Mails that must arrive byte for byte: name and bytes, CRLF line ends, all to taro@east.example.jp.
pub(crate) fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let mut japanese = mail(&[
        "From: =?ISO-2022-JP?B?GyRCOzNFRBsoQg==?= <yamada@partner.example>",
        "To: taro@east.example.jp",
        "Subject: =?ISO-2022-JP?B?GyRCQGE1YT1xJE43bxsoQg==?=",
        "Date: Mon, 2 Nov 2026 10:00:00 +0900",
        "Message-ID: <jis@partner.example>",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=ISO-2022-JP",
        "Content-Transfer-Encoding: 7bit",
        "",
    ]);
    japanese.extend_from_slice(b"\x1b$B$*@$OC$K$J$C$F$*$j$^$9!#\x1b(B\r\n.\r\n..\r\n");
    let mut shift_jis = mail(&[
        "From: hanako@partner.example",
        "To: taro@east.example.jp",
        "Date: Mon, 2 Nov 2026 10:00:00 +0900",
        "Message-ID: <sjis@partner.example>",
    ]);
    shift_jis.extend_from_slice(
        b"Subject: \x90\xbf\x8b\x81\x8f\x91\r\n\r\n\x83\x65\x83\x58\x83\x67\r\n",
    );
    vec![
        (
            "english",
            english("taro@east.example.jp", "Quarterly report"),
        ),
        ("ISO-2022-JP", japanese),
        ("raw Shift_JIS", shift_jis),
        (
            "8-bit UTF-8",
            mail(&[
                "From: 佐藤 <sato@partner.example>",
                "To: taro@east.example.jp",
                "Subject: 打ち合わせ、明日の十時",
                "Date: Mon, 2 Nov 2026 10:00:00 +0900",
                "Message-ID: <utf8@partner.example>",
                "MIME-Version: 1.0",
                "Content-Type: text/plain; charset=UTF-8",
                "Content-Transfer-Encoding: 8bit",
                "",
                "よろしくお願いします。\u{200b} ｱﾀﾞﾙﾄ ①㈱",
            ]),
        ),
        (
            "attachment",
            mail(&[
                "From: alice@partner.example",
                "To: taro@east.example.jp",
                "Subject: with an attachment",
                "Date: Mon, 2 Nov 2026 10:00:00 +0900",
                "Message-ID: <att@partner.example>",
                "MIME-Version: 1.0",
                "Content-Type: multipart/mixed; boundary=\"=_b\"",
                "",
                "preamble  ",
                "--=_b",
                "Content-Type: text/plain",
                "",
                "See the file.\t",
                "--=_b",
                "Content-Type: application/octet-stream; name*=UTF-8''%E8%AB%8B%E6%B1%82%E6%9B%B8.bin",
                "Content-Disposition: attachment",
                "Content-Transfer-Encoding: base64",
                "",
                "AAECAwQFBgcICQoLDA0ODw==",
                "--=_b--",
                "",
                "",
            ]),
        ),
    ]
}

/// A plain English mail with lines that a careless transport changes.
pub(crate) fn english(to: &str, subject: &str) -> Vec<u8> {
    mail(&[
        "From: Alice <alice@partner.example>",
        &format!("To: {to}"),
        &format!("Subject: {subject}"),
        "Date: Mon, 2 Nov 2026 10:00:00 +0900",
        "Message-ID: <first@partner.example>",
        "X-Folded: one",
        "\ttwo",
        "",
        ".",
        "..two dots, then trailing blanks  \t ",
        "From the beginning of a line",
        &"x".repeat(900),
        "",
        "the end",
    ])
}

/// Panics unless `arrived` is `sent` with nothing but a delivery's own header fields put before it.
pub(crate) fn assert_whole(arrived: &[u8], sent: &[u8]) {
    let before = arrived.strip_suffix(sent).unwrap_or_else(|| {
        panic!(
            "changed on the way:\n{}\n--- sent:\n{}",
            String::from_utf8_lossy(arrived),
            String::from_utf8_lossy(sent)
        )
    });
    for line in String::from_utf8_lossy(before).lines() {
        let known = ["Return-Path:", "Delivered-To:", "Received:", " ", "\t"];
        assert!(
            known.iter().any(|start| line.starts_with(start)),
            "put before the mail: {line}"
        );
    }
}

fn mail(lines: &[&str]) -> Vec<u8> {
    lines
        .iter()
        .flat_map(|line| [line.as_bytes(), b"\r\n"].concat())
        .collect()
}
