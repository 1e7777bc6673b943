"""What a node is told: a TOML file of its own, or arguments of the command line.

Knows names, defaults and what makes no sense. Does not know what is done with it.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_core import PydanticCustomError

PASSWORD_VARIABLE = "ONEDOMAIN_NODE_PROXY_PASSWORD"
REPLICATION_PASSWORD_VARIABLE = "ONEDOMAIN_NODE_REPLICATION_PASSWORD"


@dataclass(frozen=True, slots=True)
class Fault:
    """`kind` is pydantic's, or one of ours; `text` says it in English, for want of a better one."""

    place: str
    kind: str
    text: str
    fields: Mapping[str, Any]


class BadSettings(Exception):
    """The text names the file and says why it cannot be read, or each place and what to do, as the faults do."""

    def __init__(self, text: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(text)
        self.faults = tuple(faults)


def _endpoint(text: str) -> str:
    try:
        endpoint(text)
    except ValueError as error:
        raise PydanticCustomError("endpoint", "{why}", {"why": str(error)}) from None
    return text


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise PydanticCustomError("network", "{why}", {"why": str(error)}) from None
    return text


def endpoint(text: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` -> (host, port). Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("write it as address:port, such as 127.0.0.1:10143")
    return host.strip("[]"), int(port)


ListenAt = Annotated[str, AfterValidator(_endpoint)]
Network = Annotated[str, AfterValidator(_network)]


class NodeSettings(BaseModel):
    """Ports may be 0: any. Sizes in bytes, times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path
    name: str = "localhost"
    lmtp: tuple[ListenAt, ...] = ("127.0.0.1:10024",)
    imap: tuple[ListenAt, ...] = ("127.0.0.1:10143",)
    imaps: tuple[ListenAt, ...] = ()
    certificate: Path | None = None
    key: Path | None = None

    proxy_user: str = ""
    proxy_password: SecretStr = SecretStr("")
    proxy_password_file: Path | None = None

    replication_user: str = ""
    """Who may keep this node in step with another server: sees and changes all accounts."""
    replication_password: SecretStr = SecretStr("")
    replication_password_file: Path | None = None

    autocreate: bool = False
    """Whether mail or a log-in of the proxy user for an account that is not there makes it."""
    domains: tuple[str, ...] = ()
    """Where `autocreate` applies; everywhere if empty."""

    trusted: tuple[Network, ...] = ("127.0.0.0/8", "::1/128")
    """Peers that may log in without TLS, and whose word counts for the address of their client."""
    proxy_protocol_from: tuple[Network, ...] = ()

    max_message: int = Field(default=128 * 1024 * 1024, ge=1024 * 1024)
    max_sessions: int = Field(default=10_000, ge=1)
    max_recipients: int = Field(default=1000, ge=100)
    idle_timeout: float = Field(default=1800, ge=60)
    """RFC 3501 section 5.4: not below thirty minutes for IMAP clients that are logged in."""
    login_timeout: float = Field(default=60, ge=5)

    @model_validator(mode="after")
    def _make_sense(self) -> NodeSettings:
        if (self.certificate is None) != (self.key is None):
            raise PydanticCustomError("certificate_pair", "certificate and key go together")
        if self.imaps and self.certificate is None:
            raise PydanticCustomError("imaps_certificate", "imaps needs a certificate and a key")
        return self

    def secret(self) -> str:
        """The proxy user's password: from the file, the settings or the environment; "" lets no proxy user in."""
        if self.proxy_password_file is not None:
            return self.proxy_password_file.read_text(encoding="utf-8").strip()
        return self.proxy_password.get_secret_value() or os.environ.get(PASSWORD_VARIABLE, "")

    def replication_secret(self) -> str:
        """Likewise of the replication user."""
        if self.replication_password_file is not None:
            return self.replication_password_file.read_text(encoding="utf-8").strip()
        return self.replication_password.get_secret_value() or os.environ.get(REPLICATION_PASSWORD_VARIABLE, "")

    def takes(self, account: str) -> bool:
        """Whether an account of this name may be made without being asked for."""
        return self.autocreate and (not self.domains or account.rpartition("@")[2] in self.domains)


def load(path: Path | None, **given: object) -> NodeSettings:
    """The file's settings, those `given` (not None) above them. Raises BadSettings."""
    settings: dict[str, object] = {}
    if path is not None:
        try:
            settings = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise BadSettings(f"{path}: {error}") from None
    settings |= {name: value for name, value in given.items() if value is not None}
    try:
        return NodeSettings.model_validate(settings)
    except ValidationError as error:
        faults = [Fault(".".join(map(str, each["loc"])), each["type"], each["msg"], each.get("ctx", {}))
                  for each in error.errors()]
        text = "\n".join(f"{path or 'command line'}: {fault.place or 'settings'}: {fault.text}" for fault in faults)
        raise BadSettings(text, faults) from None
