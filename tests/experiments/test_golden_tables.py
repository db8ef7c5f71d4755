"""The comparison of tables with those that are kept."""

from pathlib import Path

import pytest
import yaml

from experiments.pipeline import golden_tables

KEPT = [
    {"rule": "ostl", "cosine": "0.5", "low": "", "values": ""},
    {"rule": "otpe", "cosine": "0.9", "low": "0.8", "values": "0.9 None 0.5"},
]


def differences(**changes):
    return golden_tables.differences([KEPT[0], KEPT[1] | changes], KEPT, absolute=0.01, columns={"low": 0.2})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({"cosine": "0.92"}, ["line 3, cosine: '0.92', expected '0.9'"]),
        ({"values": "0.909 None 0.509"}, []),
        ({"values": "0.9 None 0.52"}, ["line 3, values: '0.9 None 0.52', expected '0.9 None 0.5'"]),
        ({"more": "1"}, ["the columns are rule, cosine, low, values, more, expected rule, cosine, low, values"]),
    ],
)
def test_what_differs_is_told(changes, told):
    assert differences(**changes) == told


def test_each_kept_table_has_a_tolerance_and_the_other_way_round():
    folder = Path(golden_tables.__file__).parents[2] / golden_tables.REFERENCES
    tolerances = yaml.safe_load((folder / "tolerances.yaml").read_text())
    assert {path.stem for path in folder.glob("*.csv")} == set(tolerances)
    assert all(golden_tables.read(folder / f"{stem}.csv") for stem in tolerances)
