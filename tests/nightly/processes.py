"""One of several processes that train together, on loopback: `python processes.py PORT PROCESSES INDEX DEVICES PART FOLDER`.

With PROCESSES = 1, it is the reference. Each process writes what it finds as JSON to FOLDER/PART_PROCESSES_INDEX.json. PART is

* rules: training and evaluation under two rules, offline and online, with batches from a list and from a sampler;
* long: a run with checkpoints in FOLDER/run, which prints each step, and resumes if there are any;
* stopped: what is said to other weights in each process.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from slax_neurons import LI, LIF, Dropout, connect
from slax_rules import RULES, Checkpoints, Every, Sampler, accuracy, cross_entropy, evaluate, fit, predict

T, B, N, H, C = 12, 8, 3, 4, 3
STEPS = 60  # of the long run
TRIED = (("otpe", "online"), ("e_prop_direct", "offline"))


def batches(processes, index, count=3):
    """The share of a process of each batch, with a mask."""
    draw = np.random.default_rng(0)
    for _ in range(count):
        inputs = (draw.random((T, B, N)) < 0.4).astype(np.float64)
        labels, mask = draw.integers(0, C, B), draw.random((T, B)) < 0.8
        shares = ((inputs, 1), (labels, 0), (mask, 1))
        yield tuple(np.split(array, processes, axis)[index] for array, axis in shares)


def network(rule, seed=0, rate=0.1):
    rngs, dtype = nnx.Rngs(seed), {"param_dtype": np.float64}
    first, second, last = (nnx.Linear(*sizes, rngs=rngs, **dtype) for sizes in ((N, H), (H, H), (H, C)))
    drop = Dropout(0.3, per="sequence", rngs=rngs)
    model = connect([first, LIF(**dtype), drop, second, LIF(**dtype), last, LI(**dtype)])
    for layer in (first, second):
        layer.kernel[...] *= 3
    made = RULES[rule].make(rngs=rngs) if RULES[rule].needs_rngs else RULES[rule].make()
    return model, made, nnx.Optimizer(model, optax.sgd(rate, momentum=0.9), wrt=nnx.Param)


def numbers(model):
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert all(leaf.is_fully_addressable for leaf in leaves)  # the model is back in this process
    return np.concatenate([np.asarray(leaf).ravel() for leaf in leaves]).tolist()


def sample(key):
    return jax.random.bernoulli(key, 0.4, (T, B, N)).astype(np.float64), np.arange(B) % C


def rules(processes, index, folder):
    found, data = {}, list(batches(processes, index))
    for rule, update in TRIED:
        model, made, optimizer = network(rule)
        options = {"rule": made, "update": update, "window": 4, "devices": jax.devices()}
        seen = []

        def note(info, seen=seen):
            seen.append(float(np.asarray(info.model.modules[0].kernel[...]).sum()))
            assert info.batch[0].shape == (T, B // processes, N)

        measured = {"held_out": data[:2], "metrics": {"accuracy": accuracy}, "callbacks": [Every(1, note)]}
        history = fit(model, optimizer, cross_entropy, data, epochs=2, **measured, **options)
        later = fit(model, optimizer, cross_entropy, Sampler(sample, jax.random.key(1), steps=3), **options)
        found[rule] = {
            "losses": [*history.losses.tolist(), *later.losses.tolist()],
            "records": [[record["loss"], record["accuracy"]] for record in history.records if "loss" in record],
            "seen": seen,
            "weights": numbers(model),
            "loss": evaluate(model, cross_entropy, data, devices=jax.devices())["loss"],
            "outputs": np.asarray(predict(model, data[0][0], devices=jax.devices())).tolist(),
        }
    return found


def long(processes, index, folder):
    model, rule, optimizer = network("otpe")
    history = fit(
        model,
        optimizer,
        cross_entropy,
        lambda epoch: batches(processes, index, STEPS),
        rule=rule,
        callbacks=[Every(1, lambda info: print("step", info.step, flush=True))],
        held_out=list(batches(processes, index, 1)),
        checkpoints=Checkpoints(folder / "run", every=5),
        devices=jax.devices(),
    )
    return {"losses": history.losses.tolist(), "weights": numbers(model)}


def stopped(processes, index, folder):
    model, rule, optimizer = network("otpe", seed=index)
    with pytest.raises(ValueError) as told:
        fit(model, optimizer, cross_entropy, list(batches(processes, index)), rule=rule, devices=jax.devices())
    return str(told.value)


if __name__ == "__main__":
    port, processes, index, devices = map(int, sys.argv[1:5])
    part, folder = sys.argv[5], Path(sys.argv[6])
    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_enable_x64", True)
    if processes > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", processes, index, heartbeat_timeout_seconds=10)
    parts = {"rules": rules, "long": long, "stopped": stopped}
    (folder / f"{part}_{processes}_{index}.json").write_text(json.dumps(parts[part](processes, index, folder)))
