"""The servers that are measured: sekimori, the bare program, and the peers that are installed."""

import glob
import os
import pwd
import signal
import socket
import subprocess
import time

import corpus
from machine import Group

# Whom the peers deliver as.
NOBODY = pwd.getpwnam("nobody")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, seconds=300):
    ends = time.time() + seconds
    while time.time() < ends:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.001)
    raise RuntimeError(f"nothing listens on port {port}")


def folder(path, owner=None):
    os.makedirs(path, exist_ok=True)
    if owner:
        os.chown(path, owner.pw_uid, owner.pw_gid)
    return path


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path


class Server:
    """One that is started, measured and stopped. `kept`: it stores mail; else it passes it on."""

    protocol = "LMTP"
    kept = True
    filters = False
    # Of the mails that the rules must hold, those that it can know.
    hits = corpus.HELD
    # Its rate counts until all is delivered, not until all is accepted.
    queues = False

    def __init__(self, site, name):
        self.name, self.site = name, site
        self.port = free_port()
        self.group = Group()
        self.base = folder(f"{site.folder}/{self.group.number}-{type(self).__name__.lower()}")
        site.servers.append(self)

    def start(self):
        began = time.time()
        self.launch()
        wait_for_port(self.port)
        self.started_in = time.time() - began
        return self

    def spawn(self, *command, **options):
        with open(f"{self.base}/log", "ab") as log:
            return self.group.spawn(command, stdout=log, stderr=log, **options)

    def stop(self):
        """Its files stay until the end: an ext4 without a journal is slow to make files after many were removed."""
        self.group.end()

    def drain(self, told):
        """Waits until what was accepted is delivered; a server that answers last is done."""

    def held(self):
        """How many mails its rules have held so far."""
        return 0


class Sekimori(Server):
    """Ours. `method`: maildir or lmtp (to the sink)."""

    filters = True

    def __init__(self, site, method="maildir", name="sekimori", mailbox=None, users=corpus.USERS, **more):
        super().__init__(site, name)
        self.kept = method == "maildir"
        self.config = f"{self.base}/sekimori.yaml"
        self.binary = more.get("binary", site.binary)
        self.forwards, self.sent = more.get("forwards", False), site.sink.count()
        self.boxes = folder(f"{self.base}/mailboxes/{corpus.DOMAIN}")
        for user in range(users):
            write(f"{self.boxes}/user{user}.yaml", mailbox or site.settings)
        relay_port = (more.get("relay") or site.sink).port
        write(
            self.config,
            f"""version: 1
server:
  hostname: mx.test.example
  default_domain: {corpus.DOMAIN}
  listeners: [{{name: lmtp, protocol: lmtp, listen: "127.0.0.1:{self.port}", clients: [127.0.0.0/8]}}]
mailboxes: {{dir: mailboxes, domains: [{corpus.DOMAIN}]}}
delivery:
  method: {method}
  maildir: {{path: "mail/%{{localpart}}/Maildir"}}
  lmtp: {{address: "127.0.0.1:{(more.get("next_hop") or site.sink).port}", max_connections: 64}}
relay: {{host: 127.0.0.1, port: {relay_port}, per_minute: 0, max_connections: 16, from: filter@{corpus.DOMAIN}}}
quarantine: {{retention: {more.get("retention", "7d")}, max_size: 100GiB}}
store: {{path: state}}
logging: {{target: stderr, format: logfmt}}
control: {{socket: control.sock}}
""",
        )

    def launch(self):
        self.process = self.spawn(self.binary, "--config", self.config, "run")

    def command(self, *arguments):
        """A command's output; it runs beside the daemon and is not accounted with it."""
        done = subprocess.run(
            [self.binary, "--config", self.config, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def drain(self, told):
        """What it forwards is with the sink."""
        if not self.forwards:
            return
        self.sent += told["ok"] - told["with_word"]
        ends = time.time() + 300
        while self.site.sink.count() < self.sent:
            if time.time() > ends:
                raise RuntimeError("the outgoing queue does not get empty")
            time.sleep(0.05)

    def held(self):
        return self.command("--json", "quarantine", "list").count("\n")

    def peak(self):
        """The most memory that it ever had resident, MiB."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024

    def halt(self):
        """Stops and keeps what it stored."""
        self.process.terminate()
        self.process.wait(30)


class Bare(Server):
    def __init__(self, site):
        super().__init__(site, "bare program")

    def launch(self):
        self.spawn(self.site.tool, "bare", "--port", str(self.port), "--dir", folder(f"{self.base}/mail"))


class Sink(Server):
    """What takes relayed mail; as a server of its own, what the driver reaches without us."""

    kept = False

    def __init__(self, site, name="driver into the sink", refuse=False):
        super().__init__(site, name)
        self.refuse = refuse

    def launch(self):
        refuse = ["--refuse", "yes"] if self.refuse else []
        self.spawn(self.site.tool, "sink", "--port", str(self.port), *refuse)

    def count(self):
        with socket.create_connection(("127.0.0.1", self.port)) as wire, wire.makefile("rw", newline="\r\n") as lines:
            lines.readline()
            lines.write("XCOUNT\r\n")
            lines.flush()
            return int(lines.readline().split()[1])


class Dovecot(Server):
    """`kind`: sieve and plain keep; redirect (with Sieve) and proxy pass on to the sink."""

    NAMES = {
        "sieve": "Dovecot LMTP + Pigeonhole",
        "plain": "Dovecot LMTP, no Sieve",
        "redirect": "Dovecot LMTP + Pigeonhole",
        "proxy": "Dovecot LMTP proxy",
    }

    def __init__(self, site, kind):
        super().__init__(site, self.NAMES[kind])
        self.kind, self.kept = kind, kind in ("sieve", "plain")
        self.filters = kind in ("sieve", "redirect")

    @staticmethod
    def missing(kind):
        needed = ["/usr/sbin/dovecot", "/usr/lib/dovecot/lmtp"]
        if kind in ("sieve", "redirect"):
            needed += glob.glob("/usr/lib/dovecot/modules/lib90_sieve_plugin.so") or ["lib90_sieve_plugin.so"]
        return next((path for path in needed if not os.path.exists(path)), None)

    def launch(self):
        home = folder(f"{self.base}/mail", NOBODY)
        os.chmod(self.base, 0o755)
        for user in range(corpus.USERS):
            own = folder(f"{home}/user{user}", NOBODY)
            if self.filters:
                script = write(f"{own}/.dovecot.sieve", corpus.sieve(redirect=self.kind == "redirect"))
                os.chown(script, NOBODY.pw_uid, NOBODY.pw_gid)
        proxy = self.kind == "proxy"
        way = f"proxy=y host=127.0.0.1 port={self.site.sink.port} protocol=lmtp " if proxy else ""
        config = write(
            f"{self.base}/dovecot.conf",
            f"""base_dir = {folder(self.base + "/run")}
state_dir = {folder(self.base + "/state")}
instance_name = table
log_path = {self.base}/dovecot.log
info_log_path = /dev/null
protocols = lmtp
listen = 127.0.0.1
ssl = no
first_valid_uid = 1
mail_location = maildir:~/Maildir
mail_home = {home}/%n
lmtp_proxy = {"yes" if proxy else "no"}
passdb {{
  driver = static
  args = {way}nopassword=y
}}
userdb {{
  driver = static
  args = uid={NOBODY.pw_uid} gid={NOBODY.pw_gid} home={home}/%n allow_all_users=yes
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {self.port}
  }}
  process_limit = 200
}}
submission_host = 127.0.0.1:{self.site.sink.port}
hostname = peer.{corpus.DOMAIN}
protocol lmtp {{
  mail_plugins = {"sieve" if self.filters else ""}
  postmaster_address = postmaster@{corpus.DOMAIN}
}}
plugin {{
  sieve = file:~/sieve;active=~/.dovecot.sieve
  sieve_max_script_size = 0
  sieve_max_cpu_time = 0
  sieve_max_actions = 0
}}
""",
        )
        self.spawn("/usr/sbin/dovecot", "-F", "-c", config)

    def held(self):
        return len(glob.glob(f"{self.base}/mail/*/Maildir/.Held/new/*"))


class Postfix(Server):
    """`kind`: maildir keeps, relay passes on to the sink by LMTP. It queues: drained when that is empty."""

    protocol = "SMTP"
    filters = True
    # It neither decodes a Subject nor misses a field.
    hits = ("hit-from",)
    queues = True

    def __init__(self, site, kind):
        super().__init__(site, "Postfix + header_checks")
        self.kept = kind == "maildir"

    @staticmethod
    def missing(_kind):
        return None if os.path.exists("/usr/sbin/postfix") else "/usr/sbin/postfix"

    def launch(self):
        base, conf = self.base, folder(f"{self.base}/conf")
        os.chmod(base, 0o755)
        folder(f"{base}/queue")
        folder(f"{base}/data", pwd.getpwnam("postfix"))
        mail = folder(f"{base}/mail", NOBODY)
        table = write(f"{conf}/header_checks", corpus.header_checks())
        for user in range(corpus.USERS):
            folder(f"{mail}/user{user}", NOBODY)
        boxes = "".join(f"user{user}@{corpus.DOMAIN} user{user}/Maildir/\n" for user in range(corpus.USERS))
        write(f"{conf}/boxes", boxes)
        write(f"{conf}/main.cf", "compatibility_level = 3.6\n")
        kinds = subprocess.run(["postconf", "-c", conf, "-m"], capture_output=True, text=True).stdout.split()
        self.table = "pcre" if "pcre" in kinds else "regexp"
        if self.kept:
            delivery = f"""virtual_mailbox_domains = {corpus.DOMAIN}
virtual_mailbox_base = {mail}
virtual_mailbox_maps = hash:{conf}/boxes
virtual_uid_maps = static:{NOBODY.pw_uid}
virtual_gid_maps = static:{NOBODY.pw_gid}
virtual_minimum_uid = 1
virtual_mailbox_limit = 0"""
        else:
            delivery = f"relay_domains = {corpus.DOMAIN}\nrelay_transport = lmtp:inet:127.0.0.1:{self.site.sink.port}"
        write(
            f"{conf}/main.cf",
            f"""compatibility_level = 3.6
queue_directory = {base}/queue
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
data_directory = {base}/data
mail_owner = postfix
setgid_group = postdrop
maillog_file = {base}/maillog
maillog_file_prefixes = {base}
myhostname = peer.{corpus.DOMAIN}
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = loopback-only
inet_protocols = ipv4
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_error_sleep_time = 0
message_size_limit = 104857600
mailbox_size_limit = 0
local_recipient_maps =
alias_maps =
alias_database =
smtp_dns_support_level = disabled
lmtp_dns_support_level = disabled
header_checks = {self.table}:{table}
{delivery}
""",
        )
        services = [
            f"127.0.0.1:{self.port} inet n - n - - smtpd",
            "pickup unix n - n 60 1 pickup",
            "cleanup unix n - n - 0 cleanup",
            "qmgr unix n - n 300 1 qmgr",
        ]
        plain = "rewrite:trivial-rewrite bounce:bounce defer:bounce trace:bounce proxymap smtp relay:smtp showq error"
        for service in (plain + " retry:error discard virtual lmtp anvil scache flush:flush verify").split():
            name, _, program = service.partition(":")
            one = "1" if name in ("anvil", "scache", "verify") else "-"
            # It changes to the owner of the mail.
            root = "n" if name == "virtual" else "-"
            services.append(f"{name} unix - {root} n - {one} {program or name}")
        services.append("postlog unix-dgram n - n - 1 postlogd")
        write(f"{conf}/master.cf", "\n".join(services) + "\n")
        self.group.run(["postmap", "-c", conf, f"hash:{conf}/boxes"])
        self.spawn("/usr/sbin/postfix", "-c", conf, "start-fg")

    def drain(self, told):
        ends = time.time() + 120
        while time.time() < ends:
            queues = (f"{self.base}/queue/{queue}" for queue in ("maildrop", "incoming", "active", "deferred"))
            if not any(files for queue in queues for _, _, files in os.walk(queue)):
                return
            time.sleep(0.05)
        raise RuntimeError("Postfix's queue does not get empty")

    def held(self):
        return sum(len(files) for _, _, files in os.walk(f"{self.base}/queue/hold"))
