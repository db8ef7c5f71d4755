"""Say which claims that were written after their data are confirmed on fresh seeds.

    python -m experiments.run depth --scale full --set first_seed=2000 --results fresh
    python -m experiments.plot depth --scale full --results fresh --output fresh/figures
    python -m gallery.confirm --scale full --fresh fresh/figures      # after `snakemake figures/all --config scale=full`

A finding or replication that holds, or does not hold, is confirmed if the fresh tables give the same verdict, after Holm's
correction for the claims that are confirmed together. Then it may say `written: confirmed` in its claims.yaml. Only figures
with fresh tables count; one that is the same as before has nothing in it that depends on a seed.
"""

from collections import Counter
from pathlib import Path

from experiments.pipeline.command_line import parser_of
from gallery.claims import correct, judge_all
from gallery.claims_file import ClaimError
from gallery.tables import read_table


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("python -m gallery.confirm", __doc__, "--scale")
    parser.add_argument("--first", type=Path, default=Path("figures"), help="folder of the first figures: figures")
    parser.add_argument("--fresh", type=Path, required=True, help="folder of the figures of fresh seeds")
    options = parser.parse_args(arguments)
    first, fresh = (
        {path.stem: read_table(path) for path in sorted((folder / options.scale).glob("*.csv"))}
        for folder in (options.first, options.fresh)
    )
    drawn = {stem for stem, rows in fresh.items() if rows != first.get(stem)}  # not those in which no seed is
    if not drawn:
        raise SystemExit(
            "Got no tables of fresh seeds below --fresh, expected some: `python -m experiments.plot` draws them."
        )
    try:
        judged = [
            judge_all(sorted(Path().glob("experiments/*/claims.yaml")), of, options.scale) for of in (first, fresh)
        ]
    except ClaimError as error:
        raise SystemExit(str(error)) from None
    pairs = [
        (f"{one.experiment}/{before.id}", before, after)
        for one, other in zip(*judged, strict=True)
        for before, after in zip(one.claims, other.claims, strict=True)
        if one.stem in drawn and before.kind != "check" and before.written == "after"
        if before.verdict in ("holds", "does not hold")
    ]
    counts: Counter[str] = Counter()
    for (name, before, _), after in zip(pairs, correct([after for _, _, after in pairs]), strict=True):
        outcome = "confirmed" if after.verdict == before.verdict else "not confirmed"
        counts[outcome] += 1
        print(f"{outcome:14}{name}: {before.verdict}, on fresh seeds {after.verdict}")
    print(
        ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "There is no claim to confirm."
    )


if __name__ == "__main__":
    main()
