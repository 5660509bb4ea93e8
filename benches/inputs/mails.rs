//! Mails with the header of a mail that came over three hops.

/// A Subject in Japanese as it is decoded.
pub const SUBJECT: &str =
    "【重要】お支払い方法の更新について キャンペーンのお知らせ Re: Your Invoice ２０２６-07";

/// One with what few have: half-width kana, a circled number, a letter with an accent.
pub const ODD_SUBJECT: &str =
    "【重要】お支払い方法の更新 ｷｬﾝﾍﾟｰﾝのお知らせ① Café Invoice ２０２６-07";

/// The same words as they travel, in both encodings.
pub const ENCODED: &str = "=?ISO-2022-JP?B?GyRCIVo9RU1XIVskKjtZSickJEp9SyEkTjk5PzckSyREJCQkRhsoQg==?=\r\n \
    =?UTF-8?B?IOOCreODo+ODs+ODmuODvOODs+OBruOBiuefpeOCieOBmw==?=\r\n \
    =?UTF-8?Q?_Re:_Your_Invoice_=EF=BC=92=EF=BC=90=EF=BC=92=EF=BC=96-07?= ref 4711";

const TRACE: &str = "Return-Path: <s-4711@mail.sender.example>\r\n\
    Received: from relay0.sender.example (relay0.sender.example [192.0.2.10])\r\n\
    \tby mx0.isp.example (Postfix) with ESMTPS id C2C1732D7D8\r\n\
    \tfor <taro@east.example.jp>; Wed, 22 Jul 2026 10:00:11 +0900 (JST)\r\n\
    Received: from relay1.sender.example (relay1.sender.example [192.0.2.11])\r\n\
    \tby relay0.sender.example (Postfix) with ESMTPS id 49BB5184BCE\r\n\
    \tfor <taro@east.example.jp>; Wed, 22 Jul 2026 10:00:10 +0900 (JST)\r\n\
    Received: from [192.0.2.77] (unknown [192.0.2.77])\r\n\
    \tby relay1.sender.example (Postfix) with ESMTPSA id CEED63A7A7B\r\n\
    \tfor <taro@east.example.jp>; Wed, 22 Jul 2026 10:00:09 +0900 (JST)\r\n\
    DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=sender.example;\r\n\
    \ts=sel2026; t=1784682000; h=from:to:subject:date:message-id:mime-version;\r\n\
    \tbh=I5ukR7PFkggGFUmvszGc+yxXR/dgwcKeJntFQzxu50E=;\r\n\
    \tb=+Qsu37jpD9/3kR5RJ3ORZ55Y5WL/JYdGYYRqPOKzTXm1X8raCfjHDhM49QUtcGbk\r\n\
    \t LfFpsMPeZXbiwRqjJ7HIpKtFo1KQhmxGs0jdrXKXDmA1WO74M079yvtAHoaVrOI+\r\n\
    \t mnUiW9+Hi1gauCXRGUn8SCbu/WioTHz7+RGM7uLrzivlFcrRi76yaoIaxvkQ+j2Y\r\n\
    Authentication-Results: mx0.isp.example; dkim=pass header.d=sender.example;\r\n\
    \tspf=pass smtp.mailfrom=mail.sender.example; dmarc=pass header.from=sender.example\r\n\
    X-Spam-Flag: NO\r\nX-Spam-Score: 0.4\r\nX-Virus-Scanned: clean\r\n\
    Date: Wed, 22 Jul 2026 10:00:09 +0900\r\n\
    Message-ID: <20260722.4711@mail.sender.example>\r\n\
    From: =?UTF-8?B?5bGx55SwIOWkqumDju+8iOWWtualremDqO+8iQ==?= <s-4711@mail.sender.example>\r\n\
    To: =?UTF-8?B?5L2Q6JekIOiKseWtkA==?= <taro@east.example.jp>\r\n\
    MIME-Version: 1.0\r\n";
const PLAIN: &str = "Content-Type: text/plain; charset=UTF-8\r\n\
    Content-Transfer-Encoding: 8bit\r\n\r\n";
const TEXT: &str = "いつもお世話になっております。資料を添付いたしますので、ご確認ください。\r\n\
    The quick brown fox jumps over the lazy dog, and again over the dog.\r\n\
    .a line that begins with a dot\r\n";
const BASE64: &str =
    "44GE44Gk44KC44GK5LiW6Kmx44Gr44Gq44Gj44Gm44GK44KK44G+44GZ44CC6LOH5paZ44KS5re7\r\n";

/// A text of `octets` octets at least.
pub fn plain(octets: usize) -> Vec<u8> {
    let mut mail = format!("{TRACE}Subject: {ENCODED}\r\n{PLAIN}");
    while mail.len() < octets {
        mail.push_str(TEXT);
    }
    mail.into_bytes()
}

/// A text in two forms, a document, and a mail with a document of its own: six leaves, half a
/// mebioctet.
pub fn with_attachments() -> Vec<u8> {
    let inner = format!(
        "Content-Type: message/rfc822\r\n\r\nFrom: a@b.example\r\nSubject: {ENCODED}\r\n\
        Content-Type: multipart/mixed; boundary=inner\r\n\r\n--inner\r\n\r\n{}\r\n--inner\r\n{}\r\n--inner--",
        TEXT.repeat(20),
        document("report.pdf", 1_000),
    );
    let parts = [
        format!(
            "Content-Type: multipart/alternative; boundary=\"=_alt\"\r\n\r\n--=_alt\r\n{PLAIN}{}\r\n--=_alt\r\n\
            Content-Type: text/html\r\n\r\n<html><p>{}</p></html>\r\n--=_alt--",
            TEXT.repeat(20),
            TEXT.repeat(60),
        ),
        document("minutes.pdf", 4_500),
        document("議事録.xlsx", 500),
        inner,
    ];
    let mut mail = format!(
        "{TRACE}Subject: {ENCODED}\r\nContent-Type: multipart/mixed; boundary=\"=_mix_77a\"\r\n\r\n"
    );
    for part in parts {
        mail.push_str("--=_mix_77a\r\n");
        mail.push_str(&part);
        mail.push_str("\r\n");
    }
    mail.push_str("--=_mix_77a--\r\n");
    mail.into_bytes()
}

fn document(name: &str, lines: usize) -> String {
    format!(
        "Content-Type: application/octet-stream; name=\"{name}\"\r\nContent-Transfer-Encoding: base64\r\n\
        Content-Disposition: attachment; filename=\"{name}\"\r\n\r\n{}",
        BASE64.repeat(lines)
    )
}
