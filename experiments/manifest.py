"""List the checksums of spikes, results and figures: `sha256sum -c figures/all` then verifies them, on any machine.

    python -m experiments.manifest results/quick/accuracy/digits/bptt.json ... --output figures/all

A file that differs from its certificate stops it: no damaged file is listed.
"""

import argparse
import time
from pathlib import Path

from experiments.common.products import certificate_of, manifest_product
from experiments.common.provenance import certify, require_intact, run_of
from experiments.common.result_files import atomic_write
from experiments.common.sources import Sources


def main() -> None:
    parser = argparse.ArgumentParser(
        "experiments.manifest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--output", type=Path, default=Path("figures/all"), help="default: figures/all")
    options = parser.parse_args()
    started, sources = time.perf_counter(), Sources()
    product = manifest_product(options.output, options.files, sources)
    made_from = product.digests(sources)
    for path in options.files:
        require_intact(certificate_of(path), [path], "Make it again: the same `snakemake` command does.")
    with atomic_write(options.output) as aside:
        aside.write_text(
            "".join(f"{sources.sha256(path)}  {path.as_posix()}\n" for path in options.files), encoding="utf-8"
        )
    certify(product, made_from, **run_of(started))


if __name__ == "__main__":
    main()
