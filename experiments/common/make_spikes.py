"""Make the spikes of a set named in `data/config.yaml` from its raw file, for experiments on real sounds and series.

    python -m experiments.common.make_spikes --name spoken_digits --raw data/raw/free-spoken-digit-dataset-26eb9aa.tar.gz \\
        --output data/processed/spoken_digits.npz
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from experiments.common.checks import check_known
from slax_data import japanese_vowel_spikes, shd, spoken_digit_spikes
from slax_data.storage.packed import SpikeTrains, arrays_of_sets
from slax_data.storage.whole_files import atomic_write, check_sha256


def shd_spikes(train: Path, test: Path, **options: Any) -> dict[str, SpikeTrains]:
    if train.parent != test.parent:
        raise SystemExit(f"The two files of SHD have to be in one folder, got {train} and {test}.")
    return {split: shd(train.parent, split=split, **options) for split in ("train", "test")}


MAKERS = {"spoken_digits": spoken_digit_spikes, "japanese_vowels": japanese_vowel_spikes, "shd": shd_spikes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("data/config.yaml"), help="which sets there are")
    parser.add_argument("--name", required=True, help="a name in the config")
    parser.add_argument("--raw", type=Path, nargs="+", required=True, help="the set's raw files, as in the config")
    parser.add_argument("--output", type=Path, required=True, help="where the spikes go, an .npz file")
    arguments = parser.parse_args()
    sets = yaml.safe_load(arguments.config.read_text())["sets"]
    check_known("set", arguments.name, sets)
    settings = sets[arguments.name]
    if len(arguments.raw) != len(settings["raw"]):
        raise SystemExit(f"Got {len(arguments.raw)} files, expected {', '.join(settings['raw'])}, in this order.")
    for raw, sha256 in zip(arguments.raw, settings["raw"].values(), strict=True):
        if sha256 is not None:
            check_sha256(raw, sha256)
    spikes = MAKERS[settings["maker"]](*arguments.raw, **settings["options"])
    with atomic_write(arguments.output) as aside, aside.open("wb") as file:
        np.savez(file, **arrays_of_sets(spikes))


if __name__ == "__main__":
    main()
