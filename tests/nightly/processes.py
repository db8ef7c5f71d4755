"""One of several processes that train together, on loopback: `python processes.py PORT PROCESSES INDEX DEVICES PART FOLDER`.

With PROCESSES = 1, it is the reference. Each process writes what it finds as JSON to FOLDER/PART_PROCESSES_INDEX.json. PART is

* rules: training and evaluation under several rules, offline and online, with batches from a list and from a sampler;
* long: a run with checkpoints in FOLDER/run, which prints each step, and resumes if there are any;
* raises: the same, and the process RAISES of the environment raises an exception in the middle;
* stopped: what is said to other weights in each process, to a number in the last process that is not finite while nothing
  counts in the first one, and to a learning rate that is not finite.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

T, B, N, H, C = 12, 8, 3, 4, 3
STEPS = 60  # of the long run
TRIED = (("bptt", "offline"), ("otpe", "online"), ("e_prop_direct", "offline"), ("ottt", "online"))


def main(port: int, processes: int, index: int, devices: int, part: str, folder: str) -> None:
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_enable_x64", True)
    if processes > 1:
        timeouts = {"heartbeat_timeout_seconds": 10, **({"shutdown_timeout_seconds": 5} if part == "raises" else {})}
        jax.distributed.initialize(f"127.0.0.1:{port}", processes, index, **timeouts)
    found = {"rules": rules, "long": long, "raises": raises, "stopped": stopped}[part](processes, index, Path(folder))
    (Path(folder) / f"{part}_{processes}_{index}.json").write_text(json.dumps(found))


def share(array, axis, processes, index):
    return np.split(array, processes, axis)[index]


def batches(processes, index, count=3):
    """The share of a process of each batch, with a mask."""
    draw = np.random.default_rng(0)
    for _ in range(count):
        inputs = (draw.random((T, B, N)) < 0.4).astype(np.float64)
        labels, mask = draw.integers(0, C, B), draw.random((T, B)) < 0.8
        yield tuple(share(array, axis, processes, index) for array, axis in ((inputs, 1), (labels, 0), (mask, 1)))


def network(rule, seed=0, rate=0.1):
    import optax
    from flax import nnx

    from slax_neurons import LI, LIF, Dropout, connect
    from slax_rules import RULES

    rngs = nnx.Rngs(seed)
    dtype = {"param_dtype": np.float64, "rngs": rngs}
    drop = Dropout(0.3, mask="sequence", rngs=rngs)
    model = connect(
        [
            nnx.Linear(N, H, **dtype),
            LIF(param_dtype=np.float64),
            drop,
            nnx.Linear(H, H, **dtype),
            LIF(param_dtype=np.float64),
            nnx.Linear(H, C, **dtype),
            LI(param_dtype=np.float64),
        ]
    )
    for kernel in (model.modules[number].kernel for number in (0, 3)):
        kernel[...] = 3 * kernel[...]
    made = RULES[rule].make(rngs=rngs) if RULES[rule].needs_rngs else RULES[rule].make()
    return model, made, nnx.Optimizer(model, optax.sgd(rate, momentum=0.9), wrt=nnx.Param)


def numbers(model):
    import jax
    from flax import nnx

    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert all(leaf.is_fully_addressable for leaf in leaves)  # the model is back in this process
    return np.concatenate([np.asarray(leaf).ravel() for leaf in leaves]).tolist()


def rules(processes, index, folder):
    import jax
    import jax.numpy as jnp

    from slax_rules import Sampler, accuracy, cross_entropy, evaluate, fit, predict

    def sample(key):
        spikes = jax.random.bernoulli(key, 0.4, (T, B, N)).astype(jnp.float64)
        return spikes, jnp.arange(B) % C

    found = {}
    for rule, update in TRIED:
        model, made, optimizer = network(rule)
        seen = []

        def note(info, seen=seen):
            seen.append(float(np.asarray(info.model.modules[0].kernel[...]).sum()))
            assert info.batch[0].shape == (T, B // processes, N)

        note.every = 1
        options = {"rule": made, "update": update, "window": 4, "devices": jax.devices()}
        held_out = list(batches(processes, index))[:2]
        history = fit(
            model,
            optimizer,
            cross_entropy,
            list(batches(processes, index)),
            epochs=2,
            held_out=held_out,
            metrics={"accuracy": accuracy},
            callbacks=[note],
            **options,
        )
        later = fit(model, optimizer, cross_entropy, Sampler(sample, jax.random.key(1), steps=3), **options)
        outputs = predict(model, held_out[0][0], devices=jax.devices())
        everywhere = evaluate(model, cross_entropy, held_out, devices=jax.devices())
        found[f"{rule} {update}"] = {
            "losses": [*history.losses.tolist(), *later.losses.tolist()],
            "records": [[record["loss"], record["accuracy"]] for record in history.records if "loss" in record],
            "seen": seen,
            "weights": numbers(model),
            "outputs": np.asarray(outputs).tolist(),
            "loss": everywhere["loss"],
        }
    return found


def raises(processes, index, folder):
    # Between two checkpoints, so that the other process waits for a gradient.
    return long(processes, index, folder, last=STEPS // 2 + 2 if index == int(os.environ["RAISES"]) else None)


def long(processes, index, folder, last=None):
    import jax

    from slax_rules import Checkpoints, cross_entropy, fit

    model, rule, optimizer = network("otpe")

    def tell(info):
        print("step", info.step, flush=True)
        if info.step == last:
            raise OSError("a full disk")

    tell.every = 1
    history = fit(
        model,
        optimizer,
        cross_entropy,
        lambda epoch: batches(processes, index, STEPS),
        rule=rule,
        callbacks=[tell],
        held_out=list(batches(processes, index, 1)),
        checkpoints=Checkpoints(folder / "run", every=5, best="loss"),
        devices=jax.devices(),
    )
    return {"losses": history.losses.tolist(), "weights": numbers(model)}


def stopped(processes, index, folder):
    import jax
    import pytest

    from slax_rules import cross_entropy, fit

    def said(kind, batches, **options):
        model, rule, optimizer = network("otpe", **options)
        with pytest.raises(kind) as told:
            fit(model, optimizer, cross_entropy, batches, rule=rule, devices=jax.devices())
        return str(told.value)

    whole, broken = list(batches(processes, index)), list(batches(processes, index))
    inputs, _, mask = broken[1]
    if index == processes - 1:
        inputs[5, 2, 1] = np.nan
        mask[5, 2] = True
    elif index == 0:
        mask[:] = False
    return {
        "weights": said(ValueError, whole, seed=index),
        "inputs": said(FloatingPointError, broken),
        "rate": said(FloatingPointError, whole, rate=np.nan),
    }


if __name__ == "__main__":
    port, processes, index, devices, part, folder = sys.argv[1:]
    main(int(port), int(processes), int(index), int(devices), part, folder)
