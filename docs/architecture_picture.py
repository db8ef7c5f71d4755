"""Draw docs/architecture.svg, the rooms of each package and their imports: `python docs/architecture_picture.py`.

A room is a folder, or a file next to the folders. The floors are the layers of the import contracts in pyproject.toml, which
the linter enforces; the arrows are the imports in the code.
"""

import ast
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PICTURE = Path(__file__).with_name("architecture.svg")
PACKAGES = ("slax_rules", "slax_neurons", "slax_data", "slax_viz")
PER_LINE = 3  # boxes
WIDTH, HEIGHT, GAP, LIFT = 128, 24, 14, 34  # of a box, between boxes, and between floors
# The path of the data, from files to the page that judges the claims about them.
WAY = (
    ("slax_data", "Task: spikes [T, B, N], labels"),
    ("slax_neurons", "connect, unroll: outputs"),
    ("slax_rules", "gradients, fit: window by window"),
    ("experiments/*/jobs.py, run.py", "results/*.json, with settings"),
    ("experiments/*/plot.py, slax_viz", "figures/*.csv, png, svg"),
    ("gallery", "index.html, RESULTS.md"),
)


class Box(NamedTuple):
    x: float
    y: float


def floors(package: str) -> list[list[str]]:
    """The rooms of a package by floor, from the top down, as listed in its import contract."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = [contract["layers"] for contract in contracts if contract.get("containers") == [package]]
    return [[room.strip() for room in layer.split("|")] for layer in layers]


def imports(package: str) -> set[tuple[str, str]]:
    """The pairs of rooms in which the first imports the second."""
    source = ROOT / "packages" / package.replace("_", "-") / "src" / package
    found = set()
    for file in source.rglob("*.py"):
        room = file.relative_to(source).with_suffix("").parts[0]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}."):
                other = str(node.module).split(".")[1]
                if room not in (other, "__init__"):
                    found.add((room, other))
    return found


def picture() -> str:
    """The picture as SVG."""
    parts: list[str] = []
    x, bottom = 20.0, 0.0
    for package in PACKAGES:
        boxes, lines = _place(package, x)
        width = PER_LINE * (WIDTH + GAP) if max(map(len, lines)) > 1 else WIDTH + GAP
        arrows = sorted(imports(package))
        parts.append(_text(x, 34, f"{package}: {len(boxes)} rooms, {len(arrows)} arrows", "title"))
        parts += [_arrow(boxes[upper], boxes[lower]) for upper, lower in arrows]
        parts += [_box(box, room) for room, box in boxes.items()]
        bottom = max(bottom, *(box.y for box in boxes.values()))
        x += width + 26
    y = bottom + HEIGHT + 62
    parts.append(_text(20, y - 14, "The way of the data", "title"))
    step = (x - 46) / len(WAY)
    for index, (where, what) in enumerate(WAY):
        left = 20 + index * step
        parts.append(f'<rect x="{left:.0f}" y="{y:.0f}" width="{step - 26:.0f}" height="46" rx="5" class="box"/>')
        parts.append(_text(left + 8, y + 19, where, "strong"))
        parts.append(_text(left + 8, y + 36, what, "small"))
        if index:
            parts.append(f'<path d="M{left - 23:.0f} {y + 23:.0f}h18" class="arrow"/>')
    return _document(x, y + 66, parts)


def _place(package: str, x: float) -> tuple[dict[str, Box], list[list[str]]]:
    """The position of each room, and the rooms in each line of boxes."""
    boxes, y, lines = {}, 54.0, []
    for floor in floors(package):
        for start in range(0, len(floor), PER_LINE):
            line = floor[start : start + PER_LINE]
            lines.append(line)
            boxes |= {room: Box(x + index * (WIDTH + GAP), y) for index, room in enumerate(line)}
            y += HEIGHT + (8 if start + PER_LINE < len(floor) else LIFT)
    return boxes, lines


def _box(box: Box, room: str) -> str:
    rect = f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="4" class="box"/>'
    return rect + _text(box.x + WIDTH / 2, box.y + 16, room, "room")


def _arrow(upper: Box, lower: Box) -> str:
    start, end = (upper.x + WIDTH / 2, upper.y + HEIGHT), (lower.x + WIDTH / 2, lower.y)
    bend = (end[1] - start[1]) / 2
    return (
        f'<path d="M{start[0]:.0f} {start[1]:.0f}C{start[0]:.0f} {start[1] + bend:.0f} '
        f'{end[0]:.0f} {end[1] - bend:.0f} {end[0]:.0f} {end[1] - 2:.0f}" class="arrow"/>'
    )


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}">{text}</text>'


def _document(width: float, height: float, parts: list[str]) -> str:
    style = (
        "text{font:12px sans-serif;fill:#222}.title{font-size:14px;font-weight:bold}.strong{font-weight:bold}"
        ".small{font-size:11px}.room{text-anchor:middle}.box{fill:#fff;stroke:#0072b2}"
        ".arrow{fill:none;stroke:#777;stroke-opacity:.7;marker-end:url(#tip)}"
    )
    tip = (
        '<marker id="tip" markerWidth="8" markerHeight="8" refX="6" refY="3" orient="auto">'
        '<path d="M0 0L6 3L0 6z" fill="#777"/></marker>'
    )
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}">\n<style>{style}</style><defs>{tip}</defs>\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
