"""What the configuration says to people, in English and Japanese. Texts only."""

from __future__ import annotations

from onedomain.texts import Table, speaker

TEXTS: Table = {
    "heading": (
        "{file}: {count} problem(s), nothing of it was used",
        "{file}: 問題が {count} 件あります。この設定は使われていません",
    ),
    "line": ("line {line}", "{line} 行目"),
    "no_file": ("cannot be read: {why}", "読めません: {why}"),
    "no_file?": (
        "make one with `onedomain init`, or name another with --config",
        "`onedomain init` で作成するか、--config で別のファイルを指定してください",
    ),
    "not_utf8": ("is not UTF-8 text (byte {offset})", "UTF-8 のテキストではありません ({offset} バイト目)"),
    "not_utf8?": ("save the file as UTF-8", "UTF-8 で保存してください"),
    "syntax": ("not valid TOML: {why}", "TOML として正しくありません: {why}"),
    "syntax?": (
        'texts stand in quotes, lists in [ ], and every key once: name = "value"',
        '文字列は引用符で、リストは [ ] で囲み、同じキーは一度だけ書きます: name = "value"',
    ),
    "missing": ("is missing", "がありません"),
    "missing?": ("add: {example}", "次を追加してください: {example}"),
    "extra_forbidden": ("is not a key of this table", "この表にないキーです"),
    "extra_forbidden?": ("did you mean {nearest}?", "{nearest} の間違いではありませんか"),
    "extra_known?": ("known here: {names}", "使えるキー: {names}"),
    "string_type": ("must be a text in quotes", "引用符で囲んだ文字列でなければなりません"),
    "int_type": ("must be a whole number, without quotes", "引用符のない整数でなければなりません"),
    "float_type": ("must be a number, without quotes", "引用符のない数値でなければなりません"),
    "bool_type": ("must be true or false, without quotes", "引用符のない true か false でなければなりません"),
    "list_type": ("must be a list: [ … ]", "リスト [ … ] でなければなりません"),
    "model_type": ("must be a table", "表でなければなりません"),
    "literal_error": ("must be one of: {expected}", "次のいずれかでなければなりません: {expected}"),
    "or": (" or ", "、"),
    "zero_byte": ("must not contain a zero byte", "ゼロバイトを含められません"),
    "greater_than": ("must be more than {gt}", "{gt} より大きくなければなりません"),
    "greater_than_equal": ("must be at least {ge}", "{ge} 以上でなければなりません"),
    "less_than_equal": ("must be at most {le}", "{le} 以下でなければなりません"),
    "too_short": ("needs at least {min_length}", "少なくとも {min_length} 個必要です"),
    "too_long": ("may have at most {max_length}", "{max_length} 個までです"),
    "string_too_short": ("must not be empty", "空にはできません"),
    "string_too_long": ("may have at most {max_length} characters", "{max_length} 文字までです"),
    "duration": (
        'must be a duration such as "30s", "5m", "2h", "5d", or a number of seconds',
        '"30s"、"5m"、"2h"、"5d" のような時間か、秒数でなければなりません',
    ),
    "size": (
        'must be a size such as "50MiB", or a number of bytes',
        '"50MiB" のようなサイズか、バイト数でなければなりません',
    ),
    "domain": ("{value!r} is not a domain name", "{value!r} はドメイン名ではありません"),
    "address": ("{value!r} is not a mail address: {why}", "{value!r} はメールアドレスではありません: {why}"),
    "network": (
        "{value!r} is not a network such as 192.0.2.0/24 or 2001:db8::/32",
        "{value!r} は 192.0.2.0/24 や 2001:db8::/32 のようなネットワークではありません",
    ),
    "ip": ("{value!r} is not an IP address", "{value!r} は IP アドレスではありません"),
    "listen_ip": ("{value!r} is not an IP address", "{value!r} は IP アドレスではありません"),
    "listen_ip?": ("leave it out to listen on every address", "省略するとすべてのアドレスで待ち受けます"),
    "host": (
        "{value!r} is not the name or IP address of a machine",
        "{value!r} はホスト名でも IP アドレスでもありません",
    ),
    "host?": (
        'neither scheme nor port nor brackets: host = "mail.example.com" or "2001:db8::1"; the port is a key of its own',
        'スキーム・ポート・角括弧を付けずに host = "mail.example.com" や "2001:db8::1" と書き、ポートは port に書きます',
    ),
    "url": (
        "{value!r} is not a URL that begins with https:// or http://",
        "{value!r} は https:// か http:// で始まる URL ではありません",
    ),
    "host_and_port": (
        "{value!r} is not host:port ([…]:port for IPv6)",
        "{value!r} は host:port ではありません (IPv6 は […]:port)",
    ),
    "name": (
        "{value!r} is not a name: letters, digits, dot, hyphen and underscore, at most 63",
        "{value!r} は名前に使えません: 英数字、ピリオド、ハイフン、下線で 63 文字まで",
    ),
    "unreadable": ("{path} cannot be read: {why}", "{path} が読めません: {why}"),
    "unreadable?": (
        "check the path (relative ones start from this file's folder) and the file's owner and mode",
        "パス (相対パスはこのファイルのフォルダから) とファイルの所有者・権限を確認してください",
    ),
    "mailbox_format": (
        "{value!r} may contain {{local}}, {{domain}} and {{tag}}, and needs {{local}}",
        "{value!r} に使えるのは {{local}}、{{domain}}、{{tag}} で、{{local}} は必須です",
    ),
    "uidl_format": (
        "{value!r} may contain %u (UID) and %v (UIDVALIDITY), as in %08Xu%08Xv, and needs %u",
        "{value!r} に使えるのは %08Xu%08Xv のような %u (UID) と %v (UIDVALIDITY) で、%u は必須です",
    ),
    "separator": ("{value!r} cannot separate a tag", "{value!r} はタグの区切りに使えません"),
    "separator?": (
        'use "+", "-", "_", "=", "#", "." or "" (no tags)',
        '"+"、"-"、"_"、"="、"#"、"."、または "" (タグなし)',
    ),
    "password_twice": ("gives a password more than once: {names}", "パスワードが二重に指定されています: {names}"),
    "password_twice?": ("keep one of them", "一つだけ残してください"),
    "no_variable": ("the environment has no variable {value}", "環境変数 {value} がありません"),
    "no_variable?": ("set it where the program is started", "プログラムを起動する所で設定してください"),
    "empty_secret": ("{path} begins with an empty line", "{path} の一行目が空です"),
    "empty_secret?": ("put the password on its first line", "一行目にパスワードを書いてください"),
    "login_incomplete": ("way = {way!r} needs user and a password", "way = {way!r} には user とパスワードが必要です"),
    "login_incomplete?": (
        "add user, and password_file or password_env",
        "user と、password_file または password_env を追加してください",
    ),
    "replication_incomplete": ("needs user and a password", "user とパスワードが必要です"),
    "replication_incomplete?": (
        "add user, and password_file or password_env",
        "user と、password_file または password_env を追加してください",
    ),
    "replication_kind": (
        "replication is for kind node and cyrus only, not {kind}",
        "replication は kind が node か cyrus のサーバーでのみ使えます ({kind} では使えません)",
    ),
    "replication_kind?": (
        "remove it; links to other servers use `login`",
        "削除してください。他のサーバーへの複製には `login` が使われます",
    ),
    "xclient_only_smtp": ("xclient_trusted is for smtp only", "xclient_trusted は smtp でのみ使えます"),
    "queue_time_only_smtp": (
        "queue_time is for protocol = \"smtp\" only", "queue_time は protocol = \"smtp\" でのみ使えます"),
    "only_smtp": (
        "{name} is for smtp, submission and submissions only",
        "{name} は smtp、submission、submissions でのみ使えます",
    ),
    "only_dovecot": ("{name} is for kind = \"dovecot\" only", "{name} は kind = \"dovecot\" でのみ使えます"),
    "no_api_key": ("needs a key", "キーが必要です"),
    "no_api_key?": (
        "add api_key_file with what doveadm_api_key says in dovecot.conf",
        "dovecot.conf の doveadm_api_key の値を入れた api_key_file を追加してください",
    ),
    "database_url": (
        "must begin with sqlite:/// or postgresql://",
        "sqlite:/// か postgresql:// で始まらなければなりません",
    ),
    "database_url?": (
        'url = "sqlite:////var/lib/onedomain/directory.db" or url = "postgresql://user@host/name"',
        'url = "sqlite:////var/lib/onedomain/directory.db" または url = "postgresql://user@host/name"',
    ),
    "database_no_file": ("names no file", "ファイル名がありません"),
    "database_no_file?": (
        'url = "sqlite:////var/lib/onedomain/directory.db"', 'url = "sqlite:////var/lib/onedomain/directory.db"',
    ),
    "database_no_name": ("names no database", "データベース名がありません"),
    "database_no_name?": ('url = "postgresql://user@host/name"', 'url = "postgresql://user@host/name"'),
    "database_url_bad": ("is not a URL: {why}", "URL として正しくありません: {why}"),
    "database_url_bad?": (
        'url = "postgresql://user@host:5432/name", the password in password_file',
        'url = "postgresql://user@host:5432/name" とし、パスワードは password_file に書いてください',
    ),
    "retry_order": (
        "first, longest and give_up_after must grow in this order",
        "first、longest、give_up_after はこの順に大きくなければなりません",
    ),
    "twice": ("{value!r} is there twice, first at {other}", "{value!r} は二つあります (一つ目は {other})"),
    "twice?": ("rename or remove one of them", "どちらかの名前を変えるか削除してください"),
    "unknown_server": ("no server is called {value!r}", "{value!r} という名前のサーバーはありません"),
    "unknown_server?": ("servers are: {names}", "サーバー: {names}"),
    "same_port": ("{value} is taken already by {other}", "{value} は {other} が既に使っています"),
    "same_port?": ("give one of them another port or address", "どちらかのポートかアドレスを変えてください"),
    "no_certificate": (
        "{protocol} needs a certificate, and the file names none",
        "{protocol} には証明書が必要ですが、ファイルに指定がありません",
    ),
    "no_certificate?": (
        "add [[tls.certificate]] with certificate and key{plain}",
        "certificate と key を持つ [[tls.certificate]] を追加してください{plain}",
    ),
    "or_plain": (
        ", or plaintext_passwords = true if the network is trusted",
        "。ネットワークが信頼できるなら plaintext_passwords = true でも構いません",
    ),
    "bad_certificate": ("{path} cannot be used: {why}", "{path} は使えません: {why}"),
    "bad_certificate?": (
        "certificate and key must be PEM files that belong together; the key without a passphrase",
        "certificate と key は対になる PEM ファイルで、鍵にパスフレーズがないことを確認してください",
    ),
    "long_control": (
        "{path} is too long for a socket, which may have 107 bytes",
        "{path} はソケットのパスとして長すぎます (107 バイトまで)",
    ),
    "long_control?": (
        'set control = "/run/onedomain/control.sock" in [edge], or take a shorter state folder',
        '[edge] に control = "/run/onedomain/control.sock" を書くか、state を短いパスにしてください',
    ),
    "bad_ca": ("{path} cannot be used: {why}", "{path} は使えません: {why}"),
    "bad_ca?": (
        "it must be a PEM file with the certificates of those who sign the server's",
        "サーバー証明書に署名した認証局の証明書を含む PEM ファイルでなければなりません",
    ),
    "peer_no_port": ("names no port that others could reach", "他のエッジから届くポートがありません"),
    "peer_no_port?": ("give peer_listen and peer_address the same port", "peer_listen と peer_address に同じポートを書いてください"),
    "peer_alone": ("needs peer_listen", "peer_listen が必要です"),
    "drained": ("every server of this unit is draining", "このユニットのサーバーはすべて退避中です"),
    "drained?": ("new accounts need one that is not", "新しいアカウントには退避中でないサーバーが必要です"),
    "inline_password": ("a password stands in this file", "このファイルにパスワードが直接書かれています"),
    "inline_password?": (
        "better {key}_file, which only root or the user of [edge] can read; at least keep this file's mode at 0600",
        "{key}_file (root か [edge] の user だけが読めるもの) を使ってください。少なくともファイルの権限を 0600 にしてください",
    ),
    "plain_passwords": (
        "passwords may cross the network unprotected",
        "パスワードが暗号化されずにネットワークを流れることがあります",
    ),
    "large_messages": (
        "messages above {most} MiB have no second copy",
        "{most} MiB を超えるメールは複製されません",
    ),
    "large_messages?": ("{most}MiB, or less", "{most}MiB 以下にしてください"),
    "no_smarthost": (
        "mail that people send to other domains is refused",
        "他のドメイン宛てに送られるメールは拒否されます",
    ),
    "no_smarthost?": ("add a [smarthost]", "[smarthost] を追加してください"),
}

say = speaker(TEXTS)


def advice(key: str, /, **fields: object) -> str:
    """What to do about a problem; empty where its message says it all."""
    return say(f"{key}?", **fields) if f"{key}?" in TEXTS else ""
