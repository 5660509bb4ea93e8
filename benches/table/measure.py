"""One run of load against one server, and what a few of them in turns say."""

import json
import os
import statistics
import subprocess
import threading
import time

import corpus
import machine
from servers import Sink, folder

# More than this part of the machine at other work: the repetition is tried again.
FOREIGN = 0.10
TRIES = 3


class Site:
    """Where the servers of a row live, and what drives them."""

    def __init__(self, options, binary, tool):
        self.options, self.binary, self.tool = options, binary, tool
        self.folder = folder(os.path.abspath(options.work))
        self.mails = corpus.write(folder(f"{self.folder}/mails"))
        self.settings = corpus.settings()
        self.servers = []
        self.helpers = machine.Group()
        self.seed = int(time.time()) << 24
        self.sink = None

    def open(self):
        """The helpers of a row: what takes relayed mail."""
        self.sink = Sink(self).start()
        return self

    def close(self):
        for server in self.servers:
            server.stop()
        self.servers, self.sink = [], None

    def load(self, server, mail="4k", connections=16, seconds=None, mails=None, **more):
        """Drives a server and tells what the driver saw."""
        self.seed += 1 << 24
        options = {
            "port": server.port,
            "protocol": server.protocol,
            "mail": self.mails[mail],
            "connections": connections,
            "users": corpus.USERS,
            "seed": self.seed,
            **more,
        }
        if mails:
            options["mails"] = mails
        else:
            options["seconds"] = seconds or self.options.secs
        if getattr(server, "refused", False):
            options["told"] = 0
        command = [self.tool, "load"]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        told = self._told(command)
        told["mails"] = told["ok"]
        if getattr(server, "refused", False):
            told["mails"], told["temporary"] = told["temporary"], 0
        if not told["mails"]:
            raise RuntimeError(f"{server.name} took no mail: {told}")
        return told

    def fill(self, store, **options):
        """Fills a store that no daemon has open."""
        command = [self.tool, "fill", "--store", store]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        return self._told(command)

    def octets(self, path):
        """What a folder takes on the disk; what goes from it meanwhile is no error."""
        told = subprocess.run(["du", "-s", "-B1", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return int(told.stdout.split()[0])

    def _told(self, command):
        return json.loads(self._output(command))

    def _output(self, command):
        child = self.helpers.spawn(command, stdout=subprocess.PIPE, text=True)
        out, _ = child.communicate()
        if child.returncode:
            raise RuntimeError(f"{' '.join(command)} failed")
        return out

    def warm(self, server, mail="4k", **load):
        """Each mailbox has had a mail or two, and the server all its processes."""
        server.drain(self.load(server, mail, mails=2 * corpus.USERS, **load))

    def check(self, server, **load):
        """What the rules must hold is held and the rest is not, or the figures mean nothing."""
        if not server.filters:
            return
        before = server.held()
        for mail in server.hits:
            server.drain(self.load(server, mail, connections=1, mails=1, **load))
            before += 1
            if server.held() != before:
                raise RuntimeError(f"{server.name}: {mail} was not held")
        server.drain(self.load(server, "4k", connections=1, mails=1, **load))
        if server.held() != before:
            raise RuntimeError(f"{server.name}: a mail that no rule hits was held")

    def start(self, *servers, **load):
        """Starts, warms and checks servers that are then measured in turns."""
        for server in servers:
            server.start()
            self.warm(server, **load)
            self.check(server, **load)
        return servers

    def settle(self, server):
        """Until it has nothing to do any more."""
        ends = time.time() + 30
        while time.time() < ends:
            before = sum(server.group.cpu())
            time.sleep(0.5)
            if sum(server.group.cpu()) - before < 0.005:
                return

    def measure(self, server, **load):
        """One repetition: the driver's figures, processor time a mail, the rest of the machine."""
        for attempt in range(TRIES):
            os.sync()
            machine.wait_until_quiet(FOREIGN, self.options.patience)
            groups = [self.helpers] + [one.group for one in self.servers if one is not server]
            first, idle = server.group.cpu(), sum(sum(group.cpu()) for group in groups)
            began, busy = time.time(), machine.busy()
            told = self.load(server, **load)
            server.drain(told)
            wall = time.time() - began
            user, system = (now - then for now, then in zip(server.group.cpu(), first))
            helpers = sum(sum(group.cpu()) for group in groups) - idle
            foreign = (machine.busy() - busy - user - system - helpers) / wall / machine.CORES
            told |= {
                "user_us": user / told["mails"] * 1e6,
                "system_us": system / told["mails"] * 1e6,
                "cpu_us": (user + system) / told["mails"] * 1e6,
                "foreign": max(foreign, 0.0),
            }
            if server.queues:
                told["rate"] = told["mails"] / wall
            if told["temporary"] + told["permanent"] + told["broken"]:
                told["trouble"] = told["temporary"] + told["permanent"] + told["broken"]
            if foreign <= FOREIGN:
                break
        return told

    def turns(self, servers, **load):
        """Each server in each repetition, one after the other: a list of figures a server."""
        figures = {server: [] for server in servers}
        for repetition in range(self.options.reps):
            for server in servers:
                found = self.measure(server, **load)
                figures[server].append(found)
                print(
                    f"  {server.name:28} {found['cpu_us']:8.0f} µs {found['rate']:8.0f}/s "
                    f"p50 {found['p50_ms']:7.2f} p99 {found['p99_ms']:7.2f} ms  other load {found['foreign']:.0%}",
                    flush=True,
                )
        return figures


class Watch(threading.Thread):
    """The most memory that a group had while this ran, MiB."""

    def __init__(self, group):
        super().__init__(daemon=True)
        self.group, self.pss, self.rss, self.over = group, 0, 0, threading.Event()

    def run(self):
        while not self.over.is_set():
            pss, rss = self.group.memory()
            self.pss, self.rss = max(self.pss, pss), max(self.rss, rss)
            self.over.wait(0.05)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


def ratios(figures, over, under, key):
    """The quotient of two servers in each repetition."""
    return [above[key] / below[key] for above, below in zip(figures[over], figures[under])]


def median(figures, key):
    return statistics.median(figure[key] for figure in figures)
