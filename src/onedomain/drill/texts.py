"""What the drill says, in English and Japanese. Texts only."""

from __future__ import annotations

from onedomain.texts import Table, speaker

TEXTS: Table = {
    "duration_arg": ("Seconds.", "秒数。"),
    "rate_arg": ("Messages per second from outside.", "外部から届く毎秒の通数。"),
    "people_arg": ("People who change their mail meanwhile.", "その間メールを操作する人数。"),
    "seed_arg": ("Another seed, another order of acts.", "乱数の種。順序が変わります。"),
    "way_arg": ("kill, stop or cut; may be repeated.", "kill、stop、cut (繰り返し可)。"),
    "folder_arg": ("Where the stage and the ledger are kept.", "ステージと台帳を置く場所。"),
    "script_arg": ("Your own servers: a file with the commands that take them away (docs/drill.md).",
                   "自分のサーバーで行う場合、停止コマンドを書いたファイル (docs/drill.md)。"),
    "account_arg": ("A test account, with --script; may be repeated.", "テスト用アカウント (--script と併用、繰り返し可)。"),
    "password_arg": ("A file with the test accounts' password.", "テスト用アカウントのパスワードのファイル。"),
    "script_needs": ("--script needs --account (at least one) and --password-file",
                     "--script には --account と --password-file が必要です"),
    "not_empty": ("{path} is not empty", "{path} は空ではありません"),
    "intro": ("{acts} acts in {duration:.0f} s, seed {seed}; everything is below {folder}",
              "{duration:.0f} 秒に {acts} 回の停止、種 {seed}。ファイルはすべて {folder} にあります"),
    "up": ("up: {name}", "起動: {name}"),
    "flowing": ("mail flows", "メールが流れています"),
    "kill": ("{name} killed with SIGKILL", "{name} を SIGKILL で停止"),
    "stop": ("{name} stopped with SIGSTOP", "{name} を SIGSTOP で停止"),
    "cut": ("{name} cut off", "{name} をネットワークから切断"),
    "back": ("{name} is given back", "{name} を復帰"),
    "stopped": ("no more mail; waiting for the queue", "送信を終え、キューが空になるのを待っています"),
    "counting": ("counting in every mailbox", "全メールボックスを数えています"),
    "act": ("act", "停止"), "at": ("at", "時刻"), "log_ins": ("log-ins again after", "ログイン再開まで"),
    "limit": ("limit", "上限"), "never": ("not before the next act", "次の停止まで再開せず"),
    "result": ("{acknowledged} acknowledged, {found} found, {lost} lost, {doubled} twice",
               "受理 {acknowledged} 通、到着 {found} 通、消失 {lost} 通、重複 {doubled} 通"),
    "swallowed": ("{count} of {changes} other acknowledged changes went down with a server",
                  "その他の受理済み操作 {changes} 件のうち {count} 件がサーバーとともに失われました"),
    "account": ("account", "アカウント"), "mailbox": ("folder", "フォルダ"), "changes": ("changes", "操作"),
    "before": ("at most before its death", "停止前の最長時間"),
    "left": ("{count} message(s) are still in the queue", "キューに {count} 通が残っています"),
    "unknown_left": ("an edge does not say what is still in its queue", "キューの残りが分からないエッジがあります"),
    "late": ("{count} of {acts} times log-ins came back too late", "{acts} 回のうち {count} 回はログイン再開が遅れました"),
    "clean": ("the ledger is clean", "台帳に食い違いはありません"),
    "not_clean": ("THE LEDGER IS NOT CLEAN", "台帳に食い違いがあります"),
}
say = speaker(TEXTS)
