"""Every data set keeps the contract, and says early which options it does not take."""

import inspect
from functools import partial

import pytest
from contract import keeps_contract
from jax import random
from small_sets import SMALL_SETS

from slax_data import DATASETS, ENCODERS, make_task

CODES = {"digits": list(ENCODERS), "mnist_5k": [], "randman": ["time", "rate"]}  # of others the default
CASES = [
    (name, code)
    for name, make in sorted(DATASETS.items())
    for code in CODES.get(name, [inspect.signature(make).parameters["code"].default])
]


@pytest.fixture(scope="module")
def options_of(tmp_path_factory):
    """The options of a data set by its name: where a small one is, for those that are in files."""
    small = {name: write(tmp_path_factory.mktemp(name)) for name, write in SMALL_SETS.items()}
    return small | {"randman": {"n_classes": 4, "n_units": 20, "alpha": 3.0}}


@pytest.mark.parametrize(("name", "code"), CASES)
def test_every_data_set_keeps_the_contract(name, code, options_of):
    make = partial(make_task, name, n_steps=16, code=code, **options_of.get(name, {}))
    task = make(random.key(0))
    assert task.n_steps == 16
    with pytest.raises(ValueError, match="split got 'all', expected one of: 'test', 'train'"):
        task.sample(random.key(1), batch_size=4, split="all")
    keeps_contract(make, redrawn=name == "digits" and ENCODERS[code].random)


@pytest.mark.parametrize("name", DATASETS)
def test_options_are_refused_before_anything_is_read(name, options_of):
    for option in ({"color": 3}, {"code": "morse"}, {"n_steps": 0}):
        with pytest.raises(ValueError, match=rf"{next(iter(option))}'?\W"):
            make_task(name, random.key(0), **options_of.get(name, {}) | option)
    with pytest.raises(ValueError, match="data set got 'mnist', expected one of: 'digits', "):
        make_task("mnist", random.key(0))
