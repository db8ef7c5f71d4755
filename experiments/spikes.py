"""Make the spikes of a set of `data/config.yaml` from its raw files: `data/processed/SET.npz`, with a record next to it.

python -m experiments.spikes spoken_digits --raw data/raw/free-spoken-digit-dataset-26eb9aa.tar.gz
"""

import time
from pathlib import Path

from experiments.common.checks import check_known
from experiments.common.command_line import parser_of
from experiments.common.make_spikes import make_spikes
from experiments.common.products import spikes_product
from experiments.common.records import begin, run_of, write_record
from experiments.common.yaml_files import read_yaml


def main() -> None:
    parser = parser_of("experiments.spikes", __doc__, "--data")
    parser.add_argument("name", metavar="SET", help="a name in the config")
    parser.add_argument("--config", type=Path, default=Path("data/config.yaml"), help="which sets there are")
    parser.add_argument("--raw", type=Path, nargs="+", required=True, help="the set's raw files, as in the config")
    options = parser.parse_args()
    sets = read_yaml(options.config)["sets"]
    check_known("set", options.name, sets)
    started, product = time.perf_counter(), spikes_product(options.name, sets[options.name], data=options.data)
    made_from = begin(product)
    make_spikes(sets[options.name], options.raw, product.files[0])
    write_record(product, made_from, **run_of(started))


if __name__ == "__main__":
    main()
