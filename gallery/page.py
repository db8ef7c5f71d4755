"""figures/index.html: all figures on one self-contained page."""

import base64
import gzip
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup, escape

from gallery import wording
from gallery.claims import Claim, Condition, Figure, Tables
from gallery.runs import Run, together

HERE = Path(__file__).parent
TYPES = {"csv": "text/csv", "png": "image/png", "svg": "image/svg+xml"}
# The columns of numbers in a table of claims, and what a condition has there.
COLUMNS: dict[str, Callable[[Claim, Condition], str]] = {
    "ours": lambda _, condition: wording.ours(condition),
    "expected": lambda _, condition: wording.compared(condition),
    "difference": lambda _, condition: wording.difference(condition),
    "published": wording.published,
    "deviation": lambda _, condition: wording.deviation(condition),
}
WHERE_TO_READ = re.compile(r"arXiv[ :](?P<arxiv>\d{4}\.\d{4,5})|(?P<doi>\b10\.\d{4,}/[^\s,;]*[^\s,;:.)])")


def page(figures: Sequence[Figure], runs: dict[str, Run], files: dict[str, Path], tables: Tables, scale: str) -> str:
    """The complete page.

    Args:
        figures: with their judged claims, in the order of the page.
        runs: the runs that made them, by experiment.
        files: files of all figures, by name: `accuracy.csv`, `accuracy.png`, `accuracy.svg`.
        tables: the rows of each `.csv`, by stem.
        scale: scale of all of them.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"linked": linked, "yaml": _as_yaml}
    experiments = {
        name: [figure for figure in figures if figure.experiment == name]
        for name in dict.fromkeys(figure.experiment for figure in figures)
    }
    return environment.get_template("page.html.jinja").render(
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((HERE / "page.js").read_text(encoding="utf-8")),
        scale=scale,
        experiments=experiments,
        runs=runs,
        claims=sum(len(figure.claims) for figure in figures),
        counts=Counter(claim.verdict for figure in figures for claim in figure.claims),
        counts_of={figure.stem: Counter(claim.verdict for claim in figure.claims) for figure in figures},
        verdicts=list(wording.VERDICT_SYMBOLS),
        wording=wording,
        pictures={figure.stem: picture(figure.stem, files) for figure in figures},
        embedded={figure.stem: embedded(figure.stem, files) for figure in figures},
        columns={figure.stem: columns(figure) for figure in figures},
        words={figure.stem: search_words(tables.get(figure.stem, [])) for figure in figures},
        commits=together(run.commits for run in runs.values()),
        devices=together(run.devices for run in runs.values()),
        seconds=sum(run.seconds for run in runs.values()),
        dates=sorted(date for run in runs.values() for date in (run.first, run.last) if date),
        older=sum(number for run in runs.values() for number in run.older.values()),
        jobs=sum(number for run in runs.values() for number in run.commits.values()),
        unclaimed=sorted({Path(name).stem for name in files} - {figure.stem for figure in figures}),
    )


def columns(figure: Figure) -> dict[str, Callable[[Claim, Condition], str]]:
    """The columns of numbers in which some condition of the figure's claims has a number."""
    pairs = [(claim, condition) for claim in figure.claims for condition in claim.conditions]
    return {name: say for name, say in COLUMNS.items() if any(say(*pair) for pair in pairs)}


def picture(stem: str, files: dict[str, Path]) -> str | None:
    """The file with the picture to show: vectors, which pack into a tenth of what a PNG takes."""
    return next((f"{stem}.{form}" for form in ("svg", "png") if f"{stem}.{form}" in files), None)


def embedded(stem: str, files: dict[str, Path]) -> dict[str, dict[str, str]]:
    """The picture and the table of a figure by name, which are in the page: for each its kind and its packed bytes."""
    names = [name for name in (picture(stem, files), f"{stem}.csv") if name in files]
    return {name: {"kind": TYPES[Path(name).suffix[1:]], "data": packed(files[name])} for name in names}


def packed(path: Path) -> str:
    """A file, compressed by gzip, in the letters of base64; page.js unpacks it."""
    return base64.b64encode(gzip.compress(path.read_bytes(), mtime=0)).decode()


def search_words(rows: Iterable[dict[str, str]]) -> str:
    """The additional search terms of a figure: the rules, tasks and neurons in its table."""
    found = dict.fromkeys(row[name] for row in rows for name in ("rule", "task", "neuron") if row.get(name))
    return " ".join(word for name in found for word in dict.fromkeys((name, name.replace("_", " "))))


def linked(text: str) -> Markup:
    """Text in which arXiv numbers and DOIs are links."""
    parts, end = [], 0
    for match in WHERE_TO_READ.finditer(text):
        number = match["arxiv"]
        address = f"https://arxiv.org/abs/{number}" if number else f"https://doi.org/{match['doi']}"
        parts += [escape(text[end : match.start()]), Markup('<a href="{}">{}</a>').format(address, match[0])]
        end = match.end()
    return Markup("").join([*parts, escape(text[end:])])


def _as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=True, width=100, default_flow_style=None, allow_unicode=True).rstrip()
