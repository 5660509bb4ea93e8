"""The rows of the table: what is started, how it is driven, what is asked of it."""

import os
import threading
import time

import corpus
from measure import Watch, median, ratios
from report import Row
from servers import Bare, Dovecot, Postfix, Sekimori, Sink

# Mails of 2 MiB in one repetition, that the disk is not filled.
LARGE = 300
# From suffixes and Subject substrings of row 4.
RULES = (1000, 200), (1_000_000, 100_000)
# Seconds of a repetition of row 9: in two, the backlog of a first stall is most of what is measured.
TAIL = 10
# Settings as an owner writes them by hand.
ORDINARY = "version: 1\nreject:\n  from_suffixes: |\n{}  subject_contains: |\n{}".format(
    "".join(f"    {entry}\n" for entry in corpus.suffixes(10)),
    "".join(f"    {entry}\n" for entry in corpus.subjects(10)),
)


def peers(site, row, *wanted):
    """Those of the peers that are installed; the others are named as not measured."""
    found = []
    for kind, variant in wanted:
        lacking = kind.missing(variant)
        if lacking:
            row.note(f"{kind.__name__} ({variant}) was not measured: {lacking} is not there.")
        else:
            found.append(kind(site, variant))
    return found


def row_1(site):
    row = Row(1, "CPU a mail")
    ours, bare = Sekimori(site), Bare(site)
    kept = peers(site, row, (Dovecot, "sieve"), (Dovecot, "plain"), (Postfix, "maildir"))
    site.start(ours, bare, *kept)
    filtering = [server for server in kept if server.filters]
    for mail, size in corpus.SIZES.items():
        servers = [ours, bare, *(kept if mail == "4k" else filtering)]
        mails = {"mails": LARGE} if mail == "2m" else {}
        figures = site.turns(servers, mail=mail, **mails)
        for peer in kept:
            if peer in figures:
                asked = {"4k": 15}.get(mail, 8) if getattr(peer, "kind", "") == "sieve" else 1
                bound = f"at most 1/{asked}" if asked > 1 else "less"
                less = [1 / ratio for ratio in ratios(figures, peer, ours, "cpu_us")]
                row.check(f"W1 {size}: ours / {peer.name}", bound, less, "{:.3f}", most=1 / asked)
                if asked > 1:
                    least = [1 / ratio for ratio in ratios(figures, peer, bare, "cpu_us")]
                    row.check(f"W1 {size}: bare program / {peer.name}", "", least, "{:.3f}")
        asked = 1.6 if mail == "4k" else None
        bound = f"at most {asked}" if asked else ""
        row.check(f"W1 {size}: ours / bare program", bound, ratios(figures, ours, bare, "cpu_us"), most=asked)
        row.figures(f"W1, {size}, 16 connections", figures)
    ours = Sekimori(site, "lmtp")
    passing = peers(site, row, (Dovecot, "redirect"), (Dovecot, "proxy"), (Postfix, "relay"))
    site.start(ours, *passing)
    figures = site.turns([ours, *passing])
    for peer in passing:
        asked = {"redirect": 20, "proxy": 4}.get(getattr(peer, "kind", ""), 1)
        bound = f"at most 1/{asked}" if asked > 1 else "less"
        less = [1 / ratio for ratio in ratios(figures, peer, ours, "cpu_us")]
        row.check(f"W2 4 KiB: ours / {peer.name}", bound, less, "{:.3f}", most=1 / asked)
    row.figures("W2, 4 KiB, 16 connections", figures)
    row.note(
        "W1: LMTP in, one recipient of 100, each with 1,000 From suffixes, 200 Subject substrings and the header rules; "
        "kept in a Maildir with the durability that each server has by default. W2: the same, passed on to an LMTP or "
        "SMTP sink. Postfix takes mail by SMTP, queues it and matches the header as written; its rate is until its "
        "queue is empty. Not measured: Exim (its package takes Postfix's place), OpenSMTPD, amavisd, Haraka, aiosmtpd, "
        "and rspamd, which delivers nothing."
    )
    return row


def row_2(site):
    row = Row(2, "durable rate")
    forward = "forwarding: {mode: all, all: {to: [elsewhere@next.example], keep_copy: false}}\n"
    ours, bare = Sekimori(site), Bare(site)
    forwards = Sekimori(site, name="sekimori, forward only", mailbox=corpus.settings(forward), forwards=True)
    dovecot = peers(site, row, (Dovecot, "sieve"))
    site.start(ours, bare, forwards, *dovecot)
    kinds = [("kept", ours, "4k"), ("quarantined", ours, "hit-from"), ("forward only", forwards, "4k")]
    for connections in (1, 16, 64):
        servers = [bare, ours, *dovecot]
        for kind, server, mail in kinds:
            figures = site.turns(servers if kind == "kept" else [bare, server], mail=mail, connections=connections)
            where = f"{kind}, {connections} connection" + ("s" if connections > 1 else "")
            if connections == 1:
                latency = ratios(figures, server, bare, "p50_ms")
                row.check(f"{where}: p50, ours / bare program", "at most 1.3", latency, most=1.3)
            else:
                rate = ratios(figures, server, bare, "rate")
                row.check(f"{where}: rate, ours / bare program", "at least 0.7", rate, least=0.7)
                for peer in dovecot:
                    if peer in figures:
                        rate = ratios(figures, server, peer, "rate")
                        row.check(f"{where}: rate, ours / {peer.name}", "at least 10", rate, "{:.1f}", least=10)
                        rate = ratios(figures, bare, peer, "rate")
                        row.check(f"{where}: rate, bare program / {peer.name}", "", rate, "{:.1f}")
            row.figures(f"4 KiB, {where}", figures)
    row.note(
        "A forward-only mail counts when it is durable in our queue; the courier sends it to a sink at the same time, "
        "and what it still had to send is waited for before the next repetition."
    )
    return row


def row_3(site):
    row = Row(3, "relay rate")
    ours = Sekimori(site, "lmtp")
    site.start(ours)
    for connections in (16, 64):
        figures = site.turns([site.sink, ours], connections=connections)
        rate = ratios(figures, ours, site.sink, "rate")
        row.check(f"W2, {connections} connections: rate, ours / driver into the sink", "at least 0.4", rate, least=0.4)
        row.figures(f"W2, 4 KiB, {connections} connections", figures)
    return row


def row_8(site):
    row = Row(8, "memory")
    idle, busy, large, lines = [], [], [], []
    for _ in range(site.options.reps):
        ours = Sekimori(site).start()
        site.settle(ours)
        idle.append(ours.group.memory()[1])
        site.check(ours)
        with Watch(ours.group) as watch:
            site.load(ours, connections=64)
        busy.append(watch.rss)
        ours.stop()
        site.servers.remove(ours)
        ours = Sekimori(site).start()
        site.load(ours, mails=1, connections=1)
        before = ours.group.memory()[1]
        with Watch(ours.group) as watch:
            site.load(ours, "50m", mails=1, connections=1)
        large.append(max(watch.rss, ours.peak()) - before)
        ours.stop()
        site.servers.remove(ours)
    row.check("idle, resident, MiB", "at most 15", idle, "{:.1f}", most=15)
    row.check("64 connections × 4 KiB, resident, MiB", "at most 40", busy, "{:.1f}", most=40)
    row.check("a mail of 50 MiB, MiB more than before it", "at most 8", large, "{:.1f}", most=8)
    for peer in peers(site, row, (Dovecot, "sieve"), (Postfix, "maildir")):
        site.start(peer)
        quiet = peer.group.memory()[0]
        with Watch(peer.group) as watch:
            site.load(peer, connections=64)
        lines.append((peer.name, f"{quiet:.0f}", f"{watch.pss:.0f}"))
        peer.drain({})
        peer.stop()
        site.servers.remove(peer)
    row.table(("peer", "idle, PSS MiB", "64 connections, PSS MiB"), lines)
    row.note(
        "Resident: all resident pages of the process, those of the program file included. 100 mailboxes with the rules of "
        "row 1 each; the mail of 50 MiB is 49 MiB, which is below the built-in `message_size`."
    )
    return row


def row_4(site):
    row = Row(4, "flat in rules")
    settings = {
        f"{suffixes:,} suffixes, {substrings:,} substrings": corpus.long_settings(site.folder, suffixes, substrings)
        for suffixes, substrings in RULES
    }
    for how, method in (("W1", "maildir"), ("W2", "lmtp")):
        few, many = [Sekimori(site, method, name, mailbox, users=1) for name, mailbox in settings.items()]
        site.start(few, many, users=1)
        figures = site.turns([few, many], users=1)
        row.check(f"{how}: CPU a mail, many / few", "at most 1.1", ratios(figures, many, few, "cpu_us"), most=1.1)
        row.figures(f"{how}, 4 KiB, 16 connections, one mailbox", figures)
    row.note("The other figures of this row are above, in “Flat in rules”.")
    return row


def row_5(site):
    row = Row(5, "flat in mailboxes")
    many = site.options.many
    few_boxes = Sekimori(site, "lmtp", name="10 mailbox files", mailbox=ORDINARY, users=10)
    many_boxes = Sekimori(site, "lmtp", name=f"{many:,} mailbox files", mailbox=ORDINARY, users=many)
    starts, lines = {few_boxes: [], many_boxes: []}, []
    for repetition in range(site.options.reps):
        for server in starts:
            if repetition:
                server.halt()
            # The files of a million mailboxes have just been written.
            os.sync()
            server.start()
            # A mailbox that has no file is answered once all aliases are known.
            began = time.time()
            site.load(server, connections=1, mails=1, users=1, first=many)
            indexed = server.started_in + time.time() - began
            site.settle(server)
            cpu, memory = sum(server.group.cpu()), server.group.memory()[1]
            starts[server].append({"start": server.started_in, "index": indexed, "cpu": cpu, "memory": memory})
    for server, found in starts.items():
        of = lambda key: median(found, key)
        start = f"{1000 * of('start'):.0f}", f"{of('index'):.2f}"
        lines.append((server.name, *start, f"{found[0]['cpu']:.2f}", f"{of('memory'):.1f}"))
    figures = site.turns([few_boxes, many_boxes], users=10)
    for what, key in (("start until it listens", "start"), ("resident size", "memory")):
        row.check(f"{what}: many / few", "the same", ratios(starts, many_boxes, few_boxes, key), most=1.1)
    cpu = ratios(figures, many_boxes, few_boxes, "cpu_us")
    row.check("CPU a mail, 10 mailboxes: many / few", "the same", cpu, most=1.1)
    later = []
    for repetition in range(site.options.reps):
        part = {"connections": 1, "mails": 500, "users": 500, "first": 1000 + 500 * repetition}
        cold, warm = (site.measure(many_boxes, **part) for _ in range(2))
        later.append(cold["p50_ms"] - warm["p50_ms"])
        row.saw({None: [cold, warm]})
    row.check("a cold mailbox's first mail, ms more than a warm one's, p50", "under 1", later, "{:.3f}", most=1)
    head = ("", "start until it listens, ms", "until all aliases are known, s", "CPU of the first start, s", "resident MiB")
    row.table(head, lines)
    row.figures("4 KiB to an LMTP sink, 10 mailboxes, 16 connections", figures)
    row.note(f"The mailbox files have 20 entries each ({len(ORDINARY.encode())} octets).")
    return row


def row_6(site):
    row = Row(6, "flat in recipients")
    refusing = Sink(site, "a sink that refuses", refuse=True).start()
    refused = Sekimori(site, "lmtp", name="until delivery", users=200, next_hop=refusing).start()
    refused.refused = True
    whole = Sekimori(site, "lmtp", name="delivered and recorded", users=200).start()
    for server, asked in ((refused, 0.05), (whole, None)):
        site.load(server, mails=400, users=200)
        figures = {"200 single mails": [], "one mail, 200 recipients": []}
        for _ in range(site.options.reps):
            for kind, recipients in zip(figures, (1, 200)):
                found = site.measure(server, mails=100 * 200 // recipients, users=200, recipients=recipients)
                # Per 200 recipients in both cases.
                for key in ("cpu_us", "user_us", "system_us"):
                    found[key] *= 200 // recipients
                figures[kind].append(found)
        found = ratios(figures, "one mail, 200 recipients", "200 single mails", "cpu_us")
        row.check(f"{server.name}: one / 200", "at most 1/20" if asked else "", found, "{:.3f}", most=asked)
        row.figures(f"CPU for 200 recipients, {server.name}", figures)
    row.note(
        "Before delivery: the next hop refuses each mail at its first command, so the walk ends behind the decision and "
        "nothing is recorded. 4 KiB, 200 mailboxes with 1,200 entries each, 16 connections."
    )
    return row


def filled(site, **fill):
    """A server whose store held a mail of its own and then many like it; what filling it told."""
    server = Sekimori(site, name=f"{fill['count']:,} held mails").start()
    site.check(server)
    return server, refill(site, server, **fill)


def refill(site, server, **fill):
    server.halt()
    told = site.fill(f"{server.base}/state", mailboxes=max(100, fill["count"] // 100), **fill)
    server.start()
    return told


def row_7(site):
    row = Row(7, "flat in held mail")
    many = site.options.many
    empty = Sekimori(site, name="nothing held")
    site.start(empty)
    server, _ = filled(site, count=many)
    site.warm(server)
    figures = site.turns([empty, server])
    row.check("hand-off rate: filled / empty", "at least 0.9", ratios(figures, server, empty, "rate"), least=0.9)
    times = []
    for _ in range(max(5, site.options.reps)):
        began = time.time()
        listed = server.command("--json", "quarantine", "list", "--mailbox", f"user50@{corpus.DOMAIN}").count("\n")
        times.append(1000 * (time.time() - began))
    row.check(f"`quarantine list` of one mailbox ({listed} entries), ms", "under 50", times, "{:.0f}", most=50)
    row.figures("W1, 4 KiB, 16 connections", figures)
    server.stop()
    # At its start it finds them all expired.
    over = min(many, 100_000)
    expiring, _ = filled(site, count=over, expires=0)
    expiring.name = f"{over:,} mails expire"
    before = site.octets(f"{expiring.base}/state/mail")
    # What the daemon held itself, before it was filled.
    own = len(expiring.hits)
    gaps = {empty: [], expiring: []}
    for one in gaps:
        gaps[one].append(site.measure(one, seconds=3 * site.options.secs))
    ends = time.time() + 300
    while expiring.held() > own and time.time() < ends:
        time.sleep(0.5)
    expiring.halt()
    after = site.octets(f"{expiring.base}/state/mail")
    pause = [found["longest_gap_ms"] for found in gaps[expiring]]
    row.check(f"longest pause of the hand-off while {over:,} entries expire, ms", "at most 50", pause, "{:.0f}", most=50)
    row.check("disk of the mail files after it / before it", "given back", [after / before], "{:.3f}", most=0.05)
    row.figures("W1 while they expire", gaps)
    ours = Sekimori(site).start()
    site.check(ours)
    ours.halt()
    part = many // 10
    told = site.fill(f"{ours.base}/state", count=part, mailboxes=100, rounds=10)
    space = told["index_octets"] / told["live_octets"]
    row.check(f"index / its live data after ten rounds of {part:,}", "at most 2", [space], "{:.1f}", most=2)
    return row


def row_9(site):
    row = Row(9, "tail")
    many = site.options.many
    server, _ = filled(site, count=many)
    site.warm(server)
    bare = Bare(site)
    site.start(bare)
    load = {"connections": 64, "seconds": max(TAIL, site.options.secs)}
    most = {one: site.measure(one, connections=64) for one in (server, bare)}
    rate, of_bare = (0.7 * most[one]["rate"] for one in (server, bare))
    calm, disturbed, least = [], [], []
    server.name = "sekimori"
    for _ in range(site.options.reps):
        least.append(site.measure(bare, rate=of_bare, **load))
        calm.append(site.measure(server, rate=rate, **load))
        refill(site, server, count=many // 5, expires=0)
        over = threading.Event()
        reloads = threading.Thread(target=lambda: [server.reload() for _ in iter(lambda: over.wait(1), True)])
        reloads.start()
        disturbed.append(site.measure(server, rate=rate, **load))
        over.set()
        reloads.join()
    tails = lambda figures: [found["p99_ms"] / found["p50_ms"] for found in figures]
    row.check(f"p99 / p50 with reloads, a sweep and {many:,} records", "at most 3", tails(disturbed), "{:.1f}", most=3)
    row.check("p99 / p50 without reloads and sweep", "", tails(calm), "{:.1f}")
    row.check("p99 / p50, bare program at 70 % of its own largest rate", "", tails(least), "{:.1f}")
    row.figures(
        "W1, 4 KiB, 70 % of the largest rate, open loop",
        {"calm": calm, f"reload each second, {many // 5:,} expire": disturbed, "bare program": least},
    )
    row.figures("the largest rate, 64 connections", {one: [found] for one, found in most.items()})
    return row


ROWS = {1: row_1, 2: row_2, 3: row_3, 4: row_4, 5: row_5, 6: row_6, 7: row_7, 8: row_8, 9: row_9}
