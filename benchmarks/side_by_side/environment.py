"""Make the environment of a peer and record the outcome: `python environment.py benchmarks/peers/spyx.py OUTPUT`.

A failure is recorded and is not an error: the measurements then report it in place of a number. The pipeline tries again
only on request, so environments that were made are kept.
"""

import argparse
import json
from pathlib import Path

from benchmarks.side_by_side.contenders import GPU, BenchmarkError, contenders_of, python_of

TO_TRY_AGAIN = "to try again: snakemake figures/all --forcerun environment"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the peer's")
    parser.add_argument("output", type=Path, help="a JSON file")
    arguments = parser.parse_args()
    contender, error = contenders_of(arguments.file)[0], None  # any of them: they share it
    try:
        python_of(contender)
    except BenchmarkError as failure:
        in_vain = contender.cuda and not GPU.exists()
        error = str(failure) if in_vain else f"{failure}; {TO_TRY_AGAIN}"
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps({"peer": arguments.file.stem, "error": error}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
