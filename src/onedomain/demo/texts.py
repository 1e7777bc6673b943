"""What the demonstration says, in English and Japanese. Texts only."""

from __future__ import annotations

from onedomain.texts import Table, speaker

TEXTS: Table = {
    "intro": (
        "{domain} on three nodes, two edges in front; everything is below {folder}",
        "{domain} を三つのノードに置き、前に二つのエッジを立てます。ファイルはすべて {folder} にあります",
    ),
    "up": ("up: {name}", "起動: {name}"),
    "flowing": (
        "mail comes in by SMTP and by submission; people read it over IMAP and POP3 at both edges",
        "SMTP とサブミッションでメールが届き、両方のエッジで IMAP と POP3 により読まれています",
    ),
    "killed": ("{name} killed with SIGKILL", "{name} を SIGKILL で停止"),
    "followed": (
        "the {count} people of {name} go on at {to}, {seconds:.1f} s after it died",
        "{name} の {count} 人は停止から {seconds:.1f} 秒後に {to} で利用を再開",
    ),
    "back": ("{name} started again", "{name} を再起動"),
    "stopped": ("no more mail; waiting for the queue", "送信を終え、キューが空になるのを待っています"),
    "counting": ("counting in the mailboxes of every node", "各ノードのメールボックスを数えています"),
    "result": (
        "{acknowledged} acknowledged, {found} found, {lost} lost, {doubled} twice",
        "受理 {acknowledged} 通、到着 {found} 通、消失 {lost} 通、重複 {doubled} 通",
    ),
    "doubt": (
        "{count} more were found whose answer the sender never saw; it may send those again",
        "送信側が応答を受け取れなかったものが他に {count} 通届いています (送信側が再送し得るもの)",
    ),
    "readers": (
        "people looked {looks} times, were turned away {turned_away} times, lost a connection {broken} times; the "
        "slowest answer took {slowest:.1f} s",
        "閲覧 {looks} 回、拒否 {turned_away} 回、接続断 {broken} 回。最も遅い応答は {slowest:.1f} 秒",
    ),
    "clean": ("the ledger is clean", "台帳に食い違いはありません"),
    "not_clean": ("THE LEDGER IS NOT CLEAN", "台帳に食い違いがあります"),
    "undrained": ("{count} message(s) are still in the queue", "キューに {count} 通が残っています"),
    "connect": (
        "Everything stays up. With your own mail program, on this machine:",
        "このまま動き続けます。このマシンのメールソフトから次の設定で接続できます:",
    ),
    "connect_server": ("server", "サーバー"),
    "connect_or": ("or", "または"),
    "connect_user": ("user, password", "ユーザー、パスワード"),
    "connect_ports": (
        "IMAP {imap} (TLS {imaps}), POP3 {pop3} (TLS {pop3s}), sending {submission} (TLS {submissions}), SMTP {smtp}",
        "IMAP {imap} (TLS {imaps})、POP3 {pop3} (TLS {pop3s})、送信 {submission} (TLS {submissions})、SMTP {smtp}",
    ),
    "connect_look": ("Or look around:", "様子を見るには:"),
    "end": ("Ctrl-C ends it.", "Ctrl-C で終了します。"),
    "load": ("sent", "送信"), "acked": ("acknowledged", "受理"), "pending": ("in doubt", "応答なし"),
    "refused": ("put off", "後回し"), "rate": ("per second", "毎秒"), "looked": ("looked", "閲覧"),
    "away": ("turned away", "拒否"), "slowest": ("slowest", "最遅"), "now": ("now", "現在"), "down": ("down", "停止"),
}

say = speaker(TEXTS)
