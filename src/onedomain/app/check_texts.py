"""What `onedomain check` says, in English and Japanese. Texts only; `key?` is the advice to `key`."""

from __future__ import annotations

from onedomain.texts import Table, speaker

TEXTS: Table = {
    "dial_ok": ("{what} answers in {ms} ms", "{what} は {ms} ミリ秒で応答しました"),
    "dial_bad": ("{what} does not work: {why}", "{what} が使えません: {why}"),
    "dial_bad?": (
        "is the address right, the server up, the port open to this machine, the TLS mode what the server offers?",
        "アドレス、サーバーの稼働、このマシンからの接続許可、TLS の設定を確認してください",
    ),
    "login_ok": ("log-in for {account} works", "{account} としてログインできました"),
    "login_bad": ("log-in for {account} fails: {why}", "{account} としてのログインに失敗しました: {why}"),
    "login_bad?": (
        "check `login` (way, user, password) here, and on the server that {user} may log in for others",
        "ここの `login` (way、user、password) と、サーバー側で {user} に代理ログインが許されているかを確認してください",
    ),
    "login_unknown": (
        "nobody to try a log-in with: no probe account, and no account of the directory lives here",
        "ログインを試すアカウントがありません (probe もディレクトリ上のアカウントもなし)",
    ),
    "login_unknown?": (
        'add probe = {{ accounts = ["probe@…"] }}', '次を追加してください: probe = {{ accounts = ["probe@…"] }}',
    ),
    "no_find": (
        "a delivery whose answer is lost cannot be looked up here, and may arrive twice",
        "応答が失われた配送をこのサーバーでは照会できず、重複して届くことがあります",
    ),
    "no_find?": (
        'give it a log-in for all accounts: login = {{ way = "master" … }} (Dovecot) or "authzid" (Cyrus, node)',
        '全アカウントに入れるログインを設定してください: login = {{ way = "master" … }} (Dovecot)、"authzid" (Cyrus、node)',
    ),
    "no_probe": (
        "no probe account: that mail really arrives and can be read is not tested",
        "probe アカウントがなく、メールが実際に届き読めることを確認していません",
    ),
    "no_probe?": (
        "make an account there for this purpose, one per storage partition, and name it in `probe`",
        "保存領域ごとに専用アカウントを作り、`probe` に指定してください",
    ),
    "cyrus": (
        "Cyrus drops messages whose Message-ID it has seen, unless told not to; and changes 8-bit header bytes to X",
        "Cyrus は既定で同じ Message-ID のメールを捨て、ヘッダーの 8 ビット文字を X に変えます",
    ),
    "cyrus?": (
        "in imapd.conf: duplicatesuppression: no, munge8bit: no",
        "imapd.conf に duplicatesuppression: no と munge8bit: no を設定してください",
    ),
    "no_doveadm": (
        "as a replica it cannot be given UIDs: gaps are filled with messages that are deleted again, and after a "
        "failover some folders are new to mail programs",
        "レプリカとして UID を指定できません。欠番は仮のメールで埋められ、切り替え後に一部のフォルダが新規扱いになります",
    ),
    "no_doveadm?": (
        "let links use its HTTP interface: doveadm = {{ host = …, port = …, api_key_file = … }}",
        "HTTP インターフェースを使えるようにしてください: doveadm = {{ host = …, port = …, api_key_file = … }}",
    ),
    "accepts_all": (
        "takes mail for {address}, which surely does not exist: what fails there comes back as a bounce",
        "存在しない {address} 宛てを受け付けます。届かないメールは後からエラーとして戻ります",
    ),
    "accepts_all?": (
        "let the server refuse unknown recipients at RCPT, or keep only accounts that exist in the directory",
        "サーバーが未知の宛先を RCPT で拒否するようにするか、ディレクトリには実在のアカウントだけを登録してください",
    ),
    "database_ok": ("{accounts} accounts, {aliases} aliases", "アカウント {accounts}、エイリアス {aliases}"),
    "database_bad": ("the directory cannot be read: {why}", "ディレクトリを読めません: {why}"),
    "database_bad?": ("check `url`, its password, and that the database runs", "`url`、パスワード、データベースの稼働を確認してください"),
    "no_accounts": ("there are no accounts: every recipient is refused", "アカウントがなく、すべての宛先が拒否されます"),
    "no_accounts?": ("onedomain account import people.csv", "onedomain account import people.csv"),
    "homeless": (
        "{count} account(s), {example} among them, live on {server}, which the file does not know",
        "{example} など {count} 件のアカウントの置き場所 {server} が設定にありません",
    ),
    "homeless?": ("add the server, or move the accounts", "サーバーを追加するか、アカウントを移してください"),
    "unitless": (
        "{count} account(s), {example} among them, belong to unit {unit}, which the file does not know",
        "{example} など {count} 件のアカウントのユニット {unit} が設定にありません",
    ),
    "unitless?": ("add the unit, or change the accounts", "ユニットを追加するか、アカウントを変更してください"),
    "expires": ("the certificate {file} ends on {date}", "証明書 {file} の期限は {date} です"),
    "expires?": ("renew it, then `onedomain reload`", "更新してから `onedomain reload` を実行してください"),
    "few_descriptors": (
        "max_sessions of all listeners needs {needed} open files in each worker, and {limit} are allowed here",
        "全リスナーの max_sessions には各ワーカーで {needed} 個のファイルが必要ですが、ここでの上限は {limit} です",
    ),
    "few_descriptors?": (
        "raise LimitNOFILE in the systemd unit (ulimit -Hn in a shell), or lower max_sessions",
        "systemd の LimitNOFILE (シェルでは ulimit -Hn) を上げるか、max_sessions を下げてください",
    ),
    "port_taken": ("the port cannot be opened: {why}", "ポートを開けません: {why}"),
    "port_taken?": ("end the other program, or choose another port", "他のプログラムを止めるか、別のポートにしてください"),
    "smtp": ("delivery", "配送"), "imap": ("IMAP", "IMAP"), "doveadm": ("doveadm's HTTP interface", "doveadm の HTTP インターフェース"),
    "smarthost": ("the smarthost", "スマートホスト"),
}

say = speaker(TEXTS)
