"""A Cyrus of one's own: IMAP and LMTP on loopback ports, from the unpacked Debian packages (see install.sh).

Knows Cyrus 3.6's configuration. Its daemons run as user cyrus; they log to syslog only, so there is no log to show.
"""

from __future__ import annotations

import imaplib
import os
import shutil
import smtplib
import subprocess
from pathlib import Path

from tests.lab.ports import free_port
from tests.lab.process import Server, Tree, answers, need
from tests.lab.tls import Certificate

PASSWORD = "secret"
SERVERNAME = "cyrus.example.com"
TOOLS = Path(os.environ.get("ONEDOMAIN_TEST_TOOLS") or Path(__file__).parents[2] / ".test-tools")

IMAPD = """\
configdirectory: {folder}/config
partition-default: {folder}/mail
defaultpartition: default
proc_path: {folder}/config/proc
mboxname_lockpath: {folder}/config/lock
sievedir: {folder}/config/sieve
lmtpsocket: {folder}/config/socket/lmtp
idlesocket: {folder}/config/socket/idle
notifysocket: {folder}/config/socket/notify
admins: cyrus
proxyservers: proxy
servername: {servername}
virtdomains: userid
defaultdomain: lab.invalid
unixhierarchysep: {slashes}
altnamespace: {slashes}
allowplaintext: yes
failedloginpause: 0
sasl_mech_list: PLAIN LOGIN
{passwords}
duplicatesuppression: {duplicatesuppression}
munge8bit: {munge8bit}
reject8bit: no
autocreate_quota: {autocreate}
autocreate_post: {autocreate_post}
autocreate_inbox_folders: Drafts | Sent | Trash | Junk
autosubscribe_inbox_folders: Drafts | Sent | Trash | Junk
xlist-drafts: Drafts
xlist-sent: Sent
xlist-trash: Trash
xlist-junk: Junk
quota_db: twoskip
sendmail: /bin/false
{tls}
{extra}
"""

CYRUS = """\
START {{
  recover cmd="{bin}/ctl_cyrusdb -C {config} -r"
  idled cmd="{bin}/idled -C {config}"
}}
SERVICES {{
  imap cmd="{bin}/imapd -C {config} -U 30" listen="{host}:{imap_port}" proto="tcp4" prefork=1 maxchild=1000
{imaps}
  lmtp cmd="{bin}/lmtpd -C {config} -a -U 30" listen="{host}:{lmtp_port}" proto="tcp4" prefork=1 maxchild=200
}}
EVENTS {{
  checkpoint cmd="{bin}/ctl_cyrusdb -C {config} -c" period=30
}}
"""


class Cyrus(Server):
    """One instance. Without `users` everybody exists, is let in with any password, and gets folders at first sight.

    With `users` (name to password) only those exist, created over the admin's log-in when the instance first starts.
    With `dots` folders are called INBOX.Sent, as Cyrus has it by default, else Sent and Sent/2026.
    The admin is "cyrus"; "proxy" may log in with anybody's name as the SASL authorisation identity (RFC 4616).
    """

    kind = "cyrus"
    admin, proxy = "cyrus", "proxy"
    admin_password = proxy_password = PASSWORD

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        namespace: str | None = None,
        users: dict[str, str] | None = None,
        tls: Certificate | None = None,
        duplicatesuppression: bool = False,
        munge8bit: bool = False,
        dots: bool = False,
        extra: str = "",
    ) -> None:
        programs = _unpacked(folder)
        super().__init__(folder, host, namespace)
        self.users = dict(users) if users is not None else None
        self.separator = "." if dots else "/"
        self.tls = tls
        self.imap_port, self.lmtp_port = free_port(host), free_port(host)
        self.imaps_port = free_port(host) if tls else 0
        self.bin = programs / "usr/lib/cyrus/bin"
        self.libraries = next(programs.glob("usr/lib/*-linux-gnu*"))
        self.config, self.services = folder / "imapd.conf", folder / "cyrus.conf"
        for name in ("config", "config/proc", "config/lock", "config/sieve", "config/socket", "config/db", "mail"):
            (folder / name).mkdir(exist_ok=True)
            shutil.chown(folder / name, "cyrus", "mail")
        self._accounts_made = users is None
        self.config.write_text(
            IMAPD.format(
                folder=folder,
                servername=SERVERNAME,
                passwords=self._passwords(),
                duplicatesuppression=_yes(duplicatesuppression),
                munge8bit=_yes(munge8bit),
                slashes=_yes(not dots),
                autocreate=10_000_000 if users is None else 0,
                autocreate_post=_yes(users is None),
                tls=f"tls_server_cert: {tls.cert}\ntls_server_key: {tls.key}" if tls else "",
                extra=extra,
            )
        )
        imaps = (
            f'  imaps cmd="{self.bin}/imapd -s -C {self.config} -U 30" listen="{host}:{self.imaps_port}" '
            f'proto="tcp4" prefork=1 maxchild=1000'
        )
        self.services.write_text(
            CYRUS.format(
                bin=self.bin,
                config=self.config,
                host=host,
                imap_port=self.imap_port,
                lmtp_port=self.lmtp_port,
                imaps=imaps if tls else "",
            )
        )

    def _passwords(self) -> str:
        if self.users is None:
            return "sasl_pwcheck_method: alwaystrue"
        need("cyrus with passwords", "saslpasswd2")
        self.set_password(self.admin, PASSWORD)
        self.set_password(self.proxy, PASSWORD)
        for user, password in self.users.items():
            self.set_password(user, password)
        return f"sasl_pwcheck_method: auxprop\nsasl_auxprop_plugin: sasldb\nsasl_sasldb_path: {self.folder}/sasldb2"

    def set_password(self, user: str, password: str) -> None:
        """In force at the next log-in. Only for instances with users of their own."""
        name, _, domain = user.partition("@")
        realm = domain or SERVERNAME  # what SASL falls back to
        database = self.folder / "sasldb2"
        subprocess.run(
            ["saslpasswd2", "-p", "-c", "-f", database, "-u", realm, name], input=password.encode(), check=True
        )
        shutil.chown(database, "cyrus", "mail")

    def create_account(self, *users: str) -> None:
        """Create mailboxes of the accounts named, as the admin."""
        session = self.imap(self.admin, self.admin_password)
        for user in users:
            status, answer = session.create(f'"user{self.separator}{user}"')
            if status != "OK":
                raise RuntimeError(f"CREATE {user}: {answer}")
        session.logout()

    def _launch(self) -> Tree:
        command = [self.bin / "master", "-C", self.config, "-M", self.services, "-p", self.folder / "config/master.pid"]
        tree = Tree(command, self.folder / "master.log", self.namespace)
        tree.start({"LD_LIBRARY_PATH": str(self.libraries)})
        return tree

    def _is_ready(self) -> bool:
        return answers(self.host, self.imap_port) and answers(self.host, self.lmtp_port)

    def start(self) -> None:
        super().start()
        if not self._accounts_made:
            self.create_account(*(self.users or {}))
            self._accounts_made = True

    def imap(self, user: str, password: str | None = None, timeout: float = 30) -> imaplib.IMAP4:
        """A session of imaplib, logged in."""
        session = imaplib.IMAP4(self.host, self.imap_port, timeout=timeout)
        session.login(user, password or (self.users or {}).get(user, PASSWORD))
        return session

    def prepare(self, *users: str) -> None:
        """Make the folders of the accounts named, by logging in. First deliveries that race are refused with 451, and
        Dovecot 2.3's lmtp dies of some of them (fcntl: Resource deadlock avoided).
        """
        for user in users:
            session = self.imap(user)
            session.select("INBOX")
            session.logout()

    def lmtp(self, timeout: float = 30) -> smtplib.LMTP:
        return smtplib.LMTP(self.host, self.lmtp_port, local_hostname="lab.example.com", timeout=timeout)


def _unpacked(folder: Path) -> Path:
    """Where the programs are, in a place that user cyrus can reach: a checkout may lie in somebody's private folder."""
    unpacked = TOOLS / "cyrus"
    need("cyrus", unpacked / "usr/lib/cyrus/bin/master", unpacked / "usr/lib/cyrus/bin/imapd", root=True)
    if all(parent.stat().st_mode & 0o001 for parent in (unpacked, *unpacked.parents)):
        return unpacked
    copy = folder / "programs"
    if not copy.exists():
        shutil.copytree(unpacked, copy, symlinks=True)
    return copy


def _yes(value: bool) -> str:
    return "yes" if value else "no"
