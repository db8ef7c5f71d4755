"""List the checksums of spikes, results and figures: `sha256sum -c figures/all` then verifies them, on any machine.

    python -m experiments.manifest --scale quick

It stops at a product that is missing, damaged, or made from something else: such a file is never listed.
"""

import argparse

from experiments.common.job import SCALES
from experiments.common.policy import OUTDATED, PEERS
from experiments.common.products import MANIFEST, Pipeline
from experiments.common.result_files import atomic_write


def main() -> None:
    parser = argparse.ArgumentParser(
        "experiments.manifest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", choices=SCALES, default="quick", help="default: quick")
    parser.add_argument("--peers", choices=PEERS, help="as in snakemake's --config")
    parser.add_argument("--outdated", choices=OUTDATED, help="as in snakemake's --config")
    options = parser.parse_args()
    text = Pipeline(options.scale, peers=options.peers, outdated=options.outdated).manifest()
    with atomic_write(MANIFEST) as aside:
        aside.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
