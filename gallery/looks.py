"""Which claims were frozen before a run at the scale full, and what each run said about them: the looks in looks.yaml.

    python -m gallery.looks freeze 0.4    # before the run: what each claim compares, and the first seeds
    python -m gallery.looks record        # after it and its figures: the verdicts

A run that is frozen has seeds that nobody has looked at, and its settings are frozen with its claims. Experiments without a
number of seeds of ours, such as `throughput`, `demo` and `otpe_paper`, have none to compare, so their claims are never frozen.
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
from experiments.pipeline.results import commit, digest_of
from gallery.claims import Claim, Figure, judge_all
from gallery.claims_file import ClaimError
from gallery.runs import Run, read_run, results_of
from gallery.tables import read_tables

DATA = Path(__file__).with_name("looks.yaml")
(SCALE,) = KEPT
APART = 1000  # first seeds of two looks, so that no seed is in both
NOW = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
HEAD = """\
# Written by `python -m gallery.looks`. A look is a run at the scale full, with its first seeds. A claim has a digest of what it
# compares, says whether this was frozen before the run or is as it was after it, and has the verdict on it.
"""


class Look(NamedTuple):
    """A run, whose results are later than `date`; `seeds` has the first seed of each experiment that has seeds of ours, and
    `settings` a digest of the settings of each experiment.

    `claims` has a list for each EXPERIMENT/ID: the digest of what it compares, whether this is from "before" or "after" the
    run, and the verdict, which is empty until it is recorded, and where a claim that was frozen is no longer there.
    """

    name: str
    date: str
    commit: str
    seeds: dict[str, int]
    settings: dict[str, str]
    claims: dict[str, list[str]]


def read_looks(path: Path = DATA) -> list[Look]:
    return [Look(**look) for look in read_yaml(path)]


def write_looks(looks: Sequence[Look], path: Path = DATA) -> None:
    content = [look._asdict() | {"claims": dict(sorted(look.claims.items()))} for look in looks]
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=200)
    path.write_text(HEAD + text, encoding="utf-8")


def freeze(
    name: str, looks: Sequence[Look], figures: Sequence[Figure], settings: Mapping[str, dict[str, Any]]
) -> list[Look]:
    """The looks with the next one, before its run. One without verdicts has not been run, and gives way.

    Args:
        name: of the look.
        looks: those before.
        figures: with all claims.
        settings: of each experiment at the scale full.
    """
    seeds = {of: one.get("first_seed", 0) for of, one in settings.items() if isinstance(one.get("seeds"), int)}
    run = [look for look in looks if _is_recorded(look)]
    for look in run:
        if look.name == name:
            raise SystemExit(f"The look {name} has been run already. Give the next one another name.")
        near = [of for of, seed in seeds.items() if of in look.seeds and abs(look.seeds[of] - seed) < APART]
        if near:
            raise SystemExit(
                f"Look {look.name} had seeds of {', '.join(near)}. Change first_seed in config.yaml by {APART} or more."
            )
    claims = {}
    for of, claim in _named(figures):
        claims[of] = [claim.form, "before" if of.partition("/")[0] in seeds else "after", ""]
    return [*run, Look(name, NOW, commit(), seeds, _digests(settings), claims)]


def record(look: Look, figures: Sequence[Figure], runs: Mapping[str, Run], settings: Mapping[str, Any]) -> Look:
    """The look with the verdicts of its run, once; what was not frozen in this form, or in these settings, is from after it."""
    if _is_recorded(look):
        raise SystemExit(f"The look {look.name} has been recorded. Freeze the next one, with other seeds.")
    if other := [name for name, run in runs.items() if not _is_of(look, name, run)]:
        raise SystemExit(f"The results of {', '.join(other)} have other seeds than the look {look.name}, or are older.")
    claims, now = dict(look.claims), _digests(settings)
    for name, claim in _named(figures):
        of = name.partition("/")[0]
        is_frozen = _is_frozen(claim, claims.get(name)) and look.settings.get(of) == now.get(of)
        claims[name] = [claim.form, "before" if is_frozen else "after", claim.verdict]
    return look._replace(claims=claims)


def marked(figures: Sequence[Figure], looks: Sequence[Look], runs: Mapping[str, Run]) -> list[Figure]:
    """The figures, whose claims say when they were written and what earlier looks said.

    Results belong to the last recorded look that has their seeds. Without such a look, all claims were written after them.
    """
    found = []
    for figure in figures:
        run = runs.get(figure.experiment)
        recorded = [look for look in looks if _is_recorded(look)]
        while recorded and not (run and _is_of(recorded[-1], figure.experiment, run)):
            recorded.pop()
        found.append(replace(figure, claims=tuple(_marked(one, figure.experiment, recorded) for one in figure.claims)))
    return found


def withdrawn(figures: Sequence[Figure], looks: Sequence[Look]) -> list[str]:
    """The names of claims that were frozen before the last recorded run, and are not among the findings and replications."""
    recorded = [look for look in looks if _is_recorded(look)]
    frozen = [name for look in recorded[-1:] for name, entry in look.claims.items() if entry[1] == "before"]
    return sorted(set(frozen) - {name for name, _ in _named(figures)})


def _marked(claim: Claim, experiment: str, looks: Sequence[Look]) -> Claim:
    """A claim with its kind of evidence, in the last one of these looks."""
    if not looks or claim.kind == "check":
        return claim
    *before, look = looks
    name = f"{experiment}/{claim.id}"
    found = [(one, one.claims.get(name) or _of_form(claim.form, one)) for one in before]  # by form: it was renamed
    earlier = [(one, entry) for one, entry in found if entry]
    earlier = [(one, entry) for one, entry in earlier if entry[2] not in ("", "not run")]
    is_seen = any(one.seeds.get(experiment) == look.seeds.get(experiment) for one, _ in earlier)
    written = "before" if _is_frozen(claim, look.claims.get(name)) and not is_seen else "after"
    is_same = any((form, verdict) == (claim.form, claim.verdict) for _, (form, _, verdict) in earlier)
    if written == "before" and is_same and claim.verdict != "unresolved":
        written = "confirmed"
    return replace(claim, written=written, earlier=tuple((one.name, verdict) for one, (*_, verdict) in earlier))


def _of_form(form: str, look: Look) -> list[str] | None:
    return next((entry for entry in look.claims.values() if entry[0] == form), None)


def _named(figures: Sequence[Figure]) -> list[tuple[str, Claim]]:
    """The findings and replications, EXPERIMENT/ID."""
    return [(f"{one.experiment}/{each.id}", each) for one in figures for each in one.claims if each.kind != "check"]


def _digests(settings: Mapping[str, Any]) -> dict[str, str]:
    return {experiment: digest_of(of)[:12] for experiment, of in settings.items()}


def _is_recorded(look: Look) -> bool:
    return any(verdict for *_, verdict in look.claims.values())


def _is_frozen(claim: Claim, entry: Sequence[str] | None) -> bool:
    return bool(entry) and entry[:2] == [claim.form, "before"]


def _is_of(look: Look, experiment: str, run: Run) -> bool:
    """True if all results are later than the look, and have its seeds if it has some of this experiment."""
    has_seeds = experiment not in look.seeds or run.first_seeds == {look.seeds[experiment]}
    return has_seeds and run.earliest >= look.date


def main() -> None:
    parser = parser_of("python -m gallery.looks", __doc__)
    parser.add_argument("what", choices=("freeze", "record"))
    parser.add_argument("name", nargs="?", default=NOW[:10], help="of the look that is frozen; default: the date")
    options = parser.parse_args()
    looks, paths = read_looks(), sorted(Path("experiments").glob("*/claims.yaml"))
    settings = {name: of[SCALE] for name in experiment_names() if SCALE in (of := scales_of(name))}
    plan = Plan(SCALE, outdated="draw" if options.what == "freeze" else None)  # what is not there yet is left out
    old = [product.label for product in plan.older] + list(plan.stale)
    if options.what == "record" and old:
        raise SystemExit(f"Make and draw everything first. Not current: {', '.join(old[:3])}; {len(old)} in all.")
    try:
        runs = {experiment: read_run(of) for experiment, of in results_of(plan).items()}
        if options.what == "freeze":
            begun = [name for name, run in runs.items() if name in looks[-1].seeds and _is_of(looks[-1], name, run)]
            if begun and not _is_recorded(looks[-1]):
                raise SystemExit(
                    f"The look {looks[-1].name} has results of {', '.join(begun)}. Record it, with what is there."
                )
            looks = freeze(options.name, looks, judge_all(paths, {}, SCALE, is_complete=False), settings)
            print(f"Without seeds of ours: {', '.join(name for name in settings if name not in looks[-1].seeds)}.")
        else:
            figures = judge_all(paths, read_tables(files_of(plan.drawn)), SCALE, is_complete=not plan.left_out)
            looks[-1] = record(looks[-1], figures, runs, settings)
    except ClaimError as error:
        raise SystemExit(f"Some claims cannot be judged, nothing was written.\n{error}") from None
    write_looks(looks)


if __name__ == "__main__":
    main()
