"""The page `docs/performance.md`: each row has a section of its own there, which a run replaces."""

import os
import re
import statistics
import time

HEAD = """# Performance

What a mail costs, beside other servers on the same machine. Every figure is from a run of the command that
stands with it; figures of one row are from one run, servers in turns, and only their ratios mean something elsewhere.
"""

TABLE = """## The table

`benches/table/run` writes the rows below (`--rows 1,2,8` some of them), beside the peers that are installed. It needs a
Debian 12 with Rust and Python 3; as root it accounts by cgroup, else by `/proc`. Ratios are medians over the
repetitions of a run, with the smallest and the largest. Processor time is user and system time of a server's processes
a mail. "Other load" is the part of the machine that worked for neither server nor driver: a repetition with more than
10 % of it was tried again, twice at most, and is marked **!** where that did not help.
"""


class Row:
    """One row of the table: what is asked, what was found, the figures behind it."""

    def __init__(self, number, title):
        self.number, self.title = number, title
        self.checks, self.tables, self.notes, self.foreign = [], [], [], []

    def saw(self, figures):
        self.foreign += [figure["foreign"] for found in figures.values() for figure in found]

    def check(self, what, bound, values, fmt="{:.2f}", most=None, least=None):
        """A bound and what was measured, a value a repetition."""
        found = statistics.median(values)
        held = (most is None or found <= most) and (least is None or found >= least)
        spread = f"{fmt.format(min(values))} – {fmt.format(max(values))}" if len(values) > 1 else "one run"
        verdict = "holds" if held else "**missed**"
        self.checks.append((what, bound or "–", fmt.format(found), spread, verdict if bound else ""))

    def figures(self, title, figures):
        """A line a server: medians over its repetitions."""
        lines = []
        for server, found in figures.items():
            foreign = max(figure["foreign"] for figure in found)
            of = lambda key: statistics.median(figure[key] for figure in found)
            trouble = sum(figure.get("trouble", 0) for figure in found)
            lines.append(
                (
                    getattr(server, "name", server) + (f" ({trouble} mails not taken)" if trouble else ""),
                    f"{of('cpu_us'):,.0f}",
                    f"{of('user_us'):,.0f} + {of('system_us'):,.0f}",
                    f"{of('rate'):,.0f}",
                    f"{of('p50_ms'):.2f}",
                    f"{of('p99_ms'):.2f}",
                    f"{foreign:.0%}" + (" **!**" if foreign > 0.10 else ""),
                )
            )
        head = (title, "CPU µs", "user + system", "mails/s", "p50 ms", "p99 ms", "other load, at most")
        self.tables.append((head, lines))
        self.saw(figures)

    def table(self, head, lines):
        self.tables.append((head, lines))

    def note(self, text):
        self.notes.append(text)

    def text(self, command, machine):
        parts = [f"### Row {self.number}: {self.title}"]
        parts.append(_table(("asked", "bound", "measured", "spread", ""), self.checks))
        parts += [_table(head, lines) for head, lines in self.tables]
        parts += self.notes
        noisy = sum(foreign > 0.10 for foreign in self.foreign)
        noise = ""
        if self.foreign:
            noise = (
                f" Other load of the repetitions: median {statistics.median(self.foreign):.0%}, "
                f"{noisy} of {len(self.foreign)} over 10 %."
            )
        parts.append(f"`{command}`, {time.strftime('%Y-%m-%d %H:%M')}. {machine}.{noise}")
        return "\n\n".join(parts)


def _table(head, lines):
    if not lines:
        return ""
    # Figures to the right, words to the left.
    rule = ["---"] + ["---:" if index else "---" for index in range(1, len(head))]
    rows = [head, rule, *lines]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)


def put(path, mark, text, before=None):
    """Replaces the part of the page between its marks, or adds it."""
    page = HEAD
    if os.path.exists(path):
        with open(path) as file:
            page = file.read()
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    part = f"{begin}\n{text.strip()}\n{end}"
    if begin in page:
        page = re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: part, page, flags=re.S)
    elif before and before in page:
        page = page.replace(before, f"{part}\n\n{before}", 1)
    else:
        page = f"{page.rstrip()}\n\n{part}\n"
    with open(path, "w") as file:
        file.write(page)


def publish(path, row, command, machine):
    """Puts a row into the page, in the order of the numbers."""
    put(path, "table", TABLE)
    later = ""
    with open(path) as file:
        marks = re.findall(r"<!-- table row (\d+): begin -->", file.read())
    numbers = sorted(int(number) for number in marks if int(number) > row.number)
    if numbers:
        later = f"<!-- table row {numbers[0]}: begin -->"
    put(path, f"table row {row.number}", row.text(command, machine), before=later)
