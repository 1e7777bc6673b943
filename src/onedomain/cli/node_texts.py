"""What `onedomain node` says, in English and Japanese. Texts only."""

from __future__ import annotations

from onedomain.texts import Table, speaker

TEXTS: Table = {
    "node_help": ("The built-in mail server.", "内蔵のメールサーバー。"),
    "account_help": ("Accounts of a node.", "ノードのアカウント。"),
    "config_arg": ("TOML file with the node's settings.", "ノードの設定を書いた TOML ファイル。"),
    "data_arg": ("Directory that the node keeps everything in.", "ノードがすべてを保存するフォルダ。"),
    "json_arg": ("Print JSON.", "JSON で出力します。"),
    "run_help": ("Serve until SIGTERM.", "SIGTERM を受けるまで動かします。"),
    "name_arg": ("How the node calls itself.", "ノードが名乗る名前。"),
    "lmtp_arg": ("address:port for LMTP; may be repeated.", "LMTP の address:port (繰り返し可)。"),
    "imap_arg": ("address:port for IMAP; may be repeated.", "IMAP の address:port (繰り返し可)。"),
    "imaps_arg": ("address:port for IMAP over TLS; may be repeated.", "IMAP over TLS の address:port (繰り返し可)。"),
    "certificate_arg": ("PEM file of the certificate chain.", "証明書チェーンの PEM ファイル。"),
    "key_arg": ("PEM file of its key.", "秘密鍵の PEM ファイル。"),
    "proxy_arg": (
        "Who may log in as anybody (SASL PLAIN authzid).", "誰としてでもログインできるユーザー (SASL PLAIN の authzid)。",
    ),
    "autocreate_arg": (
        "Make accounts when mail or the proxy user asks.", "メールの着信や proxy ユーザーのログインでアカウントを作成します。",
    ),
    "domain_arg": ("Domain that --autocreate applies to.", "--autocreate を適用するドメイン。"),
    "check_help": (
        "Verify everything that is kept, bodies included. Status 1 if anything is wrong.",
        "本文を含む全データを検査します。問題があれば終了コード 1。",
    ),
    "sound": (
        "{accounts} accounts, {folders} folders, {messages} messages, {bytes} bytes: nothing wrong",
        "アカウント {accounts}、フォルダ {folders}、メール {messages} 通、{bytes} バイト: 問題ありません",
    ),
    "unsound": (
        "{accounts} accounts, {folders} folders, {messages} messages, {bytes} bytes: {count} finding(s)",
        "アカウント {accounts}、フォルダ {folders}、メール {messages} 通、{bytes} バイト: 問題 {count} 件",
    ),
    "add_help": (
        "Make an account, or give the one that is there another password.",
        "アカウントを作成します。既にあればパスワードを変更します。",
    ),
    "stdin_arg": ("Read the password from standard input.", "パスワードを標準入力から読みます。"),
    "none_arg": ("Only the proxy user gets in.", "proxy ユーザーだけがログインできます。"),
    "list_help": ("All accounts.", "全アカウントの一覧。"),
    "added": ("{name}: there, and its password is set", "{name}: アカウントとパスワードを設定しました"),
    "added_without": ("{name}: there, without a password of its own", "{name}: アカウントがあります (本人のパスワードなし)"),
    "password": ("Password", "パスワード"),
    "empty": ("the password is empty", "パスワードが空です"),
    "bad_address": ("{address} is not a mail address: {why}", "{address} はメールアドレスではありません: {why}"),
    "command_line": ("command line", "コマンドライン"),
    "settings": ("settings", "設定"),
    "certificate_pair": ("certificate and key go together", "certificate と key は両方必要です"),
    "imaps_certificate": ("imaps needs a certificate and a key", "imaps には certificate と key が必要です"),
    "endpoint": (
        "write it as address:port, such as 127.0.0.1:10143", "127.0.0.1:10143 のように address:port の形で書いてください",
    ),
    "network": ("is not a network such as 192.0.2.0/24", "192.0.2.0/24 のようなネットワークではありません"),
}

say = speaker(TEXTS)
