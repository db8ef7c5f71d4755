# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = [
#   "slax==0.0.1", "jax==0.4.25", "jaxlib==0.4.25", "flax==0.8.2", "numpy<2", "scipy<1.13", "orbax-checkpoint==0.5.18"
# ]
# ///
"""Writes what slax 0.0.1's `randman` draws to tests/data/upstream_randman.npz, for tests/data/test_randman.py.

    uv run record_upstream_randman.py
    uv run --no-project --python 3.11 --with slax==0.0.1 --with jax==0.10.2 --with flax==0.12.8 \\
        python record_upstream_randman.py

JAX has two ways to make random bits, `jax_threefry_partitionable`, and since 0.5 another default. Each run adds the draws of
the default of its JAX to the file; the file was written with jax 0.4.25 (False), then with jax 0.10.2 (True), in
environments of the versions above.
"""

import json
from pathlib import Path

import jax
import numpy as np
from slax import randman

FILE = Path(__file__).parents[2] / "data" / "upstream_randman.npz"

CASES = {
    "time": dict(time_encode=True, alpha=2.0, dim_manifold=2),
    "time_rough": dict(time_encode=True, alpha=1.0, dim_manifold=1),
    "time_smooth": dict(time_encode=True, alpha=3.0, dim_manifold=3, shuffle=False, batch_sz=25),
    "rate": dict(time_encode=False, alpha=2.0, dim_manifold=2),
    "rate_rough": dict(time_encode=False, alpha=1.0, dim_manifold=3, batch_sz=20),
    "rate_smooth": dict(time_encode=False, alpha=3.0, dim_manifold=1, shuffle=False),
}
SIZES = dict(nb_classes=4, nb_units=12, nb_steps=20, nb_samples=8)


def main() -> None:
    arrays = {}
    if FILE.exists():
        with np.load(FILE, allow_pickle=False) as file:
            arrays = dict(file)
    partitionable = bool(jax.config.jax_threefry_partitionable)
    for seed, (name, options) in enumerate(CASES.items()):
        options = SIZES | options
        spikes, labels = randman(jax.random.PRNGKey(seed), jax.random.PRNGKey(100 + seed), **options)
        spikes, labels = np.asarray(spikes), np.asarray(labels)
        assert (labels == labels[:1]).all() and set(np.unique(spikes)) == {0, 1}
        case = f"{name}-{partitionable}"
        arrays[f"{case}-spikes"] = np.packbits(spikes.astype(bool))
        arrays[f"{case}-labels"] = labels[0].argmax(axis=-1).astype(np.uint8)
        about = dict(options=options, seed=seed, shape=spikes.shape, jax=jax.__version__, partitionable=partitionable)
        arrays[f"{case}-about"] = np.array(json.dumps(about))
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main()
