"""What would go wrong with this configuration, found out by trying: dials, log-ins, the directory, certificates.

Knows what to try and how bad each outcome is. Does not know how findings are shown. Changes nothing anywhere: what is
delivered to a probe account is taken away again.
"""

from __future__ import annotations

import asyncio
import datetime
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from cryptography import x509

from onedomain.app import check_links, check_user, descriptors
from onedomain.app.backends import Backends
from onedomain.app.check_texts import TEXTS, say
from onedomain.app.inherited import open_listener
from onedomain.app.real import RealClock, RealNonce, names
from onedomain.app.smarthost import smarthosts
from onedomain.backend.base import DELIVERY, IMAP, ClientInfo
from onedomain.backend.link.doveadm import Doveadm
from onedomain.backend.mailserver import MailServer, Tools
from onedomain.config import Config, Problem
from onedomain.config.places import line_of, lines
from onedomain.config.problem import Place
from onedomain.decision.agreement import differences
from onedomain.decision.recipient import Refuse, resolve
from onedomain.directory.book import Book
from onedomain.directory.delta import Delta
from onedomain.directory.repository import GONE_AFTER, Edge, Repository
from onedomain.model.account import Account, Alias
from onedomain.model.address import Address
from onedomain.model.failure import Failed
from onedomain.model.health import Seen, Sighting
from onedomain.model.server import Endpoint, LoginWay, Server
from onedomain.net.listen import bind
from onedomain.net.tls import ClientContexts
from onedomain.store.sql import AWAY, Database, DatabaseError

SOON = datetime.timedelta(days=14)
AT_ONCE = 16
POP3_KEYS = {"dovecot": "doveconf pop3_uidl_format", "cyrus": "cyr_info conf | grep uidl_format",
             "imap": "UIDL, asked of its own POP3"}
"""Where a server's own UIDLs are to be seen; a node has none but ours."""


class Weight(Enum):
    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    weight: Weight
    problem: Problem


class _Nobody:
    """A check's failures are its findings; no board is told."""

    def saw(self, sighting: Sighting) -> None:
        pass


class Check:
    """`run` yields findings as they come. `ports`: also try to open the listeners, when no edge is running."""

    def __init__(self, config: Config, *, ports: bool) -> None:
        self._config = config
        self._ports = ports
        self._lines = lines(config.path.read_text("utf-8-sig"))
        self._people: dict[str, list[Account]] = defaultdict(list)
        self._copies: dict[str, list[Account]] = defaultdict(list)
        self._roles = check_links.roles(config, ())

    async def run(self) -> AsyncIterator[Finding]:
        for problem in self._config.warnings:
            yield Finding(Weight.WARNING, problem)
        for finding in (*self._certificates(), *self._descriptors(), *self._user(), *self._room(),
                        *(self._listeners() if self._ports else ())):
            yield finding
        async for finding in self._directory():
            yield finding
        tools = Tools(ClientContexts(names(self._config)), _Nobody(), RealNonce(), self._config.name)
        backends = Backends(tools)
        backends.configure(self._config.servers)
        try:
            limit = asyncio.Semaphore(AT_ONCE)
            asked = [self._server(limit, index, backends(server.name), tools)
                     for index, server in enumerate(self._config.servers)]
            asked += [self._smarthost(host.probe(DELIVERY)) for host in
                      smarthosts(self._config, tools.contexts, tools.watch, tools.nonce)]
            for done in asyncio.as_completed(asked):
                for finding in await done:
                    yield finding
        finally:
            await backends.close()

    def _say(self, weight: Weight, place: Place, key: str, **fields: object) -> Finding:
        advice = say(f"{key}?", **fields) if f"{key}?" in TEXTS and weight is not Weight.OK else ""
        return Finding(weight, Problem(place, say(key, **fields), advice, line_of(place, self._lines)))

    # -- this machine

    def _certificates(self) -> Iterator[Finding]:
        now = datetime.datetime.fromtimestamp(RealClock().time(), datetime.UTC)
        for index, table in enumerate(self._config.tls.certificate):
            certificate = x509.load_pem_x509_certificates(table.certificate.read_bytes())[0]
            ends = certificate.not_valid_after_utc
            if ends < now + SOON:
                weight = Weight.ERROR if ends < now else Weight.WARNING
                yield self._say(weight, ("tls", "certificate", index, "certificate"), "expires",
                                file=table.certificate, date=ends.date())

    def _descriptors(self) -> Iterator[Finding]:
        limit, needed = descriptors.allowed(), descriptors.needed(self._config)
        if limit < needed:
            yield self._say(Weight.WARNING, ("listener",), "few_descriptors", limit=limit, needed=needed)

    def _user(self) -> Iterator[Finding]:
        for place, key, fields in check_user.lacks(self._config):
            yield self._say(Weight.ERROR, place, key, **fields)

    def _room(self) -> Iterator[Finding]:
        """On the disk of the spool."""
        folder = next(path for path in (self._config.state, *self._config.state.absolute().parents) if path.is_dir())
        free, kept = shutil.disk_usage(folder).free, self._config.limits.spool_free
        if free <= kept:
            yield self._say(Weight.ERROR, ("limits", "spool_free"), "no_room", folder=folder, free=free, kept=kept)

    def _listeners(self) -> Iterator[Finding]:
        for index, listener in enumerate(self._config.listeners):
            try:
                for sock in open_listener(listener, shared=False):
                    sock.close()
            except Failed as error:
                yield self._say(Weight.ERROR, ("listener", index, "port"), "port_taken", why=error.failure.reason)
        others: list[tuple[Place, str, int]] = []
        if (metrics := self._config.file.metrics) is not None:
            others.append((("metrics", "port"), metrics.address or "0.0.0.0", metrics.port))
        if (peers := self._config.file.edge.peer_listen) is not None:
            name, _, number = peers.rpartition(":")
            others.append((("edge", "peer_listen"), name.strip("[]"), int(number)))
        for place, host, port in others:
            try:
                bind(host, port, reuse_port=False).close()
            except OSError as error:
                why = f"{host}:{port}: {error.strerror or error}"
                yield self._say(Weight.ERROR, place, "port_taken", why=why)

    # -- the directory

    async def _directory(self) -> AsyncIterator[Finding]:
        file = self._config.database_file
        if file is not None and not file.exists() and (file.parent.is_dir() or file.parent == self._config.state):
            yield self._say(Weight.WARNING, ("directory",), "no_accounts")  # and it is not made here
            return
        try:
            database = await Database.open(self._config.database_url)
            try:
                repository = Repository(database, RealClock())
                accounts, aliases = await repository.accounts(), await repository.aliases()
                edges = await repository.edges()
            finally:
                await database.close()
        except (DatabaseError, *AWAY) as error:
            yield self._say(Weight.ERROR, ("directory", "url"), "database_bad", why=str(error).split("\n")[0])
            return
        for finding in self._differences(edges):
            yield finding
        if not accounts:
            yield self._say(Weight.WARNING, ("directory",), "no_accounts")
            return
        yield self._say(Weight.OK, ("directory",), "database_ok", accounts=len(accounts), aliases=len(aliases))
        self._roles = check_links.roles(self._config, accounts)
        for finding in (*self._strays(accounts), *self._astray(accounts, aliases)):
            yield finding
        if several := check_links.several(accounts):
            first = several[0]
            yield self._say(Weight.WARNING, ("directory",), "several_replicas", count=len(several),
                            address=first.address, server=first.home.replicas[0])

    def _differences(self, edges: Iterable[Edge]) -> Iterator[Finding]:
        now = RealClock().time()
        others = {edge.name: edge.settings for edge in edges
                  if edge.name != self._config.name and now - edge.seen < GONE_AFTER}
        for each in differences(self._config.shared, others):
            yield self._say(Weight.ERROR, ("failover", each.key), "differs", here=each.here, there=each.there,
                            edge=each.edge)

    def _strays(self, accounts: Iterable[Account]) -> Iterator[Finding]:
        units: dict[str, list[Account]] = defaultdict(list)
        for account in accounts:
            self._people[account.home.primary].append(account)
            units[account.unit].append(account)
            for name in account.home.replicas:
                self._copies[name].append(account)
        for server in self._people.keys() - {server.name for server in self._config.servers}:
            found = self._people[server]
            yield self._say(Weight.ERROR, ("server",), "homeless", count=len(found), example=found[0].address,
                            server=server)
        for unit in units.keys() - {unit.name for unit in self._config.units}:
            found = units[unit]
            yield self._say(Weight.ERROR, ("unit",), "unitless", count=len(found), example=found[0].address, unit=unit)

    def _astray(self, accounts: Iterable[Account], aliases: Iterable[Alias]) -> Iterator[Finding]:
        """Addresses of ours that the edge would not take mail for."""
        book = Book(self._config.domains, self._config.units, self._config.servers)
        book.apply(Delta(0, accounts=tuple(accounts), aliases=tuple(aliases), whole=True))
        for index, domain in enumerate(self._config.file.domain):
            # RFC 5321 section 4.5.1; bounces that fail and alerts go there, too
            found = resolve(book, Address("postmaster", domain.name))
            if isinstance(found, Refuse):
                yield self._say(Weight.WARNING, ("domain", index, "postmaster"), "no_postmaster",
                                address=f"postmaster@{domain.name}", why=found.failure.reason or found.failure.text)
            if index == 0 and not self._config.alerts.webhook and (
                    isinstance(found, Refuse) or not self._config.alerts.mail):
                yield self._say(Weight.WARNING, ("alerts",), "no_alerts")
        refused = [(alias.address, found.failure) for alias in aliases
                   if isinstance(found := resolve(book, self._called(alias)), Refuse)]
        if refused:
            address, failure = refused[0]
            yield self._say(Weight.WARNING, ("directory",), "alias_astray", count=len(refused), address=address,
                            why=failure.reason or failure.text)

    def _called(self, alias: Alias) -> Address:
        local, _, domain = alias.address.rpartition("@")
        return Address(local or "onedomain-check-nobody", domain)

    # -- the servers

    async def _server(self, limit: asyncio.Semaphore, index: int, backend: MailServer, tools: Tools) -> list[Finding]:
        place: Place = ("server", index)
        async with limit:
            delivery, imap = await asyncio.gather(backend.probe(DELIVERY), backend.probe(IMAP))
            found = [self._dialled((*place, "delivery"), say("smtp"), delivery),
                     self._dialled((*place, "imap"), say("imap"), imap)]
            if imap.seen is Seen.OK:
                found += await self._log_in(place, backend)
                found += await self._links(place, backend.server, tools)
            if delivery.seen is Seen.OK and await self._takes_anybody(backend):
                found.append(self._say(Weight.WARNING, (*place, "delivery"), "accepts_all", address=self._nobody()))
            if backend.server.kind == "cyrus":
                up = delivery.seen is Seen.OK and imap.seen is Seen.OK
                found += await self._cyrus((*place, "kind"), backend, up)
        if backend.server.doveadm is not None:
            found.append(await self._doveadm((*place, "doveadm"), backend.server, backend.server.doveadm))
        asked = await check_links.expiries(backend, self._copies[backend.server.name]) if imap.seen is Seen.OK else None
        if asked is not None:
            found.append(self._expiry(place, *asked))
        return found + list(self._advice(place, backend.server, asked is not None))

    def _expiry(self, place: Place, asked: int, days: dict[str, int]) -> Finding:
        if not days:
            return self._say(Weight.OK, place, "expires_not", count=asked)
        folder = min(days, key=lambda name: (days[name], name))
        return self._say(Weight.WARNING, place, "expires_cyrus_seen", folder=folder, days=days[folder],
                         count=len(days), asked=asked)

    async def _doveadm(self, place: Place, server: Server, endpoint: Endpoint) -> Finding:
        doveadm = Doveadm(endpoint, server.doveadm_key, ClientContexts(names(self._config)))
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            await doveadm.probe()
        except Failed as error:
            return self._say(Weight.ERROR, place, "dial_bad", what=say("doveadm"),
                             why=error.failure.reason or error.failure.text)
        finally:
            await doveadm.close()
        return self._say(Weight.OK, place, "dial_ok", what=say("doveadm"), ms=round((clock() - began) * 1000))

    def _dialled(self, place: Place, what: str, sighting: Sighting) -> Finding:
        if sighting.seen is Seen.OK:
            return self._say(Weight.OK, place, "dial_ok", what=what, ms=round(sighting.seconds * 1000))
        return self._say(Weight.ERROR, place, "dial_bad", what=what, why=sighting.reason or sighting.seen.value)

    async def _log_in(self, place: Place, backend: MailServer) -> list[Finding]:
        server = backend.server
        if server.login_way is LoginWay.PASSWORD:
            return []  # nobody's password is known here; the probe has tried that of the probe account
        people = self._people.get(server.name)
        if not people:
            return [self._say(Weight.WARNING, place, "login_unknown")]
        account = people[0]
        try:
            session = await backend.log_in(account, None, ClientInfo())
        except Failed as error:
            return [self._say(Weight.ERROR, (*place, "login"), "login_bad", account=account.address,
                              user=server.master_user, why=error.failure.reason or error.failure.text)]
        await session.stream.aclose()
        return [self._say(Weight.OK, (*place, "login"), "login_ok", account=account.address)]

    async def _takes_anybody(self, backend: MailServer) -> bool:
        try:
            return await backend.takes(self._nobody())
        except Failed:
            return False  # it answers, and doesn't say; nothing to warn of

    def _nobody(self) -> str:
        return f"onedomain-check-nobody@{self._config.file.domain[0].name}"

    def _advice(self, place: Place, server: Server, asked: bool) -> Iterator[Finding]:
        if server.login_way is LoginWay.PASSWORD:
            yield self._say(Weight.WARNING, place, "no_find")
        if not server.probe_accounts:
            yield self._say(Weight.WARNING, place, "no_probe")
        if server.name in self._roles and (key := check_links.no_login(server)):
            yield self._say(Weight.ERROR, place, key)
        for key in check_links.advice(server, self._roles, asked=asked):
            yield self._say(Weight.WARNING, place, key)
        popped = any(listener.protocol == "pop3" for listener in self._config.listeners)
        if popped and server.kind in POP3_KEYS and self._config.file.server[int(place[1])].uidl_format is None:
            # No IMAP or LMTP tells it, and nobody names us the server's own POP3 port.
            yield self._say(Weight.WARNING, place, "uidl_assumed", format=server.uidl_format,
                            where=POP3_KEYS[server.kind])

    async def _links(self, place: Place, server: Server, tools: Tools) -> list[Finding]:
        if server.name not in self._roles or check_links.no_login(server):
            return []
        why = await check_links.try_login(server, tools, self._people.get(server.name, ()))
        place = (*place, "replication" if server.replication_user else "login")
        if why is None:
            return []
        if why:
            return [self._say(Weight.ERROR, place, "link_login_bad", why=why)]
        return [self._say(Weight.OK, place, "link_login_ok")]

    async def _cyrus(self, place: Place, backend: MailServer, up: bool) -> list[Finding]:
        """Two settings of imapd.conf that nobody tells, seen in what becomes of two messages to a probe account."""
        manners, why = None, ""
        if up and backend.server.probe_accounts:
            try:
                manners = await backend.manners(backend.server.probe_accounts[0])
            except Failed as error:
                why = error.failure.reason or error.failure.text
        if why:
            return [self._say(Weight.WARNING, place, "cyrus_unseen", why=why)]
        if manners is None:
            return [self._say(Weight.WARNING, place, "cyrus")]
        found = [key for key, bad in (("suppresses", manners.suppresses), ("munges", manners.munges)) if bad]
        if not found:
            return [self._say(Weight.OK, place, "cyrus_ok")]
        return [self._say(Weight.WARNING, place, key) for key in found]

    async def _smarthost(self, probe: Awaitable[Sighting]) -> list[Finding]:
        return [self._dialled(("smarthost",), say("smarthost"), await probe)]
