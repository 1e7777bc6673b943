"""What the commands about a running edge say, in English and Japanese. Texts only."""

from __future__ import annotations

from onedomain.texts import Table, speaker

TEXTS: Table = {
    "help": ("One mail domain on many mail servers.", "一つのメールドメインを複数のメールサーバーで。"),
    "config_help": ("The configuration file.", "設定ファイル。"),
    "json_help": ("Print JSON.", "JSON で出力します。"),
    "run_help": ("Run this edge in the foreground.", "このエッジをフォアグラウンドで動かします。"),
    "status_help": ("How edges, servers and queue are.", "エッジ、サーバー、キューの状態を表示します。"),
    "trace_help": (
        "Every step of a message, an address or a queue id, on all edges.",
        "メッセージ、アドレス、キュー ID の全経過を全エッジから表示します。",
    ),
    "queue_help": ("Messages accepted and not yet delivered.", "受け付け済みで未配送のメッセージ。"),
    "queue_list_help": ("List the queue, oldest first.", "キューを古い順に一覧します。"),
    "queue_show_help": ("Show one message and each of its recipients.", "一通のメッセージと各宛先を表示します。"),
    "queue_retry_help": ("Try again now.", "今すぐ再試行します。"),
    "queue_hold_help": ("Do not try until released.", "解除するまで配送を止めます。"),
    "queue_release_help": ("End a hold.", "保留を解除します。"),
    "queue_delete_help": ("Remove without a bounce.", "通知を送らずに削除します。"),
    "reload_help": ("Read configuration and certificates again.", "設定と証明書を再読み込みします。"),
    "init_help": ("Write a commented configuration file.", "注釈付きの設定ファイルを作成します。"),
    "check_help": (
        "Validate the file, dial every server, log in, and say what to do.",
        "設定を検証し、全サーバーに接続・ログインし、対処を示します。",
    ),
    "check_file_help": ("Only the file, nothing is dialled.", "ファイルだけを検証し、接続はしません。"),
    "checked": ("{errors} error(s), {warnings} warning(s)", "エラー {errors} 件、警告 {warnings} 件"),
    "server_help": ("The mail servers behind the edges.", "エッジの後ろのメールサーバー。"),
    "server_list_help": ("List servers with their verdicts.", "サーバーと判定の一覧。"),
    "drill_help": (
        "Take servers and edges away under load, and count what became of the mail.",
        "負荷をかけながらサーバーとエッジを止め、メールがどうなったかを数えます。",
    ),
    "demo_help": (
        "Two edges, three nodes, two kills and a ledger, on this machine.",
        "このマシン上で、エッジ二つ・ノード三つ・二度の強制停止・台帳による検証を実演します。",
    ),
    "demo_exit_help": (
        "End when everything is counted, with status 0 only if the ledger is clean.",
        "集計が済んだら終了します。台帳に食い違いがない場合のみ終了コードは 0 です。",
    ),
    "demo_folder_help": ("Where to put everything; it must be empty.", "ファイルの置き場所 (空のフォルダ)。"),
    "demo_not_empty": (
        "{path} is not empty; name another folder", "{path} は空ではありません。別のフォルダを指定してください",
    ),
    "server_show_help": ("What the file says of one server.", "一つのサーバーの設定を表示します。"),
    "no_server": ("no server {name} in the file; known: {known}", "{name} というサーバーはありません。設定済み: {known}"),
    "version_help": ("Print the version.", "バージョンを表示します。"),
    "not_running": (
        "no edge answers at {path} ({why}); start one with `onedomain run --config {config}`",
        "{path} でエッジが応答しません ({why})。`onedomain run --config {config}` で起動してください",
    ),
    "refused": ("the edge says: {why}", "エッジの応答: {why}"),
    "exists": (
        "{path} exists already; name another file or remove it",
        "{path} は既にあります。別名を指定するか削除してください",
    ),
    "written": ("wrote {path}; edit it, then `onedomain check --config {path}`",
                "{path} を作成しました。編集後 `onedomain check --config {path}` を実行してください"),
    "nothing_known": (
        "nothing known of {needle} in the logs of {edges}",
        "{edges} のログに {needle} の記録はありません",
    ),
    "cut": ("… more than {count} events; name a queue id to see one message whole",
            "… {count} 件を超えました。キュー ID を指定すると一通の全経過を表示します"),
    "empty": ("the queue is empty", "キューは空です"),
    "done": ("{count} message(s): {action}", "{count} 通: {action}"),
    "no_such": ("no message {id} in the queue; see `onedomain queue list`",
                "キューに {id} はありません。`onedomain queue list` で確認してください"),
    "which": ("name one or more queue ids, or --all", "キュー ID を指定するか、--all を付けてください"),
    "all_help": ("Every message in the queue.", "キュー内の全メッセージ。"),
    "limit_help": ("The most messages to list.", "一覧する最大件数。"),
    "net_help": (
        "Instead: what is delivered and held until a replica has it, too.",
        "代わりに、配送済みで、複製先に届くまで保持しているもの。"),
    "in_net": ("in the safety net", "安全網に保持"),
    "address_help": ("Only with this sender or recipient.", "この差出人または宛先のものだけ。"),
    "unreachable": ("edge {edge} cannot be asked: {why}", "エッジ {edge} に問い合わせできません: {why}"),
    "reloaded": ("configuration and certificates are read again", "設定と証明書を再読み込みしました"),
    "restart_needed": ("takes effect after a restart: {what}", "再起動後に有効になります: {what}"),
    # table heads
    "edge": ("edge", "エッジ"), "server": ("server", "サーバー"), "kind": ("kind", "種類"),
    "verdict": ("verdict", "判定"), "since": ("since", "以来"), "answers": ("answers in", "応答時間"),
    "in_flight": ("in flight", "処理中"), "waiting": ("waiting", "待ち"), "why": ("why", "理由"),
    "accounts": ("accounts", "アカウント"), "sessions": ("sessions", "セッション"), "queue": ("queue", "キュー"),
    "oldest": ("oldest", "最古"), "directory": ("directory", "ディレクトリ"), "time": ("time", "時刻"),
    "event": ("event", "出来事"), "details": ("details", "詳細"), "id": ("id", "ID"), "age": ("age", "経過"),
    "size": ("size", "サイズ"), "sender": ("sender", "差出人"), "recipient": ("recipient", "宛先"),
    "state": ("state", "状態"), "attempts": ("attempts", "試行"), "next": ("next try", "次の試行"),
    "workers": ("workers", "ワーカー"), "up_for": ("up for", "稼働時間"),
}

say = speaker(TEXTS)
