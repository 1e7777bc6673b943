"""Counters add up over processes and cannot grow without end."""

from onedomain.trace.counters import MAX_SERIES, Counters, total


def test_counts_of_two_processes_add_up_by_label() -> None:
    one, two = Counters(), Counters()
    one.add("messages_total", server="a")
    one.add("messages_total", 2, server="b")
    two.add("messages_total", server="a")
    two.set("sessions", 3)
    one.set("sessions", 4)
    assert total([one.dump(), two.dump()]) == [
        ("messages_total", {"server": "a"}, 2, False),
        ("messages_total", {"server": "b"}, 2, False),
        ("sessions", {}, 7, True),
    ]


def test_series_are_bounded() -> None:
    counters = Counters()
    for number in range(MAX_SERIES + 10):
        counters.add("x", label=str(number))
    counters.set("gauge", 1)
    assert len(counters.dump()) == MAX_SERIES
