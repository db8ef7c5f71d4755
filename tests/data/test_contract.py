"""Every data set keeps the contract, and says early which options it does not take."""

import inspect
from functools import partial

import pytest
from contract import keeps_contract
from jax import random
from small_sets import SMALL_SETS, for_a_while

from slax_data import DATASETS, ENCODERS, make_task

# Of other sets, the default.
CODES = {"digits": list(ENCODERS), "mnist": ["permuted", "latency"], "mnist_5k": [], "randman": ["time", "rate"]}
REAL = ("pixels", "permuted", "value", "mfcc")  # the codes of real numbers
CASES = [
    (name, code)
    for name, make in sorted(DATASETS.items())
    for code in CODES.get(name, [inspect.signature(make).parameters["code"].default])
]


@pytest.fixture(scope="module")
def options_of(tmp_path_factory):
    """The options of a data set by its name: where a small one is, for those that are in files."""
    with for_a_while():
        small = {name: write(tmp_path_factory.mktemp(name)) for name, write in SMALL_SETS.items()}
        yield small | {"randman": {"n_classes": 4, "n_units": 20, "alpha": 3.0}}


@pytest.mark.parametrize(("name", "code"), CASES)
def test_every_data_set_keeps_the_contract(name, code, options_of):
    make = partial(make_task, name, n_steps=16, code=code, **options_of.get(name, {}))
    task = make(random.key(0))
    assert task.n_steps == 16
    with pytest.raises(ValueError, match="split got 'all', expected one of: 'test', 'train'"):
        task.sample(random.key(1), batch_size=4, split="all")
    options = {"spikes": code not in REAL, "per_step": name in ("bach", "laser")}
    keeps_contract(make, redrawn=name == "digits" and ENCODERS[code].random, **options)


@pytest.mark.parametrize("name", DATASETS)
def test_options_are_refused_before_anything_is_read(name, options_of):
    for option in ({"color": 3}, {"code": "morse"}, {"n_steps": 0}):
        with pytest.raises(ValueError, match=rf"{next(iter(option))}'?\W"):
            make_task(name, random.key(0), **options_of.get(name, {}) | option)
    with pytest.raises(ValueError, match="data set got 'cifar', expected one of: 'bach', 'digits', "):
        make_task("cifar", random.key(0))
