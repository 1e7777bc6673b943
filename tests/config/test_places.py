"""Lines of keys, against a table of TOML's layouts; never an error, whatever the text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onedomain.config.places import line_of, lines

TEXT = '''\
top = 1
[a.b]   # comment ]
"c d" = "x # = ["
e.f = [
  1, # a = [
  { g = 2 },
  "]",
]
h = """
i = 1
"""
[[s]]
name = 'one'
[s.in]
x = 1
[[s]]
name = "two"
t = { u = 1,
 v = [ 2,
 3 ] }
[[s.deep]]
y = 1
'''


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("top",), 1),
        (("a", "b"), 2),
        (("a", "b", "c d"), 3),
        (("a", "b", "e", "f"), 4),
        (("a", "b", "e", "f", 1, "g"), 4),
        (("a", "b", "h"), 9),
        (("a", "b", "i"), 2),
        (("s", 0), 12),
        (("s", 0, "in", "x"), 15),
        (("s", 1, "name"), 17),
        (("s", 1, "t", "v", 0), 18),
        (("s", 1, "deep", 0, "y"), 22),
        (("s", 1, "missing"), 16),
        (("nowhere",), 0),
    ],
)
def test_line(place: tuple[str | int, ...], line: int) -> None:
    assert line_of(place, lines(TEXT)) == line


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="[]{}\"'#=\n ab.\\", max_size=60))
def test_any_text(text: str) -> None:
    assert all(1 <= line <= text.count("\n") + 1 for line in lines(text).values())
