"""A Dovecot of one's own: IMAP, POP3, LMTP and doveadm over HTTP, on loopback ports.

Knows Dovecot 2.3's configuration, as Debian 12 ships it. Runs as root, keeps mail as uid 5000.
"""

from __future__ import annotations

import imaplib
import os
import signal
import smtplib
import subprocess
from pathlib import Path

from tests.lab.ports import free_port
from tests.lab.process import Server, Tree, answers, need, search_path, wait_until
from tests.lab.tls import Certificate

PASSWORD = "secret"
UID = 5000

TEMPLATE = """\
base_dir = {folder}/run
state_dir = {folder}/state
instance_name = {name}
log_path = {folder}/dovecot.log
log_timestamp = "%Y-%m-%d %H:%M:%S.%{{usecs}} "
listen = {host}
protocols = imap pop3 lmtp
ssl = {ssl}
{ssl_files}
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_username_chars =
auth_master_user_separator = *
auth_failure_delay = {auth_failure_delay}
# The edge hands on the client's address with IMAP's ID and XCLIENT; only from these is it believed.
login_trusted_networks = {trusted}
mail_location = {format}:~/{format}
mail_plugins = quota acl notify
default_vsz_limit = 1G
mail_max_userip_connections = 10000
mail_attribute_dict = file:%h/dovecot-attributes
mail_fsync = {fsync}
first_valid_uid = 1000
first_valid_gid = 1000
doveadm_password = {password}
doveadm_api_key = {api_key}
postmaster_address = postmaster@example.com
recipient_delimiter = +
lda_mailbox_autocreate = yes
lda_mailbox_autosubscribe = yes
namespace inbox {{
  inbox = yes
  separator = /
  mailbox Drafts {{
    special_use = \\Drafts
    auto = subscribe
  }}
  mailbox Sent {{
    special_use = \\Sent
    auto = subscribe
  }}
  mailbox Trash {{
    special_use = \\Trash
    auto = subscribe
  }}
  mailbox Junk {{
    special_use = \\Junk
    auto = create
  }}
}}
passdb {{
  driver = passwd-file
  args = username_format=%u {folder}/masters
  master = yes
}}
passdb {{
{passdb}
}}
userdb {{
{userdb}
}}
plugin {{
  quota = count:User quota
  quota_vsizes = yes
  quota_rule = {quota}
  acl = vfile
  acl_user = %u
{plugins}
}}
protocol imap {{
  mail_plugins = $mail_plugins imap_quota imap_acl
  imap_metadata = yes
}}
protocol lmtp {{
  mail_plugins = $mail_plugins{sieve_plugin}
}}
service imap-login {{
  inet_listener imap {{
    port = {imap_port}
  }}
  inet_listener imaps {{
    port = {imaps_port}
    ssl = yes
  }}
  process_min_avail = 1
  service_count = 0
  client_limit = 10000
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3_port}
  }}
  inet_listener pop3s {{
    port = {pop3s_port}
    ssl = yes
  }}
  service_count = 0
}}
service imap {{
  process_limit = 10000
}}
service lmtp {{
  inet_listener lmtp {{
    port = {lmtp_port}
  }}
}}
service doveadm {{
  process_min_avail = 2
  inet_listener {{
    port = {doveadm_port}
  }}
  inet_listener http {{
    port = {doveadm_http_port}
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
service anvil {{
  client_limit = 10000
  # No growing delay after wrong passwords, or each test of one would wait for it.
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  client_limit = 20000
}}
{extra}
"""


class Dovecot(Server):
    """One instance. Without `users` everybody exists, with the password "secret"; with them nobody else does.

    `format` is sdbox, mdbox or maildir. `trusted` lists the networks whose word on the client's address is believed.
    `fsync` is never, optimized or always. `extra` is appended to the configuration, `plugins` to its plugin section.
    """

    kind = "dovecot"

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        namespace: str | None = None,
        users: dict[str, str] | None = None,
        format: str = "sdbox",
        tls: Certificate | None = None,
        sieve: bool = False,
        quota: str = "*:storage=10G",
        trusted: str = "127.0.0.0/8",
        fsync: str = "optimized",
        auth_failure_delay: str = "0 secs",
        plugins: str = "",
        extra: str = "",
    ) -> None:
        need("dovecot", "/usr/sbin/dovecot", "/usr/lib/dovecot/lmtp", "/usr/lib/dovecot/pop3", root=True)
        super().__init__(folder, host, namespace)
        # Unix socket paths end at 108 bytes, and Dovecot's longest takes 40 of them: unix(7).
        if len(str(folder)) > 60:
            raise ValueError(f"{folder}: too long a path for Dovecot's sockets")
        self.users = dict(users) if users is not None else None
        self.tls = tls
        self.master_user, self.master_password, self.api_key = "master", "mastersecret", "lab-api-key"
        self.imap_port, self.pop3_port, self.lmtp_port = (free_port(host) for _ in range(3))
        self.doveadm_port, self.doveadm_http_port = free_port(host), free_port(host)
        self.imaps_port = free_port(host) if tls else 0
        self.pop3s_port = free_port(host) if tls else 0
        self.config = folder / "dovecot.conf"
        for name in ("mail", "state"):
            (folder / name).mkdir(exist_ok=True)
        os.chown(folder / "mail", UID, UID)
        self._write_users()
        (folder / "masters").write_text(f"{self.master_user}:{{PLAIN}}{self.master_password}\n")
        sieve_plugins = "  sieve = file:~/sieve;active=~/.dovecot.sieve\n" if sieve else ""
        self.config.write_text(
            TEMPLATE.format(
                folder=folder,
                name=folder.name,
                host=host,
                sieve_plugin=" sieve" if sieve else "",
                ssl="yes" if tls else "no",
                ssl_files=f"ssl_cert = <{tls.cert}\nssl_key = <{tls.key}" if tls else "",
                auth_failure_delay=auth_failure_delay,
                trusted=trusted,
                format=format,
                fsync=fsync,
                password=PASSWORD,
                api_key=self.api_key,
                passdb=self._passdb(),
                userdb=self._userdb(),
                quota=quota,
                plugins=sieve_plugins + plugins,
                imap_port=self.imap_port,
                imaps_port=self.imaps_port,
                pop3_port=self.pop3_port,
                pop3s_port=self.pop3s_port,
                lmtp_port=self.lmtp_port,
                doveadm_port=self.doveadm_port,
                doveadm_http_port=self.doveadm_http_port,
                extra=extra,
            )
        )

    def _passdb(self) -> str:
        if self.users is None:
            return f"  driver = static\n  args = password={PASSWORD}"
        return f"  driver = passwd-file\n  args = scheme=PLAIN username_format=%u {self.folder}/users"

    def _userdb(self) -> str:
        fields = f"uid={UID} gid={UID} home={self.folder}/mail/%d/%n"
        if self.users is None:
            return f"  driver = static\n  args = allow_all_users=yes {fields}"
        return f"  driver = passwd-file\n  args = username_format=%u {self.folder}/users\n  default_fields = {fields}"

    def _write_users(self) -> None:
        if self.users is None:
            return
        lines = (f"{user}:{{PLAIN}}{password}::::::\n" for user, password in self.users.items())
        fresh = self.folder / "users.new"
        fresh.write_text("".join(lines))
        fresh.replace(self.folder / "users")  # Dovecot reads it again when its inode or time has changed

    def set_user(self, user: str, password: str | None = PASSWORD) -> None:
        """Add an account, change its password, or with None remove it; returns when that is in force."""
        if self.users is None:
            raise RuntimeError("this Dovecot knows everybody")
        if password is None:
            self.users.pop(user, None)
        else:
            self.users[user] = password
        self._write_users()
        if self.running:
            # Dovecot looks at the file at most once in each second of the clock, for passdb and userdb separately.
            wait_until(lambda: self._knows(user, password), f"{user} in {self.folder}/users")

    def _knows(self, user: str, password: str | None) -> bool:
        """Whether log-in and look-up are as the account's password, or None for no account, demands."""
        found = self.doveadm("user", user).returncode == 0
        if password is None:
            return not found
        return found and self.doveadm("auth", "test", user, password).returncode == 0

    def doveadm(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run doveadm on this instance; fails silently, see its `returncode` and `stderr`."""
        return subprocess.run(
            ["doveadm", "-c", self.config, *words],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PATH": search_path()},
        )

    def _launch(self) -> Tree:
        tree = Tree(["dovecot", "-F", "-c", self.config], self.folder / "master.log", self.namespace)
        tree.start()
        return tree

    def _is_ready(self) -> bool:
        return all(answers(self.host, port) for port in (self.imap_port, self.pop3_port, self.lmtp_port)) and answers(
            self.host, self.doveadm_http_port, greeting=False
        )

    def reload(self) -> None:
        """Read the configuration again."""
        if self.tree:
            self.tree.signal_first(signal.SIGHUP)

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
