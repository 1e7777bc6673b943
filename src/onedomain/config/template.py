"""The commented file that `onedomain init` writes, in English or Japanese. Text only; a test loads it."""

from __future__ import annotations

from onedomain.texts import language

TEMPLATE = """\
#en OneDomain: one mail domain on many mail servers.
#en Check this file with `onedomain check`; a running system takes it over on SIGHUP, or not at all if it is wrong.
#en Values that stand behind a "#" are the defaults. Durations: 30s, 5m, 2h, 5d. Sizes: 50MiB.
#en Relative paths start from this file's folder.
#ja OneDomain: 一つのメールドメインを、いくつものメールサーバーで。
#ja このファイルは `onedomain check` で確認できます。SIGHUP で読み直され、誤りがあれば何も変わりません。
#ja 「#」の後にある値は既定値です。時間は 30s、5m、2h、5d、サイズは 50MiB のように書きます。
#ja 相対パスはこのファイルのフォルダからたどります。

[edge]
#en The name that this machine says in HELO; each edge has its own.
#ja このマシンが HELO で名乗る名前。エッジごとに別の名前にします。
name = "mx1.example.com"
#en Spool, log and a copy of the directory; on a disk that keeps what was synced.
#ja スプール、ログ、ディレクトリの写しを置く場所。同期した内容を失わないディスクにしてください。
state = "/var/lib/onedomain"
#en One worker per core:
#ja コアごとに一つのワーカー:
# workers = 0
#en After the ports are open, run as; if root starts us, keys and secrets may stay readable by root alone:
#ja ポートを開いた後の実行ユーザー。root で起動すれば、鍵やパスワードのファイルは root だけが読めるままで構いません:
# user = "onedomain"
#en Several edges tell each other what they know, so that `onedomain trace` answers for all of them:
#ja 複数のエッジは互いに情報を交換し、`onedomain trace` がすべてのエッジについて答えます:
# peer_listen = "0.0.0.0:7465"
# peer_address = "mx1.example.com:7465"

#en The domain that is shared, its other names, and who reads the postmaster's mail (RFC 5321 section 4.5.1).
#ja 共有するドメインと別名、および postmaster 宛てを受け取る人 (RFC 5321 4.5.1 節)。
[[domain]]
name = "example.com"
aliases = ["example.co.jp"]
postmaster = "admin@example.com"
# tag_separator = "+"

#en The servers that keep the mailboxes. kind: dovecot, cyrus, imap (any other), node (our own).
#en class: exclusive (people come through here only), shared (also directly), foreign (somebody else's service).
#en tls: none, opportunistic (if offered, unverified), starttls (demanded and verified), implicit.
#ja メールボックスを持つサーバー。kind: dovecot、cyrus、imap (その他)、node (OneDomain のもの)。
#ja class: exclusive (必ずここを経由)、shared (直接の利用もある)、foreign (他社のサービス)。
#ja tls: none、opportunistic (提供されれば、検証なし)、starttls (必須、検証あり)、implicit。
[[server]]
name = "head"
kind = "dovecot"
class = "exclusive"
imap = { host = "192.0.2.10", port = 143, tls = "none" }
delivery = { host = "192.0.2.10", port = 24, protocol = "lmtp" }
#en With protocol "smtp" mail may wait in the server's own queue, unseen. A delivery whose answer was lost is then sent
#en again only if it has not turned up for delivery's queue_time, "10m".
#ja protocol が "smtp" なら、サーバー自身のキューで待つメールは外から見えません。応答が失われた配送は、
#ja delivery の queue_time ("10m") の間見つからない時に限り再送します。
#en How people are logged in there: with their own password, or "master" (Dovecot), or "authzid" (Cyrus):
#ja サーバーへのログイン方法: 本人のパスワード、"master" (Dovecot)、"authzid" (Cyrus):
# login = { way = "master", user = "onedomain", password_file = "secrets/head" }
#en Dovecot as a replica keeps UIDs as they are if its HTTP interface may be used (service doveadm, doveadm_api_key):
#ja レプリカの Dovecot で UID をそのまま保つには、HTTP インターフェース (service doveadm、doveadm_api_key) が必要です:
# doveadm = { host = "192.0.2.10", port = 8080, api_key_file = "secrets/head-doveadm" }
#en An account per storage partition, to see that mail really arrives and can be read:
#ja 保存領域ごとに一つ、メールが実際に届き読めることを確かめるためのアカウント:
# probe = { accounts = ["probe@example.com"], password_env = "PROBE_PASSWORD" }
#en The server's names for a mailbox, and the POP3 UIDL its clients know:
#ja サーバーでのメールボックス名と、クライアントが知っている POP3 の UIDL:
# mailbox_format = "{local}@{domain}"
# rcpt_format = "{local}{tag}@{domain}"
# uidl_format = "%08Xu%08Xv"
# weight = 1.0
# max_deliveries = 20

[[server]]
name = "branch"
kind = "cyrus"
imap = { host = "192.0.2.20", tls = "starttls", tls_name = "mail.branch.example.com" }
delivery = { host = "192.0.2.20", port = 24, protocol = "lmtp" }
mailbox_format = "{local}"
rcpt_format = "{local}{tag}"
#en How links log in that keep replicas; cyrus: one of its admins, node: its replication user:
#ja 複製を保つためのログイン。cyrus は admins の一人、node は replication_user:
# replication = { user = "cyrus", password_file = "secrets/branch-admin" }

#en Departments or sites. level: what 250 promises; spool (on this edge's disk), primary (on the account's server)
#en or replica (on the second one, too).
#en strict: rather 451 than less than that.
#ja 部署や拠点。level: 250 の意味。spool (このエッジのディスク)、primary (アカウントのサーバー)、
#ja または replica (複製先のサーバーにも)。
#ja strict: それが守れない時は 451 を返します。
[[unit]]
name = "head"
servers = ["head"]
level = "spool"
# strict = false
#en Servers that keep a second copy of this unit's new accounts' mailboxes, milliseconds behind; each has it on one:
#ja この部署の新しいアカウントの写しを、数ミリ秒遅れで保つサーバー (アカウントごとに一つ):
# replicas = ["branch"]

[[unit]]
name = "branch"
servers = ["branch"]

#en Where clients come in: smtp, submission, submissions, imap, imaps, pop3, pop3s.
#ja クライアントの入口: smtp、submission、submissions、imap、imaps、pop3、pop3s。
[[listener]]
protocol = "smtp"
# address = "*"
# port = 25
#en Bare CR or LF, and lines over 998 octets: refuse, normalise or pass:
#ja 単独の CR・LF と 998 オクテットを超える行: refuse (拒否)、normalise (修正)、pass (そのまま):
# bare_newline = "refuse"
# long_lines = "pass"
#en Who may say where a connection really came from (PROXY protocol, XCLIENT):
#ja 接続元を伝えることを許すネットワーク (PROXY プロトコル、XCLIENT):
# proxy_trusted = ["192.0.2.0/24"]
# xclient_trusted = ["192.0.2.0/24"]

[[listener]]
protocol = "submission"
#en Without TLS no password is taken, unless the network may be trusted:
#ja TLS なしのパスワードは受け付けません。信頼できるネットワークでのみ true にします:
# plaintext_passwords = false

[[listener]]
protocol = "imap"

[[listener]]
protocol = "imaps"

[[listener]]
protocol = "pop3s"

#en The first certificate is shown where no other has the name that the client asked for.
#ja クライアントが求める名前の証明書がない時は、最初のものを示します。
[[tls.certificate]]
certificate = "/etc/onedomain/mail.crt"
key = "/etc/onedomain/mail.key"
# names = ["mail.example.com"]

[directory]
#en Several edges share a PostgreSQL: "postgresql://onedomain@db.example.com/onedomain", with password_file.
#ja 複数のエッジは PostgreSQL を共有します: "postgresql://onedomain@db.example.com/onedomain" と password_file。
url = "sqlite:////var/lib/onedomain/directory.db"

#en Where mail for other domains goes; without it such mail is refused.
#ja 他のドメイン宛てのメールの送り先。なければ拒否します。
# [smarthost]
# host = "smtp.provider.example"
# also = ["smtp2.provider.example"]
# port = 587
# tls = "starttls"
# user = "example"
# password_file = "secrets/smarthost"

[limits]
# message_size = "50MiB"
# recipients = 1000
# spool_size = "10GiB"
# login_failures = 10
# account_sessions = 100
# hold_append = "10s"         # the OK of an APPEND waits so long for the replica to have the message

[retry]
# first = "5s"
# longest = "30m"
# warn_after = "4h"
# give_up_after = "5d"

[health]
# interval = "1s"
# patience = "2.5s"
# message_interval = "5m"

#en When a server dies: automatic makes the replica the primary where the server is exclusive. How long it may refuse
#en connections, or be silent beyond [health] patience, before that; how far behind a replica may be; how long an edge
#en that can't reach the directory's database goes on writing (several edges).
#ja サーバーが停止した時: automatic は、exclusive のサーバーで複製を自動的に主にします。接続拒否、または [health] の
#ja patience を超える無応答をどれだけ待つか、複製の遅れの上限、データベースに届かないエッジが書き込みを続けてよい
#ja 時間 (複数エッジの場合) を指定します。
[failover]
# automatic = false
# refusing = "1500ms"
# silent = "500ms"
# max_lag = "1m"
# lease = "3s"

#en Replicas: how often accounts without news are looked at, and compared whole; how many at once per server; when
#en deletions that nobody commanded stop; how long and how much of what is deleted is kept in the state folder.
#ja 複製: 動きのないアカウントを見る間隔、全体を照合する間隔、サーバーごとの同時数、指示のない大量削除を止める
#ja 基準、削除された本文を状態フォルダに残す期間と量を指定します。
[links]
# sweep = "5m"
# audit = "1d"
# passes = 16
# brake_messages = 50
# brake_share = 0.3
# keep_deleted = "7d"
# deleted_size = "2GiB"
# refused_size = "4GiB"

#en What needs a person goes to the log, by mail to the postmaster, and as JSON to a URL.
#ja 人の対応が要ることは、ログ、postmaster 宛てのメール、URL への JSON で知らせます。
[alerts]
# mail = true
# webhook = ""
# every = "10m"
# late = "5m"

[metrics]
# address = "127.0.0.1"
# port = 9464

[log]
# keep = "30d"

[resolver]
# servers = ["192.0.2.53"]
"""


def template(wanted: str | None = None) -> str:
    """The file, with comments in `wanted` ("en" or "ja") or the language of this process."""
    wanted = wanted or language()
    kept = []
    for line in TEMPLATE.splitlines():
        if line.startswith(("#en ", "#ja ")):
            if line[1:3] == wanted:
                kept.append(f"# {line[4:]}")
        else:
            kept.append(line)
    return "\n".join(kept) + "\n"
