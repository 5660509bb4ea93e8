"""Rules and mails, the same at each run: mails that no rule hits, and one for each kind of rule."""

import base64
import quopri
import random

USERS = 100
DOMAIN = "test.example"
TOKEN = "X" * 16
SIZES = {"4k": "4 KiB", "50k": "50 KiB", "2m": "2 MiB"}
HELD = ("hit-from", "hit-subject", "hit-no-from", "hit-no-subject")
HEADERS = ("from_missing", "from_empty", "from_empty_address", "subject_missing", "subject_empty")

_KANJI = "特別限定無料当選現金副業出会投資未承諾広告緊急確認口座凍結更新支払督促懸賞還元"
_WORDS = (
    "いつもお世話になっております 資料を添付いたします ご確認のほど よろしくお願い申し上げます "
    "次回の会議は来週の水曜日 午後三時から 第二会議室にて 行う予定です ご都合はいかがでしょうか"
).split()
_ENDS = ["com", "net", "biz", "info", "xyz", "top", "shop", "jp", "co.jp", "ne.jp", "cn", "ru"]


def _label(dice):
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    return "".join(dice.choice(letters) for _ in range(dice.randint(4, 14)))


def suffixes(count):
    """Ends of addresses: domains, whole addresses, parents of domains, bare ends."""
    dice = random.Random(1)
    found = {}
    while len(found) < count:
        domain = f"{_label(dice)}.{dice.choice(_ENDS)}"
        shape = dice.random()
        if shape < 0.6:
            found["@" + domain] = None
        elif shape < 0.8:
            found[f"{_label(dice)}@{domain}"] = None
        elif shape < 0.9:
            found["." + domain] = None
        else:
            found[_label(dice) + domain] = None
    return list(found)


def subjects(count):
    """Parts of Subjects, half of them Japanese. None is of hexadecimal digits, as the mails' own numbers are."""
    dice = random.Random(2)
    found = {}
    while len(found) < count:
        shape = dice.random()
        if shape < 0.5:
            found["".join(dice.choice(_KANJI) for _ in range(dice.randint(3, 8)))] = None
        elif shape < 0.8:
            found["z" + " ".join(_label(dice) for _ in range(dice.randint(1, 3)))] = None
        else:
            found[f"【{dice.choice(_KANJI)}{dice.choice(_KANJI)}】{_label(dice)}"] = None
    return list(found)


def _word(text):
    return f"=?UTF-8?B?{base64.b64encode(text.encode()).decode()}?="


def _text(dice, octets):
    lines, size = [], 0
    while size < octets:
        lines.append("".join(dice.choice(_WORDS) for _ in range(3)) + "。\n")
        size += len(lines[-1].encode())
    return "".join(lines)


def _base64(octets):
    text = base64.b64encode(octets).decode()
    return "".join(text[at : at + 76] + "\n" for at in range(0, len(text), 76))


def _header(dice, sender, subject):
    random_text = lambda octets: base64.b64encode(dice.randbytes(octets)).decode()
    lines = []
    for hop in range(3):
        lines.append(
            f"Received: from relay{hop}.sender.example (relay{hop}.sender.example [192.0.2.{hop + 10}])\n"
            f"\tby mx{hop}.isp.example (Postfix) with ESMTPS id {dice.randbytes(5).hex().upper()}\n"
            f"\tfor <user@{DOMAIN}>; Sun, 22 Nov 2026 10:0{hop}:11 +0900 (JST)"
        )
    lines += [
        "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=sender.example; s=s1;\n"
        f"\tt=1795309200; h=from:to:subject:date:message-id; bh={random_text(32)};\n\tb="
        + "\n\t ".join(random_text(48) for _ in range(5)),
        "Authentication-Results: mx0.isp.example; dkim=pass header.d=sender.example;\n"
        "\tspf=pass smtp.mailfrom=mail.sender.example",
        "X-Spam-Flag: NO",
        "Date: Sun, 22 Nov 2026 10:00:11 +0900",
        f"Message-ID: <{TOKEN}@mail.sender.example>",
        sender and f"From: {sender}",
        f"To: {_word('佐藤 花子')} <user@{DOMAIN}>",
        subject and f"Subject: {subject}",
        "MIME-Version: 1.0",
    ]
    return "".join(f"{line}\n" for line in lines if line)


def _mail(size, sender=f"{_word('山田 太郎')} <s-{TOKEN}@mail.sender.example>", subject=None):
    """About as many octets as its name says, with LF line ends."""
    dice = random.Random(3)
    if subject is None:
        subject = f"{_word('第四回 定例会議の議事録および')}\n {_word('次回日程のご連絡')} ref {TOKEN}"
    head = _header(dice, sender, subject)
    if size == "4k":
        head += "Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: base64\n\n"
        left = (4096 - len(head) - head.count("\n")) * 57 // 78
        return head + _base64(_text(dice, left).encode()[: left // 3 * 3])
    if size == "50k":
        head += 'Content-Type: multipart/alternative; boundary="=_alt"\n\n'
        plain = _text(dice, 6000).encode("iso-2022-jp").decode("ascii")
        rows = "".join(
            f'<p style="margin:0">{_text(dice, 60).strip()} <a href="https://www.sender.example/{at}">詳細</a></p>\n'
            for at in range(100)
        )
        html = quopri.encodestring(f"<html><body>{rows}</body></html>".encode()).decode()
        return (
            f"{head}--=_alt\nContent-Type: text/plain; charset=ISO-2022-JP\n\n{plain}\n--=_alt\n"
            "Content-Type: text/html; charset=UTF-8\nContent-Transfer-Encoding: quoted-printable\n\n"
            f"{html}\n--=_alt--\n"
        )
    octets = {"2m": 2, "50m": 49}[size] * 2**20
    head += (
        'Content-Type: multipart/mixed; boundary="=_mix"\n\n--=_mix\nContent-Type: text/plain; charset=UTF-8\n'
        f"Content-Transfer-Encoding: base64\n\n{_base64(_text(dice, 2000).encode())}--=_mix\n"
        'Content-Type: application/pdf; name="minutes.pdf"\nContent-Transfer-Encoding: base64\n'
        'Content-Disposition: attachment; filename="minutes.pdf"\n\n'
    )
    return head + _base64(dice.randbytes((octets - len(head) - 200) * 57 // 78)) + "--=_mix--\n"


def write(folder):
    """Name to path, for each mail; the large one only when it is asked for by name."""
    whole = next(entry for entry in suffixes(1000)[500:] if entry.startswith("@"))
    subject = next(entry for entry in subjects(200)[100:] if not entry.isascii())
    mails = {size: _mail(size) for size in (*SIZES, "50m")}
    mails |= {
        "hit-from": _mail("4k", sender=f"Bad <abc.def{whole}>"),
        "hit-subject": _mail("4k", subject=_word(f"前置き{subject}後置き")),
        "hit-no-from": _mail("4k", sender=""),
        "hit-no-subject": _mail("4k", subject=""),
    }
    paths = {}
    for name, text in mails.items():
        paths[name] = f"{folder}/{name}.eml"
        with open(paths[name], "w", newline="\n") as file:
            file.write(text)
    return paths


def _quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def sieve(redirect=False):
    """The rules as a script: what they hit goes into another folder."""
    glob = lambda text: "".join("\\" + c if c in "*?\\" else c for c in text)
    senders = ",".join(_quoted("*" + glob(entry)) for entry in suffixes(1000))
    parts = ",".join(_quoted(entry) for entry in subjects(200))
    held = '{ fileinto :create "Held"; stop; }'
    return "\n".join(
        [
            'require ["fileinto", "mailbox"];',
            f'if address :all :matches "from" [{senders}] {held}',
            f'if header :contains "subject" [{parts}] {held}',
            'if anyof(not exists "from", header :is "from" ["", "<>"], not exists "subject", '
            f'header :is "subject" "") {held}',
            'redirect "relay@next.example";' if redirect else "keep;",
            "",
        ]
    )


def header_checks():
    """The rules as a Postfix table of regular expressions, on the header as it is written."""
    import re

    escaped = lambda text: re.escape(text).replace("/", "\\/")
    return "\n".join(
        ["if /^From:/"]
        + [f"/{escaped(entry)}>?\\s*$/i HOLD" for entry in suffixes(1000)]
        + ["endif", "if /^Subject:/"]
        + [f"/{escaped(entry)}/i HOLD" for entry in subjects(200)]
        + ["/^Subject:\\s*$/ HOLD", "endif", ""]
    )


def long_settings(folder, from_suffixes, subject_contains):
    """The rules as a mailbox file with this many entries, in files of their own."""
    reject = f"headers: [{', '.join(HEADERS)}]"
    for key, entries in (("from_suffixes", suffixes(from_suffixes)), ("subject_contains", subjects(subject_contains))):
        path = f"{folder}/{key}-{len(entries)}.txt"
        with open(path, "w") as file:
            file.write("".join(f"{entry}\n" for entry in entries))
        reject += f", {key}_file: {path}"
    return f"version: 1\nreject: {{{reject}}}\n"


def settings(extra=""):
    """The rules as a mailbox file."""
    block = lambda entries: "".join(f"    {entry}\n" for entry in entries)
    return (
        f"version: 1\nreject:\n  from_suffixes: |\n{block(suffixes(1000))}"
        f"  subject_contains: |\n{block(subjects(200))}  headers: [{', '.join(HEADERS)}]\n{extra}"
    )
