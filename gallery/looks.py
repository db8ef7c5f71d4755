"""Which claims were frozen before a run at the scale full, and what each run said about them: the looks in looks.yaml.

    python -m gallery.looks freeze 0.4    # before the run: what each claim compares, and the first seeds
    python -m gallery.looks record        # after it and `snakemake figures/all --config scale=full`: the verdicts

A run that is frozen has seeds that nobody has looked at. Experiments without a number of seeds of ours, such as `throughput`,
`demo` and `otpe_paper`, have none to compare: a claim that a look has judged on their draws is never new again.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from experiments.pipeline.command_line import parser_of
from experiments.pipeline.config import read_yaml
from experiments.pipeline.job import KEPT, experiment_names, scales_of
from experiments.pipeline.plan import Plan, files_of
from experiments.pipeline.results import commit
from gallery.claims import Claim, Figure, judge_all
from gallery.claims_file import form_of, read_claims
from gallery.runs import Run, read_run, results_of
from gallery.tables import read_tables

DATA = Path(__file__).with_name("looks.yaml")
(SCALE,) = KEPT
HEAD = """\
# Written by `python -m gallery.looks`. Each look is a run at the scale full, with its first seeds. A claim has a digest of what it
# compares, says whether this was frozen before the run or is as it was after it, and has the verdict on it.
"""


class Entry(NamedTuple):
    """A claim in a look: the digest of what it compares, whether this is from "before" or "after" the run, and the verdict,
    which is empty until it is recorded, and where a claim that was frozen is no longer there."""

    form: str
    written: str
    verdict: str


class Look(NamedTuple):
    """A run: `seeds` has the first seed of each experiment that has seeds of ours, `claims` an entry for each EXPERIMENT/ID."""

    name: str
    date: str
    commit: str
    seeds: dict[str, int]
    claims: dict[str, Entry]


def read_looks(path: Path = DATA) -> list[Look]:
    return [
        Look(**look | {"claims": {name: Entry(*entry) for name, entry in look["claims"].items()}})
        for look in read_yaml(path)
    ]


def write_looks(looks: Sequence[Look], path: Path = DATA) -> None:
    content = [
        look._asdict() | {"claims": {name: list(entry) for name, entry in sorted(look.claims.items())}}
        for look in looks
    ]
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=200)
    path.write_text(HEAD + text, encoding="utf-8")


def freeze(name: str, looks: Sequence[Look], paths: Sequence[Path], settings: Mapping[str, dict[str, Any]]) -> Look:
    """The next look, before its run.

    Args:
        name: of the look.
        looks: those before.
        paths: the claims.yaml of the experiments.
        settings: of each experiment at the scale full.
    """
    seeds = {of: int(one.get("first_seed", 0)) for of, one in settings.items() if isinstance(one.get("seeds"), int)}
    for look in looks:
        if look.name == name or not any(entry.verdict for entry in look.claims.values()):
            raise SystemExit(f"The look {look.name} is there already, or has no verdicts: `gallery.looks record`.")
        if same := [experiment for experiment, seed in seeds.items() if look.seeds.get(experiment) == seed]:
            raise SystemExit(f"Look {look.name} had the seeds of {', '.join(same)}. Change first_seed in config.yaml.")
    claims = {
        f"{path.parent.name}/{claim['id']}": Entry(form_of(claim, figure["stem"]), "before", "")
        for path in paths
        for figure in read_claims(path)
        for claim in figure["claims"]
        if claim["kind"] != "check"
    }
    return Look(name, datetime.datetime.now(datetime.UTC).date().isoformat(), commit(), seeds, claims)


def record(look: Look, figures: Sequence[Figure], runs: Mapping[str, Run]) -> Look:
    """The look with the verdicts of its run; what was not frozen in this form is from after the run."""
    if other := [name for name, run in runs.items() if not _is_of(look, name, run)]:
        raise SystemExit(f"The results of {', '.join(other)} have other seeds than the look {look.name}.")
    claims = {name: entry._replace(verdict="") for name, entry in look.claims.items()}
    for name, claim in _named(figures):
        is_frozen = claims.get(name, ())[:2] == (claim.form, "before")
        claims[name] = Entry(claim.form, "before" if is_frozen else "after", claim.verdict)
    return look._replace(claims=claims)


def marked(figures: Sequence[Figure], looks: Sequence[Look], runs: Mapping[str, Run]) -> list[Figure]:
    """The figures, whose claims say when they were written and what earlier looks said.

    Results belong to the last look that has their seeds. Without such a look, all claims were written after them.
    """
    found = []
    for figure in figures:
        run = runs.get(figure.experiment)
        places = [at for at, look in enumerate(looks) if run and _is_of(look, figure.experiment, run)]
        upto = looks[: places[-1] + 1] if places else []
        claims = [_marked(claim, figure.experiment, upto) for claim in figure.claims]
        found.append(replace(figure, claims=tuple(claims)))
    return found


def _marked(claim: Claim, experiment: str, looks: Sequence[Look]) -> Claim:
    """A claim with its kind of evidence, in the last one of these looks."""
    if not looks or claim.kind == "check":
        return claim
    *before, look = looks
    name = f"{experiment}/{claim.id}"
    earlier = [(one, one.claims[name]) for one in before if name in one.claims]
    earlier = [(one, entry) for one, entry in earlier if entry.verdict not in ("", "not run")]
    is_frozen = look.claims.get(name, ())[:2] == (claim.form, "before")
    is_seen = any(one.seeds.get(experiment) == look.seeds.get(experiment) for one, _ in earlier)
    is_decided = claim.verdict in ("holds", "does not hold")
    written = "before" if is_frozen and not is_seen else "after"
    if written == "before" and is_decided and (claim.form, claim.verdict) in [(of.form, of.verdict) for _, of in earlier]:
        written = "confirmed"
    return replace(claim, written=written, earlier=tuple((one.name, entry.verdict) for one, entry in earlier))


def _is_of(look: Look, experiment: str, run: Run) -> bool:
    """True if a run has the seeds of a look, or if the look has none of this experiment."""
    return experiment not in look.seeds or run.first_seeds == {look.seeds[experiment]}


def _named(figures: Sequence[Figure]) -> list[tuple[str, Claim]]:
    """The names of all claims that are no checks, and the claims."""
    return [(f"{one.experiment}/{each.id}", each) for one in figures for each in one.claims if each.kind != "check"]


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("python -m gallery.looks", __doc__)
    parser.add_argument("what", choices=("freeze", "record"))
    parser.add_argument("name", nargs="?", default="", help="of the look that is frozen")
    options = parser.parse_args(arguments)
    looks, paths = read_looks(), sorted(Path("experiments").glob("*/claims.yaml"))
    if (options.what == "freeze") != bool(options.name):
        parser.error("freeze takes the name of the new look, and record none")
    if options.what == "freeze":
        scales = {name: scales_of(name) for name in experiment_names()}
        settings = {name: of[SCALE] for name, of in scales.items() if SCALE in of}
        looks.append(freeze(options.name, looks, paths, settings))
        print(f"Without seeds of ours: {', '.join(name for name in settings if name not in looks[-1].seeds)}.")
    else:
        plan = Plan(SCALE, outdated="draw")
        runs = {experiment: read_run(of) for experiment, of in results_of(plan).items()}
        figures = judge_all(paths, read_tables(files_of(plan.drawn)), SCALE, is_complete=not plan.left_out)
        looks[-1] = record(looks[-1], figures, runs)
    write_looks(looks)


if __name__ == "__main__":
    main()
