"""What the operating system counts: processor time and memory of a group of processes, and how busy
the rest of the machine was."""

import errno
import os
import platform
import signal
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count()


def _mounts(kind):
    with open("/proc/self/mounts") as mounts:
        for line in mounts:
            _, where, filesystem, options = line.split()[:4]
            yield where, filesystem, options.split(",")


def _group_root():
    """Where groups can be made: cgroup v2, else v1's cpuacct, else nowhere."""
    for where, filesystem, _ in _mounts("cgroup2"):
        if filesystem == "cgroup2" and os.access(where, os.W_OK):
            return where, "v2"
    for where, filesystem, options in _mounts("cgroup"):
        if filesystem == "cgroup" and "cpuacct" in options and os.access(where, os.W_OK):
            return where, "v1"
    return None, "/proc"


class Group:
    """Processes that are accounted together, those that they start included."""

    root, accounting = _group_root()
    count = 0

    def __init__(self):
        self.children = []
        self.path = None
        Group.count += 1
        self.number = Group.count
        if self.root:
            self.path = f"{self.root}/table-{os.getpid()}-{self.number}"
            os.mkdir(self.path)

    def join(self):
        if self.path:
            with open(f"{self.path}/cgroup.procs", "w") as procs:
                procs.write(str(os.getpid()))

    def spawn(self, command, **options):
        child = subprocess.Popen(command, preexec_fn=self.join, **options)
        self.children.append(child)
        return child

    def run(self, command, **options):
        return subprocess.run(command, preexec_fn=self.join, check=True, **options)

    def pids(self):
        if self.path:
            with open(f"{self.path}/cgroup.procs") as procs:
                return [int(pid) for pid in procs.read().split()]
        return _descendants([child.pid for child in self.children])

    def cpu(self):
        """(user, system) seconds so far."""
        if self.path and self.accounting == "v2":
            stat = _words(f"{self.path}/cpu.stat")
            return stat["user_usec"] / 1e6, stat["system_usec"] / 1e6
        if self.path:
            stat = _words(f"{self.path}/cpuacct.stat")
            with open(f"{self.path}/cpuacct.usage") as usage:
                total = int(usage.read()) / 1e9
            user, system = stat["user"] / TICK, stat["system"] / TICK
            # The sum is exact, the parts are ticks.
            part = user / (user + system) if user + system else 0.5
            return total * part, total * (1 - part)
        times = [_times(pid) for pid in self.pids()]
        return sum(user for user, _ in times), sum(system for _, system in times)

    def memory(self):
        """(PSS, RSS) of all its processes, MiB."""
        pss = rss = 0
        for pid in self.pids():
            try:
                words = _words(f"/proc/{pid}/smaps_rollup")
            except (OSError, ValueError):
                continue
            pss += words.get("Pss:", 0)
            rss += words.get("Rss:", 0)
        return pss / 1024, rss / 1024

    def end(self):
        """Ends what is left of it, by number."""
        for sign, patience in ((signal.SIGTERM, 8), (signal.SIGKILL, 5)):
            for pid in self.pids():
                try:
                    os.kill(pid, sign)
                except ProcessLookupError:
                    pass
            ends = time.time() + patience
            while self._alive() and time.time() < ends:
                time.sleep(0.05)
        while self.path:
            try:
                os.rmdir(self.path)
                break
            except OSError as error:
                # The dead are in it until somebody has asked for them.
                if time.time() > ends or error.errno == errno.ENOENT:
                    break
                time.sleep(0.05)
        self.path, self.children = None, []

    def _alive(self):
        for child in self.children:
            child.poll()
        return self.pids()


def _words(path):
    words = {}
    with open(path) as file:
        for line in file:
            parts = line.split()
            if len(parts) >= 2 and parts[1].isdigit():
                words[parts[0]] = int(parts[1])
    return words


def _times(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
    except OSError:
        return 0, 0
    # Those of children that have ended too.
    user, system, ended_user, ended_system = (int(fields[at]) / TICK for at in (11, 12, 13, 14))
    return user + ended_user, system + ended_system


def _descendants(pids):
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as stat:
                    parents.setdefault(int(stat.read().rsplit(")", 1)[1].split()[1]), []).append(int(name))
            except OSError:
                pass
    found, open_ = [], [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
    while open_:
        pid = open_.pop()
        found.append(pid)
        open_ += parents.get(pid, [])
    return found


def busy():
    """Seconds that all cores together have worked, other guests' work on them included."""
    with open("/proc/stat") as stat:
        user, nice, system, _idle, _wait, irq, softirq, steal = (
            int(word) for word in stat.readline().split()[1:9]
        )
    return (user + nice + system + irq + softirq + steal) / TICK


def load():
    """The part of the machine that is busy, over a moment."""
    began, before = time.time(), busy()
    time.sleep(0.4)
    return (busy() - before) / (time.time() - began) / CORES


def wait_until_quiet(most, patience):
    """Until less than `most` of the machine is busy; whether that came."""
    ends = time.time() + patience
    while load() > most:
        if time.time() > ends:
            return False
    return True


def describe(folder):
    """The machine in one line."""
    with open("/proc/cpuinfo") as info:
        models = [line.split(":", 1)[1].strip() for line in info if line.startswith("model name")]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    best = max(
        (mount for mount in _mounts(None) if folder.startswith(mount[0].rstrip("/") + "/") or mount[0] == "/"),
        key=lambda mount: len(mount[0]),
    )
    model = models[0] if models else platform.machine()
    return (
        f"{CORES} × {model}, {memory:.0f} GiB, Linux {platform.release()}, {best[1]} ({','.join(best[2][:2])}), "
        f"accounting: {Group.accounting if Group.accounting == '/proc' else 'cgroup ' + Group.accounting}"
    )
