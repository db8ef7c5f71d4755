"""How much memory does a gradient take, as XLA measures it, and how far is the count of `slax_rules.cost` from that?

python -m benchmarks.memory                                     # compiles for minutes; the machine's load does not matter

A row for each rule and window: kilobytes per sample, measured, not counting the inputs, for all lengths; in brackets measured /
counted. The last row has the range of this ratio.
"""

import itertools
import math
from typing import Any

from benchmarks.output import write_rows
from benchmarks.rules import with_read_out
from slax_rules import BPTT, OSTL, OTPE, OTTT, SLTT, ApproximateOTPE, cost

NETWORKS, LENGTHS = ("64-50-10", "64-100-100-10", "700-128-20"), (100, 1000, 10_000)
BATCH, WINDOWS = 32, (1, 10)
CASES: dict[str, tuple[Any, int | None]] = {"BPTT": (BPTT(), None), "BPTT(remat=True)": (BPTT(remat=True), None)}
for rule, window in itertools.product((SLTT(), OTTT(), ApproximateOTPE(), OSTL(), OTPE()), WINDOWS):
    CASES[f"{type(rule).__name__}, window = {window}"] = rule, window


def main() -> None:
    models = {name: with_read_out([*map(int, name.split("-"))]) for name in NETWORKS}
    rows: list[dict[str, str]] = []
    ratios: list[float] = []
    for title, (rule, window) in CASES.items():
        row = {"kB per sample": title}
        for name, model in models.items():
            shapes = [(steps, BATCH, int(name.split("-")[0])) for steps in LENGTHS]
            found = [cost(model, rule, shape, window=window) for shape in shapes]
            measured = [one.measured_bytes or math.nan for one in found]
            of_row = [one / other.counted_bytes for one, other in zip(measured, found, strict=True)]
            cells = [[f"{float(f'{one / 1000:.3g}'):,g}" for one in measured], [f"{one:.2f}" for one in of_row]]
            row[name] = "{} ({})".format(*(" / ".join(dict.fromkeys(cell)) for cell in cells))
            ratios += of_row
        rows.append(row)
    rows.append({"kB per sample": f"measured / counted: {min(ratios):.2f} to {max(ratios):.2f}"})
    write_rows(rows, ["kB per sample", *models])


if __name__ == "__main__":
    main()
