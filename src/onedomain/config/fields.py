"""Kinds of values that stand in the configuration: durations, sizes, names, networks, paths, secrets.

Knows how each is spelled and checked by itself. Does not know the tables they stand in. An error is raised as a key of
texts.ERRORS with its fields; the context of a validation is a `Surroundings`.
"""

from __future__ import annotations

import ipaddress
import re
import string
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, LiteralString

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from onedomain.model.address import AddressError, parse_address
from onedomain.protocol.pop3.uidl import UidlFormatError, uidl_format

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZES = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`folder` is what relative paths start from."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


def wrong(key: LiteralString, /, **fields: Any) -> PydanticCustomError:
    return PydanticCustomError(key, key, fields)


def domain_name(text: str) -> str:
    """The form that addresses are compared in (Address.key)."""
    return unicodedata.normalize("NFC", text).lower().removesuffix(".")


def other_spelling(name: str) -> str | None:
    """The A-label form of a name in U-labels and the other way round (RFC 5890), where they differ."""
    try:
        plain = name.encode("idna").decode("ascii")
        other = plain if plain != name else domain_name(plain.encode("ascii").decode("idna"))
    except UnicodeError:
        return None
    return other if other != name else None


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ms|s|m|h|d)", value.strip())
        if match is None:
            raise wrong("duration")
        return float(match[1]) * UNITS[match[2]]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong("duration")
    return float(value)


def _size(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+) ?([kKMG]i?B|B|)", value.strip())
        if match is None or match[2] not in SIZES:
            raise wrong("size")
        return int(match[1]) * SIZES[match[2]]
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong("size")
    return value


def _domain(value: str) -> str:
    name = domain_name(value)
    label = r"[^\W_](?:[\w-]{0,61}[^\W_])?"
    if len(name) > 255 or not re.fullmatch(rf"{label}(?:\.{label})*", name):
        raise wrong("domain", value=value)
    return name


def _address(value: str) -> str:
    try:
        return str(parse_address(value))
    except AddressError as error:
        raise wrong("address", value=value, why=str(error)) from None


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise wrong("network", value=value) from None


def _listen_address(value: str) -> str:
    if value in ("", "*"):
        return ""
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise wrong("listen_ip", value=value) from None


def _ip_address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise wrong("ip", value=value) from None


def _host(value: str) -> str:
    """A name or an address, without scheme, port or brackets. Names of machines may have underscores."""
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        pass
    name = value.removesuffix(".")
    # Numbers and dots alone are an address that somebody mistyped.
    if len(name) > 253 or not re.fullmatch(r"[\w-]{1,63}(?:\.[\w-]{1,63})*", name) or re.fullmatch(r"[\d.]+", name):
        raise wrong("host", value=value)
    return value


def _url(value: str) -> str:
    if value and not re.fullmatch(r"https?://[^\s/]+\S*", value):
        raise wrong("url", value=value)
    return value


def _host_and_port(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or not host or ("[" in host) != (":" in host):
        raise wrong("host_and_port", value=value)
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", value):
        raise wrong("name", value=value)
    return value


def _path(value: Any, info: ValidationInfo) -> Path:
    if not isinstance(value, str):
        raise wrong("string_type")
    if not value:
        raise wrong("string_too_short")
    if "\0" in value:
        raise wrong("zero_byte")
    return around(info).folder / value


def _existing(path: Path) -> Path:
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise wrong("unreadable", path=str(path), why=error.strerror or str(error)) from None


def _mailbox_format(value: str) -> str:
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(value) if name is not None}
    except ValueError:
        raise wrong("mailbox_format", value=value) from None
    if not names <= {"local", "domain", "tag"} or "local" not in names:
        raise wrong("mailbox_format", value=value)
    return value


def _uidl_format(value: str) -> str:
    try:
        uidl_format(value)
    except UidlFormatError as error:
        raise wrong("uidl_format", value=value, why=str(error)) from None
    return value


Duration = Annotated[float, BeforeValidator(_duration)]
Size = Annotated[int, BeforeValidator(_size), Field(le=2**60)]
DomainName = Annotated[str, AfterValidator(_domain)]
MailAddress = Annotated[str, AfterValidator(_address)]
Network = Annotated[str, AfterValidator(_network)]
ListenAddress = Annotated[str, AfterValidator(_listen_address)]
IpAddress = Annotated[str, AfterValidator(_ip_address)]
Host = Annotated[str, AfterValidator(_host)]
Url = Annotated[str, AfterValidator(_url), Field(max_length=2000)]
HostAndPort = Annotated[str, AfterValidator(_host_and_port)]
Name = Annotated[str, AfterValidator(_name)]
Port = Annotated[int, Field(ge=0, le=65535)]
FilePath = Annotated[Path, BeforeValidator(_path)]
ReadableFile = Annotated[Path, AfterValidator(_existing), BeforeValidator(_path)]
MailboxFormat = Annotated[str, AfterValidator(_mailbox_format)]
UidlFormat = Annotated[str, AfterValidator(_uidl_format)]


class Table(BaseModel):
    """A table of the file: unknown keys are errors, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Secret(Table):
    """A password: given here, in a file of its own (its first line), or in a variable of the environment."""

    password: str = Field("", repr=False)
    password_file: FilePath | None = None
    password_env: str | None = None

    @model_validator(mode="after")
    def _fetch(self, info: ValidationInfo) -> Secret:
        given = [name for name in ("password", "password_file", "password_env") if name in self.model_fields_set]
        if len(given) > 1:
            raise wrong("password_twice", names=", ".join(given))
        if self.password_file is not None:
            object.__setattr__(self, "password", first_line(self.password_file))
        elif self.password_env is not None:
            if self.password_env not in around(info).environment:
                raise wrong("no_variable", value=self.password_env)
            object.__setattr__(self, "password", around(info).environment[self.password_env])
        return self


def first_line(path: Path) -> str:
    try:
        text = path.read_text("utf-8").split("\n", 1)[0].removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise wrong("unreadable", path=str(path), why=getattr(error, "strerror", None) or str(error)) from None
    if not text:
        raise wrong("empty_secret", path=str(path))
    return text


def around(info: ValidationInfo) -> Surroundings:
    assert isinstance(info.context, Surroundings)
    return info.context
