"""What the verbs about messages set aside say, in English and Japanese. Texts only."""

from __future__ import annotations

from onedomain.texts import Table, speaker

TEXTS: Table = {
    "aside_help": ("What links have set aside: deleted messages for a time, and those that a replica refused.",
                   "複製が取り置いたもの: 一定期間残る削除済みメールと、複製先に拒否されたメール。"),
    "list_help": ("List it, of one account or all, at all edges.", "全エッジの取り置きを一覧します (全部または一つのアカウント)。"),
    "restore_help": ("Put an account's into a folder of its server. To be asked at the edge that has them.",
                     "アカウントの分をサーバーのフォルダに戻します。取り置いているエッジで実行してください。"),
    "save_help": ("Write an account's as .eml files. To be asked at the edge that has them.",
                  "アカウントの分を .eml ファイルに書き出します。取り置いているエッジで実行してください。"),
    "forget_help": ("An account's are wanted no more: their place becomes free.",
                    "アカウントの分を不要とし、場所を空けます。"),
    "deleted_help": ("Those that were deleted, instead of those that a replica refused.",
                     "拒否されたものではなく、削除済みのもの。"),
    "folder_help": ("The folder, made where it is not there.", "フォルダ (なければ作ります)。"),
    "into_help": ("An empty folder of this machine for the files.", "書き出し先の空のディレクトリ。"),
    "restored": ("{account}: {added} put into {folder} at {server}, {there} had been there",
                 "{account}: {server} の {folder} に {added} 通を戻しました ({there} 通は既にありました)"),
    "restored_some": ("{count} message(s) it would not take, and nothing was given up here: {why}. Take them with "
                      "`onedomain aside save`",
                      "{count} 通は拒否されました: {why}。取り置きは残っています。`onedomain aside save` で取り出せます"),
    "saved": ("{account}: {count} file(s) in {path}", "{account}: {path} に {count} 件"),
    "forgotten": ("{account}: {count} given up", "{account}: {count} 通を不要としました"),
    "nothing": ("nothing is set aside", "取り置きはありません"),
    "nothing_of": ("nothing of {account} is set aside at this edge; `onedomain aside list` shows which edge has what",
                   "このエッジには {account} の取り置きがありません。`onedomain aside list` でどのエッジにあるか分かります"),
    "not_empty": ("{path} is not an empty folder", "{path} は空のディレクトリではありません"),
    "refused": ("refused", "拒否"), "deleted": ("deleted", "削除済み"),
}

say = speaker(TEXTS)
