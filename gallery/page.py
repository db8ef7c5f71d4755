"""figures/index.html, all figures on one self-contained page, and two texts: RESULTS.md, every claim with its verdict, and
REPLICATION.md, what both papers publish beside ours."""

import base64
import gzip
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import jinja2
import yaml
from markupsafe import Markup, escape

from gallery import wording
from gallery.claims import Claim, Condition, Figure, Kind, Tables
from gallery.findings import Sentence
from gallery.outcomes import MEANINGS, named
from gallery.replication import Replication
from gallery.runs import Run, together

HERE = Path(__file__).parent
TYPES = {"csv": "text/csv", "png": "image/png", "svg": "image/svg+xml"}
# The columns of numbers in a table of claims, and what a condition has there.
COLUMNS: dict[str, Callable[[Claim, Condition], str]] = {
    "ours": lambda _, condition: wording.ours(condition),
    "expected": lambda _, condition: wording.compared(condition),
    "difference": lambda _, condition: wording.difference(condition),
    "published": wording.published,
}
COLUMNS_OF_TEXT = ("published", "ours", "expected", "difference")
WHERE_TO_READ = re.compile(r"arXiv[ :](?P<arxiv>\d{4}\.\d{4,5})|(?P<doi>\b10\.\d{4,}/[^\s,;]*[^\s,;:.)])")


def page(
    figures: Sequence[Figure],
    runs: dict[str, Run],
    files: dict[str, Path],
    tables: Tables,
    scale: str,
    found: Sequence[Sentence],
    replication: Replication,
) -> str:
    """The complete page, with what we found first.

    Args:
        figures: with their judged claims, in the order of the page.
        runs: the runs that made them, by experiment.
        files: files of all figures, by name: `accuracy.csv`, `accuracy.png`, `accuracy.svg`.
        tables: the rows of each `.csv`, by stem.
        scale: scale of all of them.
        found: what we found.
        replication: what is published beside ours.
    """
    return _rendered(
        "page.html.jinja",
        figures,
        runs,
        scale,
        groups=_groups(figures, found),
        found=found,
        replication=replication,
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((HERE / "page.js").read_text(encoding="utf-8")),
        pictures={figure.stem: picture(figure.stem, files) for figure in figures},
        embedded={figure.stem: embedded(figure.stem, files) for figure in figures},
        columns={figure.stem: columns(figure) for figure in figures},
        words={figure.stem: search_words(tables.get(figure.stem, [])) for figure in figures},
        unclaimed=sorted({Path(name).stem for name in files} - {figure.stem for figure in figures}),
    )


def _groups(figures: Sequence[Figure], found: Sequence[Sentence]) -> dict[str, list[Figure]]:
    """The figures of each experiment, in the order of what we found, then of the other experiments, and the supplement last."""
    groups: dict[str, list[Figure]] = {sentence.figure.experiment: [] for sentence in found}
    for figure in sorted(figures, key=lambda figure: figure.is_supplement):
        groups.setdefault("supplement" if figure.is_supplement else figure.experiment, []).append(figure)
    return {name: of for name, of in groups.items() if of}


def results_page(figures: Sequence[Figure], runs: dict[str, Run], scale: str, found: Sequence[Sentence]) -> str:
    """The complete text, with prose in lines of at most 128 columns."""
    return re.sub(r"\n{3,}", "\n\n", _text(_rendered("results.md.jinja", figures, runs, scale, found=found)))


def replication_page(figures: Sequence[Figure], runs: dict[str, Run], scale: str, replication: Replication) -> str:
    """The complete report, with prose in lines of at most 128 columns."""
    owners = {figure.stem: figure.experiment for figure in figures}
    abouts = [item.about for item in replication.items]
    compared = {name.split("/")[0] for about in abouts for name in about.get("claims", ())}
    compared |= {owners.get(about["ours"]["file"], "") for about in abouts if "ours" in about}
    compared |= {owners.get(about["times"]["seconds"], "") for about in abouts if "times" in about}
    timed = [(runs.get(owners.get(about["times"]["seconds"], "")), about) for about in abouts if "times" in about]
    versions = [
        f"{about['times']['names'][peer]}: {wording.versions(found)}"
        for run, about in timed
        for peer, found in (run.libraries.items() if run else ())
        if peer in about["times"]["names"]
    ]
    more = {"replication": replication, "compared": compared, "meanings": MEANINGS, "versions": versions}
    return re.sub(r"\n{3,}", "\n\n", _text(_rendered("replication.md.jinja", figures, runs, scale, **more)))


def _rendered(
    template: str,
    figures: Sequence[Figure],
    runs: dict[str, Run],
    scale: str,
    groups: dict[str, list[Figure]] | None = None,
    **more: Any,
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "linked": linked,
        "named": named,
        "unlinked": _unlinked,
        "yaml": _as_yaml,
        "plain": _plain,
        "slug": _slug,
        "details": _details,
    }
    kinds: dict[Kind, Counter[str]] = {kind: Counter() for kind in get_args(Kind)}
    claims = [claim for figure in figures for claim in figure.claims]
    for claim in claims:
        kinds[claim.kind][claim.verdict] += 1
    told = {figure.stem: [claim for claim in figure.claims if claim.kind != "check"] for figure in figures}
    experiments: dict[str, list[Figure]] = {}
    for figure in figures:
        experiments.setdefault(figure.experiment, []).append(figure)
    return environment.get_template(template).render(
        scale=scale,
        experiments=experiments,
        runs=runs,
        wording=wording,
        claims=len(claims),
        kinds=kinds,
        changed=sum(claim.uncorrected != claim.verdict for claim in claims),
        told=told,
        groups=groups,
        checks={name: _checks(of) for name, of in (groups or experiments).items()},
        counts=kinds["finding"] + kinds["replication"],
        counts_of={stem: Counter(claim.verdict for claim in of) for stem, of in told.items()},
        **{name: together(getattr(run, name) for run in runs.values()) for name in ("commits", "devices", "machines")},
        seconds=sum(run.seconds for run in runs.values()),
        dates=sorted(date for run in runs.values() for date in (run.first, run.last)),
        older=sum(number for run in runs.values() for number in run.older.values()),
        **more,
    )


def columns(figure: Figure) -> dict[str, Callable[[Claim, Condition], str]]:
    """The columns of numbers in which some condition of the figure's claims has a number. Checks have none."""
    claims = (claim for claim in figure.claims if claim.kind != "check")
    pairs = [(claim, condition) for claim in claims for condition in claim.conditions]
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

    def link(found: re.Match[str]) -> str:
        address = f"https://arxiv.org/abs/{found['arxiv']}" if found["arxiv"] else f"https://doi.org/{found['doi']}"
        return f'<a href="{address}">{found[0]}</a>'

    return Markup(WHERE_TO_READ.sub(link, escape(text)))


def _as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=True, width=100, default_flow_style=None, allow_unicode=True).rstrip()


def _checks(figures: Iterable[Figure]) -> list[tuple[str, Claim]]:
    """The checks of an experiment, each with the stem of its figure."""
    return [(figure.stem, claim) for figure in figures for claim in figure.claims if claim.kind == "check"]


def _details(figures: Iterable[Figure]) -> list[list[str]]:
    """The lines of cells of the table of all claims of figures in Markdown, without columns that are empty."""
    titles = ["claim", "figure", "kind", "written", "source", *COLUMNS_OF_TEXT, "reason for the margin", "verdict"]
    rows = [
        list(map(_plain, _cells(claim, figure.stem)))
        for figure in figures
        for claim in figure.claims
        if claim.kind != "check"
    ]
    shown = [index for index in range(len(titles)) if any(row[index] for row in rows)]
    return [[line[index] for index in shown] for line in (titles, ["---"] * len(titles), *rows)] if rows else []


def _cells(claim: Claim, stem: str) -> list[str]:
    """The cells of a claim, with the numbers of its weakest condition; the page has those of all conditions."""
    said = [COLUMNS[name](claim, claim.weakest or claim.conditions[0]) for name in COLUMNS_OF_TEXT]
    verdict = f"{wording.VERDICT_SYMBOLS[claim.verdict]} {claim.verdict}"
    verdict = ": ".join(filter(None, [verdict, "; ".join(wording.outcome(claim))]))
    return [claim.statement, stem, claim.kind, claim.written, claim.source, *said, claim.why, verdict]


def _unlinked(text: str) -> str:
    """Markdown whose links are only their text: the page is a single file."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)


def _plain(text: str) -> str:
    """Text with Markdown's special characters escaped; angle brackets, which not all Markdown can escape, as entities."""
    return re.sub(r"[\\`*_\[\]|#]", r"\\\g<0>", text).replace("<", "&lt;").replace(">", "&gt;")


def _slug(title: str) -> str:
    """The name that GitHub and the site give to a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _text(rendered: str) -> str:
    lines = (line if line.startswith(("|", "#", "<")) else _wrapped(line) for line in rendered.splitlines())
    return "\n".join(lines) + "\n"


def _wrapped(line: str) -> str:
    indent = "  " if line.startswith("* ") else ""
    return textwrap.fill(line, 128, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
