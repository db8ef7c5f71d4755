"""Say which claims that were written after their data are confirmed on fresh seeds.

    python -m experiments.run depth --scale full --set first_seed=2000 --results fresh
    python -m experiments.plot depth --scale full --results fresh --output fresh/figures
    python -m gallery.confirm --scale full --fresh fresh/figures      # after `snakemake figures/all --config scale=full`

A finding or replication that holds, or does not hold, is confirmed if the fresh tables give the same verdict, after Holm's
correction for the claims that are confirmed together. Then it may say `written: confirmed` in its claims.yaml. Only experiments
with fresh tables count.
"""

from collections import Counter
from pathlib import Path

from experiments.pipeline.command_line import parser_of
from gallery.claims import Claim, Tables, correct, judge_all
from gallery.claims_file import ClaimError
from gallery.tables import read_table

CLAIMS = "experiments/*/claims.yaml"


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("python -m gallery.confirm", __doc__, "--scale")
    parser.add_argument(
        "--first", type=Path, default=Path("figures"), help="folder of the first figures; default: figures"
    )
    parser.add_argument("--fresh", type=Path, required=True, help="folder of the figures of fresh seeds")
    options = parser.parse_args(arguments)
    first, fresh = (tables_in(folder / options.scale) for folder in (options.first, options.fresh))
    counts: Counter[str] = Counter()
    for name, before, after in pairs(sorted(Path().glob(CLAIMS)), first, fresh, options.scale):
        outcome = "confirmed" if after.verdict == before.verdict else "not confirmed"
        counts[outcome] += 1
        print(f"{outcome:14}{name}: {before.verdict}, on fresh seeds {after.verdict}")
    print(
        ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "There is no claim to confirm."
    )


def tables_in(folder: Path) -> Tables:
    return {path.stem: read_table(path) for path in sorted(folder.glob("*.csv"))}


def pairs(paths: list[Path], first: Tables, fresh: Tables, scale: str) -> list[tuple[str, Claim, Claim]]:
    """The claims that fresh seeds can confirm by name, with what the first tables and the fresh ones say.

    Raises:
        SystemExit: there is no table, or one that is equal to the first, or claims cannot be judged.
    """
    if same := [stem for stem, rows in fresh.items() if rows == first.get(stem)]:
        raise SystemExit(f"Got the same tables of {', '.join(same)}, expected fresh seeds: draw with other --results.")
    if not fresh:
        raise SystemExit("Got no tables, expected some below --fresh: `python -m experiments.plot` draws them.")
    try:
        both = [judge_all(paths, tables, scale) for tables in (first, fresh)]
    except ClaimError as error:
        raise SystemExit(str(error)) from None
    before, after = (
        {(figure.experiment, figure.stem, claim.id): claim for figure in judged for claim in figure.claims}
        for judged in both
    )
    chosen = [
        key
        for key, claim in before.items()
        if key[1] in fresh and claim.kind != "check" and claim.written == "after"
        if claim.verdict in ("holds", "does not hold")
    ]
    together = correct([after[key] for key in chosen])
    return [("/".join((key[0], key[2])), before[key], now) for key, now in zip(chosen, together, strict=True)]


if __name__ == "__main__":
    main()
