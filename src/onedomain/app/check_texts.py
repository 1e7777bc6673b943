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
    "no_postmaster": (
        "no mail to {address} is taken ({why}), nor do reports that concern nobody else arrive",
        "{address} 宛てのメールを受け取れません ({why})。他に届け先のない通知も失われます",
    ),
    "no_postmaster?": (
        "name an address here that somebody reads, or make an account or alias of that name",
        "誰かが読むアドレスをここに指定するか、その名前のアカウントまたはエイリアスを作ってください",
    ),
    "no_alerts": (
        "nobody is told of links that stop, servers that die, or failovers: alerts go to the log alone",
        "リンクの停止、サーバーの停止、切り替えの警告が誰にも届きません (ログにのみ残ります)",
    ),
    "no_alerts?": (
        "give the first domain a postmaster that is an account, an alias or forwarded, or write webhook = \"https://…\" here",
        "最初のドメインの postmaster をアカウントかエイリアスにするか、ここに webhook = \"https://…\" を書いてください",
    ),
    "alias_astray": (
        "{count} aliases lead nowhere, {address} among them: {why}",
        "行き先のないエイリアスが {count} 件あります (例 {address}: {why})",
    ),
    "alias_astray?": ("see `onedomain alias list`", "`onedomain alias list` で確認してください"),
    "several_replicas": (
        "{count} accounts name several replicas, {address} among them: only the first ({server}) has a copy",
        "複製先を複数指定したアカウントが {count} 件あります (例 {address})。写しが保たれるのは先頭 ({server}) だけです",
    ),
    "several_replicas?": (
        "name the one that is meant: onedomain account set ADDRESS --replica SERVER",
        "一つだけ指定してください: onedomain account set アドレス --replica サーバー",
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
        "unless told not to, Cyrus drops messages whose Message-ID it has seen, and changes 8-bit header bytes to X; "
        "without a probe account and a log-in for it nobody can see whether this one does",
        "Cyrus は既定で同じ Message-ID のメールを捨て、ヘッダーの 8 ビット文字を X に変えます。probe アカウントとそのログインが"
        "ないため、このサーバーについては確認できません",
    ),
    "cyrus?": (
        "name a probe account in `probe`, or look there: cyr_info conf | grep -E 'duplicatesuppression|munge8bit' has to "
        "say no twice",
        "`probe` に確認用アカウントを指定するか、サーバーで cyr_info conf | grep -E 'duplicatesuppression|munge8bit' を実行し、"
        "両方が no であることを確認してください",
    ),
    "cyrus_unseen": (
        "whether it drops messages by Message-ID and changes 8-bit header bytes could not be seen: {why}",
        "同じ Message-ID のメールを捨てるか、8 ビットのヘッダーを変えるかを確認できませんでした: {why}",
    ),
    "cyrus_unseen?": (
        "look there: cyr_info conf | grep -E 'duplicatesuppression|munge8bit|reject8bit' has to say no each time",
        "サーバーで cyr_info conf | grep -E 'duplicatesuppression|munge8bit|reject8bit' がすべて no であることを確認してください",
    ),
    "cyrus_ok": (
        "keeps messages of the same Message-ID, and 8-bit header bytes, as they are",
        "同じ Message-ID のメールも 8 ビットのヘッダーもそのまま保存します",
    ),
    "suppresses": (
        "says 250 to a second message of the same Message-ID and drops it: who sends again, or edits and resends a draft, "
        "is not heard",
        "同じ Message-ID の二通目に 250 と答えて捨てます。再送されたメールは届きません",
    ),
    "suppresses?": ("in imapd.conf: duplicatesuppression: no", "imapd.conf に duplicatesuppression: no を設定してください"),
    "munges": (
        "changes 8-bit header bytes to X: raw Shift_JIS subjects are destroyed",
        "ヘッダーの 8 ビット文字を X に変えます。生の Shift_JIS の件名は失われます",
    ),
    "munges?": ("in imapd.conf: munge8bit: no", "imapd.conf に munge8bit: no を設定してください"),
    "link_needs_login": (
        "takes part in replicas, and links have no log-in for its accounts: no copy is kept",
        "複製に使われますが、全アカウントに入れるログインがなく、写しは作られません",
    ),
    "link_needs_login?": (
        'add login = {{ way = "master" … }} (Dovecot), way = "authzid" (other servers), or for Cyrus '
        "replication = {{ user = …, password_file = … }} with one of its admins",
        'login = {{ way = "master" … }} (Dovecot)、way = "authzid" (その他)、Cyrus では admins の一人による '
        "replication = {{ user = …, password_file = … }} を追加してください",
    ),
    "link_needs_replication": (
        "takes part in replicas, and has no replication user here: no copy is kept",
        "複製に使われますが、replication の指定がなく、写しは作られません",
    ),
    "link_needs_replication?": (
        "add replication = {{ user = …, password_file = … }}, the same as replication_user in the node's own file",
        "replication = {{ user = …, password_file = … }} を追加し、ノードの設定の replication_user と同じにしてください",
    ),
    "link_login_ok": ("links can log in", "複製のログインができました"),
    "link_login_bad": ("links cannot log in: {why}", "複製のログインに失敗しました: {why}"),
    "link_login_bad?": (
        "check user and password here, and what that user may do on the server",
        "ここの user と password、サーバー側でのその user の権限を確認してください",
    ),
    "no_administrator": (
        "as a replica it cannot be given UIDs: gaps are filled with messages that are deleted again, and after a "
        "failover some folders are new to mail programs",
        "レプリカとして UID を指定できません。欠番は仮のメールで埋められ、切り替え後に一部のフォルダが新規扱いになります",
    ),
    "no_administrator?": (
        "let links use one of its admins: replication = {{ user = …, password_file = … }}",
        "admins の一人を指定してください: replication = {{ user = …, password_file = … }}",
    ),
    "expires_dovecot": (
        "keeps second copies; what its own expiry takes away there is missing after a failover (autoexpunge runs whenever a "
        "log-in ends, ours too), and nobody can ask it for that",
        "写しを保ちます。サーバー自身の期限切れ削除 (autoexpunge はログインが終わるたびに動きます) で消えたメールは切り替え後に"
        "失われ、その設定は外から確認できません",
    ),
    "expires_dovecot?": (
        "doveconf -n | grep -E 'autoexpunge|expire' must say nothing on this server, or the same as on the primary's",
        "このサーバーで doveconf -n | grep -E 'autoexpunge|expire' が何も示さないか、主サーバーと同じであることを確認してください",
    ),
    "expires_cyrus": (
        "keeps second copies; what cyr_expire takes away there by annotations is missing after a failover",
        "写しを保ちます。注釈に従って cyr_expire が消したメールは切り替え後に失われます",
    ),
    "expires_cyrus?": (
        "in cyradm `info user.*` must show no `expire`, or the same as on the primary's server",
        "cyradm の `info user.*` に `expire` がないか、主サーバーと同じであることを確認してください",
    ),
    "expires_not": (
        "cyr_expire takes nothing away from the {count} account(s) with copies here that were asked",
        "写しを持つ {count} 件のアカウントを調べ、cyr_expire の期限はありませんでした",
    ),
    "expires_cyrus_seen": (
        "keeps second copies, and cyr_expire takes messages away in {count} folder(s) of {asked} account(s) that were asked, "
        "after {days} day(s) in {folder}: what it took is missing after a failover",
        "写しを保ちますが、調べた {asked} 件のアカウントの {count} フォルダで cyr_expire がメールを消します ({folder} は {days} 日)。"
        "消えたメールは切り替え後に失われます",
    ),
    "expires_cyrus_seen?": (
        "in cyradm: mboxcfg user/… expire none; or let the primary's server do the same",
        "cyradm で mboxcfg user/… expire none とするか、主サーバーも同じ設定にしてください",
    ),
    "expires_imap": (
        "keeps second copies; what it takes away by age is missing after a failover",
        "写しを保ちます。古いメールを自動で消すと、切り替え後に失われます",
    ),
    "expires_imap?": (
        "turn off what deletes old messages there, or have the same on the primary's server",
        "古いメールの自動削除を止めるか、主サーバーと同じにしてください",
    ),
    "differs": (
        "is {here} here, and {there} at the edge {edge}: edges that judge differently promote too early or not at all",
        "がここでは {here}、エッジ {edge} では {there} です。判断が異なると、早すぎる切り替えや切り替え漏れが起きます",
    ),
    "differs?": ("write the same into the files of all edges", "全エッジの設定ファイルに同じ値を書いてください"),
    "no_user": ("{name} is not known on this machine", "{name} はこのマシンにありません"),
    "no_user?": ("make it (adduser --system --group onedomain), or name another", "作成するか (adduser --system --group onedomain)、別の名前にしてください"),
    "not_for_user": ("{user} may not use {path}, which is needed while running", "{user} は実行中に必要な {path} を使えません"),
    "not_for_user?": ("change its owner or mode, and those of the folders above", "所有者か権限を (上のフォルダも含めて) 変更してください"),
    "no_room": (
        "{folder} has {free} bytes free, and {kept} are to be kept free: every message is answered with 452",
        "{folder} の空きは {free} バイトで、{kept} バイトを空けておく設定のため、すべてのメールに 452 を返します",
    ),
    "no_room?": ("make room there, or lower spool_free", "空きを増やすか、spool_free を下げてください"),
    "no_doveadm": (
        "as a replica it cannot be given UIDs: gaps are filled with messages that are deleted again, and after a "
        "failover some folders are new to mail programs",
        "レプリカとして UID を指定できません。欠番は仮のメールで埋められ、切り替え後に一部のフォルダが新規扱いになります",
    ),
    "no_doveadm?": (
        "let links use its HTTP interface: doveadm = {{ host = …, port = …, api_key_file = … }}",
        "HTTP インターフェースを使えるようにしてください: doveadm = {{ host = …, port = …, api_key_file = … }}",
    ),
    "uidl_assumed": (
        "POP3 clients are shown UIDLs as {format}, which is assumed: where this server's own POP3 made others, they fetch "
        "every message again on the first day",
        "POP3 の UIDL は既定の {format} で示されます。このサーバー自身の POP3 と異なる場合、初日に全メールが再受信されます",
    ),
    "uidl_assumed?": (
        "look there ({where}), and write what it says as uidl_format, also if it is the same",
        "サーバーで確認し ({where})、同じ値でも uidl_format に書いてください",
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
