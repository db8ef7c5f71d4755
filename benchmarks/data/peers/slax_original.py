# /// script
# requires-python = ">=3.11"
# dependencies = ["slax==0.0.1", "jax==0.10.2", "flax==0.12.8"]
#
# [tool.benchmark.variants]
# time = {}
# rate = {}
# ///
"""slax 0.0.1's `randman` of 10 manifolds, with only as many samples per class as a batch needs; the default is 1,000.

It makes the manifolds again for each batch, and labels for each step.
"""

import jax
import slax
from jax_step import JaxStep
from workload import Workload

N_CLASSES = 10


def build(variant: str, workload: Workload) -> JaxStep:
    (n_units,) = workload.widths

    def step(manifold_seed, random_seed):
        spikes, labels = slax.randman(
            manifold_seed,
            random_seed,
            nb_classes=N_CLASSES,
            nb_units=n_units,
            nb_steps=workload.steps,
            nb_samples=-(-workload.batch // N_CLASSES),
            batch_sz=workload.batch,
            time_encode=variant == "time",
        )
        return labels.mean(), spikes

    return JaxStep(step, jax.random.PRNGKey(0), jax.random.PRNGKey(1))
