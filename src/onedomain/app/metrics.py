"""The Prometheus page of an edge: the sum of its processes' counters, served on a port of its own.

Knows Prometheus's format through its library. Does not know who counts what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from onedomain.trace.counters import Dump

PREFIX = "onedomain_"


class Page(Collector):
    """`numbers` returns the latest sum; it is called from the library's thread, so it must only read."""

    def __init__(self, numbers: Callable[[], Dump]) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for name, labels, value, gauge in self._numbers():
            family = families.get(name)
            if family is None:
                family = families[name] = (GaugeMetricFamily if gauge else CounterMetricFamily)(
                    PREFIX + name.removesuffix("_total"), HELP.get(name, name.replace("_", " ")),
                    labels=sorted(labels))
            family.add_metric([labels[key] for key in sorted(labels)], value)  # type: ignore[attr-defined]
        yield from families.values()


HELP = {
    "smtp_messages_total": "Messages answered with 250",
    "recipients_delivered_total": "Recipients a home has acknowledged",
    "recipients_failed_total": "Recipients given up, for good",
    "queue_messages": "Messages accepted and not yet delivered",
    "net_messages": "Messages delivered and held until a replica has them",
    "net_bytes": "Bytes of them in the spool log",
    "net_aside_bytes": "Bytes of them that were set aside",
    "net_oldest_seconds": "Age of the oldest of them",
    "net_moving_accounts": "Accounts of which messages are yet to be put onto a new primary",
    "net_replicated_total": "Messages that links have confirmed on a replica",
    "net_consumed_total": "Messages let go because a filter consumed them",
    "net_rescued_total": "Messages put onto a new primary by the safety net, by the servers",
    "net_refused_total": "Messages that a new primary would not take from the safety net",
    "net_quota_alerts_total": "Alerts of links that leave more behind than their quota",
    "queue_oldest_seconds": "Age of the oldest message in the queue",
    "sessions": "Open sessions by protocol",
    "logins_total": "Log-ins by service and result: ok, refused (wrong password), failed (the home, for now)",
    "appends_held_total": "OKs of APPEND that waited for a replica, by result: covered, released (it took too long)",
    "link_lag_seconds": "Median of the last lags: from a change to the end of the pass that carried it",
    "link_uncovered": "Changes that are not on the replica yet",
    "link_uncovered_seconds": "Age of the oldest of them",
    "links": "Accounts by the state of their link",
    "links_stopped": "Accounts whose link stands still, by why: server, login, tls, room, answer, other",
    "link_passes_total": "Passes of links that came to an end",
    "link_failures_total": "Passes that did not, by the server that failed",
    "link_carried_total": "What passes carried to replicas, by kind",
    "failover_accounts_total": "Accounts that went on at a replica, by the servers",
    "failover_last_timestamp_seconds": "When accounts last went on at a replica, by the servers",
    "failover_pending": "Accounts whose promotion is not carried out yet",
    "failover_unreturned": "Accounts whose old primary is not back as a replica",
    "failover_waiting_servers": "Servers that are down, and whose accounts wait for something",
    "server_usable": "1 where a server's verdict lets work go to it",
    "server_seconds": "EWMA of a server's response time",
}


def serve(address: str, port: int, numbers: Callable[[], Dump]) -> WSGIServer:
    """Serves /metrics in a thread until `shutdown()` is called on what is returned. Raises OSError."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Page(numbers))
    server, _ = start_http_server(port, address, registry)
    return server
