"""A Postfix of one's own: the world outside that relays to us, or the far side that takes what we send.

Knows Postfix 3.7's configuration; an instance shares nothing with /etc/postfix.
"""

from __future__ import annotations

import re
import shutil
import smtplib
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.lab.ports import free_port
from tests.lab.process import Server, Tree, answers, need, search_path
from tests.lab.tls import Certificate

PROGRAMS = "/usr/lib/postfix/sbin"

MAIN = """\
compatibility_level = 3.6
config_directory = {folder}/etc
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = {programs}
maillog_file = {folder}/postfix.log
maillog_file_prefixes = {folder}
mail_owner = postfix
setgid_group = postdrop
myhostname = {name}
mydomain = example.net
mydestination =
mynetworks = 127.0.0.0/8 198.18.0.0/15
inet_interfaces = {host}
inet_protocols = ipv4
alias_maps =
local_recipient_maps =
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtp_host_lookup = native
message_size_limit = 0
mailbox_size_limit = 0
virtual_mailbox_limit = 0
smtputf8_enable = yes
# Bytes go through as they came: no header added or rewritten, no body re-encoded.
local_header_rewrite_clients =
disable_mime_output_conversion = yes
allow_percent_hack = no
swap_bangpath = no
# A destination that fails is tried again at once and never counted out: tests kill servers all the time.
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
default_destination_concurrency_failed_cohort_limit = 100
initial_destination_concurrency = 20
in_flow_delay = 0
smtp_connect_timeout = 5s
smtpd_client_connection_count_limit = 0
# What is not relayed is kept in one Maildir.
transport_maps = inline:{{{relay}}}
relay_domains = {domains}
default_transport = virtual
virtual_mailbox_domains =
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:5000
virtual_gid_maps = static:5000
"""

MASTER = """\
{host}:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
lmtp unix - - n - - lmtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def _with(main: str, settings: Mapping[str, str]) -> str:
    """Each parameter once: of one that is given twice every program warns as it starts, postlogd too, which then at
    times waits for itself to take the warning, and all others for it.
    """
    kept = [line for line in main.splitlines() if line.partition("=")[0].strip() not in settings]
    return "".join(f"{line}\n" for line in [*kept, *(f"{key} = {value}" for key, value in settings.items())])


class Postfix(Server):
    """One instance, taking mail on `smtp_port` from loopback and the lab's namespaces, for anybody.

    Mail for a domain in `relay` goes on to the host and port given, over `protocol` "smtp" or "lmtp"; everything else
    is kept and can be read with `received`. `settings` are further lines for main.cf.
    """

    kind = "postfix"

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        namespace: str | None = None,
        name: str = "world.example.net",
        relay: Mapping[str, tuple[str, int]] | None = None,
        protocol: str = "smtp",
        tls: Certificate | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        need("postfix", "postfix", f"{PROGRAMS}/master", root=True)
        super().__init__(folder, host, namespace)
        self.smtp_port = free_port(host)
        self.config = folder / "etc"
        for part in ("etc", "queue", "data", "mail"):
            (folder / part).mkdir(exist_ok=True)
        # While it starts postsuper, who is not root, writes there of what a kill has left unfinished in the queue.
        (folder / "postfix.log").touch()
        shutil.chown(folder / "postfix.log", "postfix")
        shutil.chown(folder / "data", "postfix")
        shutil.chown(folder / "mail", 5000, 5000)
        more = dict(settings or {})
        if tls:
            more = {
                "smtpd_tls_cert_file": str(tls.cert),
                "smtpd_tls_key_file": str(tls.key),
                "smtpd_tls_security_level": "may",
            } | more
        route = ", ".join(f"{{ {d} = {protocol}:[{to}]:{port} }}" for d, (to, port) in (relay or {}).items())
        main = MAIN.format(
            folder=folder,
            programs=PROGRAMS,
            name=name,
            host=host,
            relay=route or "{ nowhere.invalid = discard: }",
            domains=" ".join(relay or {}),
        )
        self._main = _with(main, more)
        (self.config / "main.cf").write_text(self._main)
        (self.config / "master.cf").write_text(MASTER.format(host=host, port=self.smtp_port))

    def _launch(self) -> Tree:
        # A master killed with SIGKILL leaves its process id behind, which may be somebody else's by now.
        (self.folder / "queue/pid/master.pid").unlink(missing_ok=True)
        tree = Tree(["postfix", "-c", self.config, "start-fg"], self.folder / "master.log", self.namespace)
        tree.start()
        return tree

    def change(self, **settings: str) -> None:
        """Stops, and starts with further lines in main.cf, in place of those that an earlier call gave."""
        self.stop()
        self.set(**settings)
        self.start()

    def set(self, **settings: str) -> None:
        """The same before it is started."""
        (self.config / "main.cf").write_text(_with(self._main, settings))

    def _is_ready(self) -> bool:
        return answers(self.host, self.smtp_port)

    def smtp(self, timeout: float = 30) -> smtplib.SMTP:
        return smtplib.SMTP(self.host, self.smtp_port, local_hostname="lab.example.net", timeout=timeout)

    def queue(self) -> list[str]:
        """The ids of the messages that are still in the queue."""
        listing = subprocess.run(
            ["postqueue", "-c", self.config, "-j"],
            check=True,
            capture_output=True,
            text=True,
            env={"PATH": search_path()},
        )
        return re.findall(r'"queue_id": "([^"]+)"', listing.stdout)

    def flush(self) -> None:
        """Try everything in the queue now."""
        subprocess.run(["postqueue", "-c", self.config, "-f"], check=True, env={"PATH": search_path()})

    def received(self) -> list[bytes]:
        """The messages kept here, oldest first, with Postfix's own trace headers on top, line ends as LF."""
        kept = (self.folder / "mail/all/new").glob("*")
        return [file.read_bytes() for file in sorted(kept, key=lambda file: file.stat().st_mtime_ns)]


def smtp_source(
    host: str, port: int, *, count: int, sender: str, recipient: str, sessions: int = 10, size: int = 1000
) -> None:
    """Send `count` messages of about `size` bytes with Postfix's load generator; raises if one is not accepted."""
    need("postfix", "smtp-source")
    numbers = ["-m", str(count), "-s", str(min(sessions, count)), "-l", str(size)]
    subprocess.run(
        ["smtp-source", "-d", *numbers, "-f", sender, "-t", recipient, f"inet:{host}:{port}"],
        check=True,
        timeout=300,
        env={"PATH": search_path()},
    )
