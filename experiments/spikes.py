"""Make the spikes of a set of `data/config.yaml` from its raw files: `data/processed/SET.npz`, with a certificate next to it.

python -m experiments.spikes spoken_digits --raw data/raw/free-spoken-digit-dataset-26eb9aa.tar.gz
"""

import argparse
import time
from pathlib import Path

from experiments.common.checks import check_known
from experiments.common.make_spikes import make_spikes
from experiments.common.products import spikes_product
from experiments.common.provenance import certify, run_of
from experiments.common.sources import Sources
from experiments.common.yaml_files import read_yaml


def main() -> None:
    parser = argparse.ArgumentParser(
        "experiments.spikes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", metavar="SET", help="a name in the config")
    parser.add_argument("--config", type=Path, default=Path("data/config.yaml"), help="which sets there are")
    parser.add_argument("--raw", type=Path, nargs="+", required=True, help="the set's raw files, as in the config")
    parser.add_argument("--data", type=Path, default=Path("data/processed"), help="default: data/processed")
    options = parser.parse_args()
    sets = read_yaml(options.config)["sets"]
    check_known("set", options.name, sets)
    started, sources = time.perf_counter(), Sources()
    product = spikes_product(options.name, sets[options.name], sources, data=options.data)
    made_from = product.digests(sources)
    make_spikes(sets[options.name], options.raw, product.files[0])
    certify(product, made_from, **run_of(started))


if __name__ == "__main__":
    main()
