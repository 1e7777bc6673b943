"""The page is what Prometheus reads."""

import urllib.request

from onedomain.app.metrics import serve
from onedomain.trace.counters import Counters


def test_page_has_counters_and_gauges_with_labels() -> None:
    counters = Counters()
    counters.add("messages_received_total", 3, protocol="smtp")
    counters.set("queue_messages", 2)
    server = serve("127.0.0.1", 0, counters.dump)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    finally:
        server.shutdown()
        server.server_close()
    assert 'onedomain_messages_received_total{protocol="smtp"} 3.0' in text
    assert "onedomain_queue_messages 2.0" in text
    assert "# TYPE onedomain_messages_received_total counter" in text
