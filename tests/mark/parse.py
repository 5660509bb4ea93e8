#!/usr/bin/python3
"""The second parser: reads marked mails with Python's email package.

A JSON object a line on stdin: `name`, `mark`, and the files `old` and `new`. A JSON object for each
on stdout: `name`, `mark`, `findings` (empty = all well), and `subject`: how the old one stands there.
A finding is `[kind, what was expected, what is there]`. Nothing here knows how the mark is put.
"""

import email.errors
import email.header
import email.parser
import email.policy
import json
import re
import sys

LINE_END = re.compile(rb"\r\n|\n|\r")
BLANK = b" \t\r\n"


def lines(raw, start):
    """Where each line lies: its first octet, the end of its text, the first octet of the next."""
    while start < len(raw):
        end = LINE_END.search(raw, start)
        if not end:
            yield start, len(raw), len(raw)
            return
        yield start, end.start(), end.end()
        start = end.end()


def subjects(raw):
    """Every Subject of the header: where the field begins, its value begins and it ends."""
    start = 3 if raw.startswith(b"\xef\xbb\xbf") else 0
    found, inside, begun = [], False, False
    for first, end, following in lines(raw, start):
        line = raw[first:end]
        if not line.strip(BLANK) and not begun:
            continue  # before the first field
        if not line:
            break
        begun = begun or not line.startswith((b"From ", b">From "))
        if line[:1] in (b" ", b"\t"):
            if inside:
                found[-1][2] = following
            continue
        inside = re.match(rb"(?i)subject[ \t]*:", line)
        if inside:
            found.append([first, first + inside.end(), following])
    return found


def octets(old, new, findings):
    """All octets but those of the mark are the same; how the old Subject stood there."""
    before, after = subjects(old), subjects(new)
    if not before:
        if len(after) != 1:
            findings.append(["not one Subject", 1, len(after)])
            return "missing"
        first, _, end = after[0]
        rest = new[:first] + new[end:]
        # A header whose last line had no end has got one.
        if old not in (rest, rest[: -len(b"\r\n")]) and rest != new[:first].rstrip(BLANK) + new[end:]:
            findings.append(["other octets", len(old), len(rest)])
        return "missing"
    if len(after) != len(before):
        findings.append(["number of Subjects", len(before), len(after)])
        return "present"
    (first, value, end), (new_first, new_value, new_end) = before[0], after[0]
    text = old[value:end].lstrip(BLANK)
    if new[:new_value] != old[:value] or new[new_end:] != old[end:] or new_first != first:
        findings.append(["other octets", "the same", "others"])
    if text and not new[new_value:new_end].endswith(text):
        findings.append(["raw Subject", ascii(text), ascii(new[new_value:new_end])])
    return "present" if text.strip(BLANK) else "empty"


def line_lengths(old, new, findings):
    """No line that is ours is longer than RFC 5322 2.1.1 lets it be."""
    longest = max((end - first for first, end, _ in lines(old, 0)), default=0)
    for first, end, _ in lines(new, 0):
        if end - first > max(998, longest):
            findings.append(["line length", 998, end - first])


def decoded(raw, policy):
    """All Subjects as this policy reads them, the mail's first header."""
    parser = email.parser.BytesParser(policy=policy)
    values = parser.parsebytes(raw, headersonly=True).get_all("Subject") or []
    if policy is email.policy.compat32:
        values = [legacy(value) for value in values]
    return [str(value) for value in values]


def legacy(value):
    """`decode_header`, as programs before the policies do it; folding taken out first."""
    text = re.sub(r"\r\n|\r|\n", "", str(value))
    return str(email.header.make_header(email.header.decode_header(text)))


def readings(old, new, mark, state, findings):
    """The decoded Subject is the mark and the old Subject."""
    policies = {"default": email.policy.default}
    if all(old[value:end].isascii() for _, value, end in subjects(old)):
        # `decode_header` has no form for raw 8-bit text.
        policies["compat32"] = email.policy.compat32
    for name, policy in policies.items():
        try:
            before = decoded(old, policy)
        except (LookupError, ValueError, email.errors.MessageError) as error:
            findings.append(["undecodable", name, type(error).__name__])
            continue
        after = decoded(new, policy)
        text = before[0].strip() if before else ""
        expected = f"{mark} {text}" if text else mark
        if not after or (state == "present" and not before):
            findings.append(["header-ends", name, ""])
        elif after[0].rstrip() == expected:
            if after[1:] != before[1:]:
                findings.append([f"{name} reads further Subjects", before[1:], after[1:]])
        elif "=?" in text:
            findings.append(["undecoded", expected, after[0]])
        elif after[0].split() == expected.split():
            findings.append(["spaced", expected, after[0]])
        else:
            findings.append([f"{name} reads", expected, after[0]])


def main():
    for line in sys.stdin:
        case = json.loads(line)
        with open(case["old"], "rb") as file:
            old = file.read()
        with open(case["new"], "rb") as file:
            new = file.read()
        findings = []
        state = octets(old, new, findings)
        line_lengths(old, new, findings)
        readings(old, new, case["mark"], state, findings)
        print(json.dumps({"name": case["name"], "mark": case["mark"], "subject": state, "findings": findings}))


main()
