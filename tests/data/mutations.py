"""Damage to the bytes of a file."""

import os

from hypothesis import settings
from hypothesis import strategies as st

# FUZZ=100000 pytest tests/data/test_archives.py tries as many inputs, each time others.
TRIES = int(os.environ.get("FUZZ", "0"))
many = settings(max_examples=TRIES or 150, derandomize=not TRIES, database=None)


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with a few bytes changed, and perhaps cut off, with a part left out, twice, or with other bytes put in."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        changed[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    begin, end = sorted(draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    kind = draw(st.sampled_from(["none", "none", "cut", "left out", "twice", "put in"]))
    if kind == "cut":
        return bytes(changed[:begin])
    if kind == "left out":
        return bytes(changed[:begin] + changed[end:])
    if kind == "twice":
        return bytes(changed[:end] + changed[begin:])
    if kind == "put in":
        return bytes(changed[:begin]) + draw(st.binary(max_size=20)) + bytes(changed[begin:])
    return bytes(changed)
