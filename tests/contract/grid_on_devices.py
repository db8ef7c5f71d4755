"""Gradients of cells of the grid on 2 and on 8 virtual devices beside those on one, as JSON: `python grid_on_devices.py`.

A process of its own, since the number of devices is fixed when JAX starts.
"""

import json
import os
import sys

if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax

from contract.test_every_cell_of_the_grid import ON_DEVICES, furthest, layers, make
from slax_rules import gradients, split_batch, squared_error
from stacks import inputs

T, B, C = 10, 8, 4


def of_cell(rule: str, route: str, devices: int) -> float:
    """The largest deviation of a loss or gradient from that on one device."""
    model, _ = layers(rule)
    made, targets = make(rule, route, model), jax.random.normal(jax.random.key(2), (T, B, C))
    # Of eight devices one has no samples that count.
    mask = jax.random.bernoulli(jax.random.key(1), 0.7, (T, B)).at[:, 0].set(False)
    batch = inputs(T, B, 5), targets, mask

    def gradient(inputs, targets, mask):
        return gradients(model, squared_error, inputs, targets, rule=made, window=2, mask=mask)

    return furthest(gradient(*split_batch(batch, jax.devices()[:devices])), gradient(*batch))


if __name__ == "__main__":
    with jax.enable_x64(True):
        json.dump({", ".join(map(str, cell)): of_cell(*cell) for cell in ON_DEVICES}, sys.stdout)
