"""Fits with functions, models and optimizers made anew, in a process of its own: `python many_fits.py FITS PROGRAMS`.

It prints the memory (MB) and the number of memory maps after each fit, with a table of as many programs: 64 is that of users.
"""

import functools
import os
import sys
import warnings

fits, programs = map(int, sys.argv[1:])
make_cache = functools.lru_cache
functools.lru_cache = lambda maxsize=128, typed=False: make_cache(programs if maxsize == 64 else maxsize, typed)

import numpy as np  # noqa: E402
import optax  # noqa: E402
from flax import nnx  # noqa: E402

from slax_neurons import LI, connect  # noqa: E402
from slax_rules import cross_entropy, fit  # noqa: E402

warnings.simplefilter("ignore")  # each program after the second one differs in functions alone, as it says
BATCHES = [(np.ones((2, 2, 2), np.float32), np.arange(2))]


def fit_once(number):
    def loss_fn(outputs, labels):
        return (1.0 + number) * cross_entropy(outputs, labels)

    model = connect([nnx.Linear(2, 2, rngs=nnx.Rngs(0)), LI()])
    optimizer = nnx.Optimizer(model, optax.sgd(0.1 / (1 + number)), wrt=nnx.Param)
    fit(model, optimizer, loss_fn, BATCHES, progress=False)


def used():
    with open("/proc/self/statm") as memory, open("/proc/self/maps") as maps:
        return int(memory.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20, len(maps.readlines())


for number in range(fits):
    fit_once(number)
    print(*used(), flush=True)
