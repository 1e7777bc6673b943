"""Hashes as Dovecot and crypt(3) write them: right passwords let in, all others not, damage named at import."""

# ruff: noqa: E501 (hashes are long)

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.directory.credentials import (
    MAX_PASSWORD,
    CredentialError,
    check,
    make,
    verify,
)
from tests.lab.process import need

PASSWORD = "pässwörd"

# Made with `doveadm pw` of Dovecot 2.3.19, openssl passwd, and mkpasswd (yescrypt).
VECTORS = [
    "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$ee4F66ZZXxHu5ibcENiVXQ$v/KPxNaxjeC8SQUkodCBcPdDrIayGH53wFRJLNJKkkk",
    "$argon2id$v=19$m=65536,t=3,p=1$ee4F66ZZXxHu5ibcENiVXQ$v/KPxNaxjeC8SQUkodCBcPdDrIayGH53wFRJLNJKkkk",
    "{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$NamfmvsVslk2B8np37ndRQ$rG0JuMeqYON7DOryZbLUumxXnu6350GunhPRcOkrKTg",
    "{SHA512-CRYPT}$6$wjIxyaWAXZ/OfvjA$ymhBJWzhUU8kPSSWsDw0Tf/KtwKXlrgS3xo9ry/J1A2dGTLF.SwDDxRsNeiVFMpy7Qoyed8wWPv9TVHw29olL0",
    "$6$wjIxyaWAXZ/OfvjA$ymhBJWzhUU8kPSSWsDw0Tf/KtwKXlrgS3xo9ry/J1A2dGTLF.SwDDxRsNeiVFMpy7Qoyed8wWPv9TVHw29olL0",
    "{SHA256-CRYPT}$5$vypZjRzFSe6wW5GO$Dtmxl.v4C8FZCRtfxqhl2PQLVq3DIijgVlg3.eLsHI1",
    "{BLF-CRYPT}$2y$05$AU5WIsuxfHGPbLGFhU2j1.1FLSGYaCfyP3eQETrgsuxjngKOEPaWG",
    "$2y$05$AU5WIsuxfHGPbLGFhU2j1.1FLSGYaCfyP3eQETrgsuxjngKOEPaWG",
    "{CRYPT}$2y$05$SSJpQ1.41f9d9cfIla.xFuC3GUL/FiCgZDyZxnc93Mmg5gi/8uRYO",
    "{MD5-CRYPT}$1$zCN36ori$OoqbEZJa2pyqt3MIx5GGd.",
    "{MD5}$1$AprAKOmb$35eOA9H2GyfajEuRMZwPC/",
    "{MD5}12841e4ba5e37d2fbfc78458c6714ade",
    "{DES-CRYPT}UCuF7N9WThMrE",
    "{CRYPT}UCuF7N9WThMrE",
    "{SSHA}3t3YAsKyHr5xmLJV8kMqPe93sOxjJse9",
    "{ssha.HEX}f38a2eefa738935beaa045c7c3f6e12b2b35c3dc9d5ca720",
    "{SHA}9Rfd8dMqES/xrVXGbRsSyzjn6Pc=",
    "{SHA1}9Rfd8dMqES/xrVXGbRsSyzjn6Pc=",
    "{SSHA256}ZBzN2aKfDCNhoMJ2zRgdcgqxuYSCRMbmPgwrqTjHzCSu0xuh",
    "{SHA256}RpcL73Cs7YEj8NXQlHF+KlzUEgQeA7JjdgSf5lsoNKQ=",
    "{SHA256.B64}RpcL73Cs7YEj8NXQlHF+KlzUEgQeA7JjdgSf5lsoNKQ=",
    "{SSHA512}/xCTkGSKneauMeVMCHtjUzZSUxXt+m7w7TjTjJhq5Rhso6YpCpz4fsrmsKRlYySyBFGYkOzv3xxSWeU4hxkIKgWID8w=",
    "{SHA512}csf+G9M7eFdGqclPm4DSWRzTjzwTyKpD91N/MqKoxfm10c7ha2nwIS4OOalNg/V7zzomuud2AHzrsB8NYxEnPg==",
    "{SHA512}72c7fe1bd33b785746a9c94f9b80d2591cd38f3c13c8aa43f7537f32a2a8c5f9b5d1cee16b69f0212e0e39a94d83f57bcf3a26bae776007cebb01f0d6311273e",
    "{SMD5}Ac/mXUF/lQVK39T9nl6KWoNMBxs=",
    "{LDAP-MD5}EoQeS6XjfS+/x4RYxnFK3g==",
    "{PLAIN-MD5}12841e4ba5e37d2fbfc78458c6714ade",
    "{PBKDF2}$1$yVAgIAE0dtBwaDc8$5000$83e80d4043aa121410aaf4a248ffdb8033d782cf",
    "{CRAM-MD5}4a60bd37924fc5d45b4c92ce695bac86cb234bc3028aab2a71a225cb0dedfbb9",
    "{HMAC-MD5}4A60BD37924FC5D45B4C92CE695BAC86CB234BC3028AAB2A71A225CB0DEDFBB9",
    "{SCRAM-SHA-1}4096,XddeFdVDiC8AYJj3UgmvLQ==,nWPRQsin+XRgO9bBOX9cUbmrdi0=,JFe8j6lTVtlVdWz873jAofCagnE=",
    "{SCRAM-SHA-256}4096,Hl2PmzZGXMDCZo31hBAv8A==,dk2+4Tu6/yOF7vIGN+oFSb46HxTCIMgtZnFnvGE+OKk=,CdNktKr6aL6Rf8mTXaD2v8i4VmdXyy32GEUbk2gxFjo=",
    "{PLAIN}pässwörd",
    "{CLEAR}pässwörd",
    "{CLEARTEXT}pässwörd",
    "{PLAIN.b64}cMOkc3N3w7ZyZA==",
    "{plain.hex}70c3a4737377c3b67264",
]  # fmt: skip

DAMAGED = [
    ("", "no scheme"),
    ("secret", "no scheme"),
    ("{NTLM}abc", "unknown scheme {NTLM}"),
    ("{SHA}", "20 octets expected"),
    ("{SHA}9Rfd8dMqES/xrVXGbRsSyzjn6Pc", "not base64"),
    ("{SHA.hex}xyz", "not hexadecimal"),
    ("{SSHA}9Rfd8dMqES/xrVXGbRsSyzjn6Pc=", "then the salt"),
    ("{SHA256}9Rfd8dMqES/xrVXGbRsSyzjn6Pc=", "32 octets"),
    ("{ARGON2ID}$argon2i$v=19$m=32768,t=4,p=1$NamfmvsVslk2B8np37ndRQ$rG0JuMeqYON7D", "damaged"),
    ("$argon2id$v=19$m=99999999,t=3,p=1$ee4F66ZZXxHu5ibcENiVXQ$v/KPxNaxjeC8SQUkod", "costs more"),
    ("{SHA512-CRYPT}$5$vypZjRzFSe6wW5GO$Dtmxl.v4C8FZCRtfxqhl2PQLVq3DIijgVlg3.eLsHI1", "another kind"),
    ("$6$rounds=999999999$salt$hash", "costs more"),
    ("$2y$31$AU5WIsuxfHGPbLGFhU2j1.1FLSGYaCfyP3eQETrgsuxjngKOEPaWG", "costs more"),
    ("{CRYPT}!locked-account", "another kind"),
    ("{CRYPT}*", "another kind"),
    ("{PBKDF2}$1$salt$x$83e8", "{PBKDF2}"),
    ("{CRAM-MD5}4a60bd37924fc5d45b4c92ce695bac86", "64 hexadecimal digits"),
    ("{SCRAM-SHA-1}4096,XddeFdVDiC8AYJj3UgmvLQ==,nWPR,JFe8j6lTVtlVdWz873jAofCagnE=", "20 octets"),
    ("{SCRAM-SHA-256}99999999,Hl2PmzZGXMDCZo31hBAv8A==,dk2+,CdNk", "rounds,salt,key,key"),
    ("{SCRAM-SHA-256}4096,=,dk2+,CdNk", "not base64"),
    ("{PLAIN}a\nb", "one line"),
    ("{PLAIN}", "no password"),
    ("{PLAIN.b64}%", "not base64"),
]


@pytest.mark.parametrize("stored", VECTORS)
def test_vectors(stored: str) -> None:
    check(stored)
    assert verify(stored, PASSWORD)
    for other in ("", PASSWORD[:-3], "?" + PASSWORD, "passwörd", PASSWORD + "\0", "x" * 5000, "\udc80"):
        assert not verify(stored, other)


@pytest.mark.parametrize(("stored", "message"), DAMAGED)
def test_damaged_forms_are_named_and_let_nobody_in(stored: str, message: str) -> None:
    with pytest.raises(CredentialError) as caught:
        check(stored)
    assert message in str(caught.value)
    secret = stored.partition("}")[2]
    assert not secret or len(secret) < 8 or secret not in str(caught.value)
    assert not verify(stored, PASSWORD)
    assert not verify(stored, secret)


def test_yescrypt() -> None:
    from onedomain.directory.crypt import crypt

    stored = crypt(PASSWORD.encode(), b"$y$j9T$F5Jx5fExrKuPp53xLKQ..1$").decode()
    assert verify(stored, PASSWORD) and not verify(stored, "x")


@pytest.mark.parametrize("scheme", ["ARGON2ID", "SHA512-CRYPT", "SSHA256"])
def test_made_hashes(scheme: str) -> None:
    stored = make(PASSWORD, scheme)
    assert verify(stored, PASSWORD) and not verify(stored, "x")
    assert make(PASSWORD, scheme) != stored


@pytest.mark.parametrize("password", ["", "a\0b", "x" * (MAX_PASSWORD + 1)])
def test_passwords_that_cannot_be(password: str) -> None:
    with pytest.raises(CredentialError):
        make(password)


def test_no_new_hashes_in_old_schemes() -> None:
    with pytest.raises(CredentialError, match="use ARGON2ID"):
        make("x", "SHA")


@pytest.mark.real
@pytest.mark.parametrize("password", ["secret", PASSWORD, "x" * 64, "x" * 65, "パスワード ' \" $1$ {x}"])
def test_dovecot_takes_ours_and_we_take_dovecots(password: str) -> None:
    need("dovecot", "doveadm")
    doveadm = shutil.which("doveadm") or "doveadm"

    def pw(*arguments: str) -> str:
        done = subprocess.run([doveadm, "pw", *arguments, "-p", password], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    for scheme in ("ARGON2ID", "BLF-CRYPT", "SHA512-CRYPT", "SHA256-CRYPT", "MD5-CRYPT", "CRYPT", "SSHA", "SSHA256.HEX",
                   "SSHA512", "SHA512", "PBKDF2", "PLAIN", "PLAIN-MD5", "LDAP-MD5", "SMD5", "CRAM-MD5",
                   "SCRAM-SHA-1", "SCRAM-SHA-256"):  # fmt: skip
        assert verify(pw("-s", scheme), password), scheme
    for stored in ("{ARGON2ID}" + make(password), "{SHA512-CRYPT}" + make(password, "SHA512-CRYPT"),
                   make(password, "SSHA256")):  # fmt: skip
        assert "verified" in pw("-t", stored)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40) | st.from_regex(r"\{[A-Z0-9-]+(\.hex|\.b64)?\}[!-~]{0,40}", fullmatch=True), st.text(max_size=8))
def test_any_stored_text_is_checked_or_named(stored: str, password: str) -> None:
    try:
        check(stored)
    except CredentialError:
        assert not verify(stored, password)
        return
    right = verify(stored, password)
    assert not right or password, "nobody gets in without a password"
