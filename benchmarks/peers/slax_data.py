# /// script
# requires-python = ">=3.11"
# dependencies = ["slax-data", "jax==0.10.2"]
#
# [tool.benchmark]
# editable = ["packages/slax-data"]
#
# [tool.benchmark.variants.data]
# time = {}
# rate = {}
# upstream_time = {}
# upstream_rate = {}
# ///
"""This repository's `randman` of 10 manifolds, which are made beforehand. A step returns the mean label as its loss.

`upstream_CODE` is `upstream_randman`, which makes the same data as `slax_original`, manifolds included, from as many samples.
"""

import jax

from benchmarks.side_by_side.jax_step import JaxStep
from benchmarks.side_by_side.workload import Workload
from slax_data import randman, random_manifolds, upstream_randman

N_CLASSES = 10


def data(variant: str, workload: Workload) -> JaxStep:
    (n_units,) = workload.widths
    code = variant.removeprefix("upstream_")
    keys = jax.random.PRNGKey(0), jax.random.PRNGKey(1)
    manifolds = random_manifolds(keys[0], n_classes=N_CLASSES, n_units=n_units)

    def drawn(manifolds, key):
        spikes, labels = randman(key, manifolds, n_steps=workload.steps, batch_size=workload.batch, code=code)
        return labels.mean(), spikes

    def upstream(manifold_key, key):
        spikes, labels = upstream_randman(
            manifold_key,
            key,
            n_classes=N_CLASSES,
            n_units=n_units,
            n_steps=workload.steps,
            samples_per_class=-(-workload.batch // N_CLASSES),
            batch_size=workload.batch,
            code=code,
        )
        return labels.mean(), spikes

    return JaxStep(drawn, manifolds, keys[1]) if variant == code else JaxStep(upstream, *keys)
