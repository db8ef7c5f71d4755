"""The parts of a page pages/NAME.md that tests and the recording script need."""

import re
from pathlib import Path

PAGES = Path(__file__).parent / "pages"
NAMES = ("braintrace", "jaxpike", "norse", "slax", "snntorch", "spikingjelly", "spyx")


def text_of(name):
    return (PAGES / f"{name}.md").read_text()


def snippet(name):
    """The program in the other framework: the page's only block of `py`."""
    (block,) = re.findall(r"```py\n(.*?)```", text_of(name), flags=re.DOTALL)
    return block


def blocks(name):
    """The program of this library: the blocks of `python`, in order. The first one has the network and its training step."""
    return re.findall(r"```python\n(.*?)```", text_of(name), flags=re.DOTALL)


def rows(name, heading):
    """The pairs (theirs, ours) of the table under a heading, both without their backticks; none if there is no such heading."""
    _, found, section = text_of(name).partition(f"\n## {heading}\n")
    section = section.partition("\n## ")[0] if found else ""
    return re.findall(r"^\| `([^`]*)` \| `([^`]*)` \|", section, flags=re.MULTILINE)
