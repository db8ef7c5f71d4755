"""Training length as a variable: one run of each network is evaluated after several numbers of batches, the last is its end.

If the learning rate does not fall with time, the network after 300 batches of a long run is the one that a training of 300
batches gives. A result has for each seed "lengths", a list with the accuracies on both held-out sets after each number of
batches, and, for a test set that seeds have in common, "right", which of its samples were: bits, as hexadecimal digits.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from slax_rules import accuracy, predict
from slax_rules.train.sweep import Run


@jax.jit
def is_right(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether outputs [T, B, C] are right about each label, by the law of `accuracy`."""
    return jax.vmap(accuracy, in_axes=(1, 0))(outputs[:, :, None], labels[:, None])


def along(run: Run, samples: Any, is_right: Callable[..., jax.Array] = is_right) -> dict[str, Any]:
    """The accuracies of a run after each number of batches except for 0, whether all seeds share its test set, and which of its
    samples were right; test samples that a seed has for itself may have a mask.

    Args:
        run: the run.
        samples: the `experiments.common.samples.SeedSamples` of its seed.
        is_right: maps outputs [T, B, C] and labels [B] to whether they are right.
    """
    evaluated = [
        {"batches": step, "accuracy": run.test[step], "validation_accuracy": run.validation[step]}
        for step in run.steps
        if step
    ]
    if samples.has_common_test:
        for entry in evaluated:
            entry["right"] = pack(right(run.network(entry["batches"])[0], samples.test, is_right))
    return {"test_size": len(samples.test[1]), "common_test": samples.has_common_test, "lengths": evaluated}


def right(
    model: nnx.RNNCellBase, samples: tuple[Any, ...], is_right: Callable[..., jax.Array] = is_right
) -> np.ndarray:
    """Whether the model is right about each sample."""
    inputs, labels = samples
    return np.asarray(is_right(predict(model, jnp.asarray(inputs)), jnp.asarray(labels))).astype(bool)


def pack(bits: np.ndarray) -> str:
    return np.packbits(bits).tobytes().hex()


def unpack(text: str, count: int) -> np.ndarray:
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=count).astype(bool)


def lengths_of(seeds: Sequence[dict[str, Any]]) -> list[int]:
    """The numbers of batches at which the seeds of a result were evaluated."""
    return [entry["batches"] for entry in seeds[0].get("lengths", [])]


def tested(seeds: Sequence[dict[str, Any]], batches: int | None = None) -> np.ndarray:
    """The test accuracies of seeds after some batches, at the end by default, as a matrix [S, I] whose rows have them as means.

    It has which samples of a common test set were right, or [S, 1] the accuracies if each seed has a test set of its own.
    """
    if "lengths" not in seeds[0]:  # before training, and of a result that has the end alone
        return np.array([[seed["accuracy"]] for seed in seeds])
    entries = [_entry(seed, batches) for seed in seeds]
    if not seeds[0]["common_test"]:
        return np.array([[entry["accuracy"]] for entry in entries])
    return np.array([unpack(entry["right"], seeds[0]["test_size"]) for entry in entries], float)


def validated(seeds: Sequence[dict[str, Any]], batches: int) -> list[float]:
    """The validation accuracies of seeds after some batches."""
    return [_entry(seed, batches)["validation_accuracy"] for seed in seeds]


def _entry(seed: dict[str, Any], batches: int | None) -> dict[str, Any]:
    (entry,) = (
        seed["lengths"][-1:] if batches is None else [one for one in seed["lengths"] if one["batches"] == batches]
    )
    return entry
