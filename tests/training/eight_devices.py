"""Measurements on several devices, as JSON: `python eight_devices.py [RULE...]`, with eight virtual devices of a CPU.

A process of its own, since the number of devices is fixed when JAX starts. It measures one rule of each kind and more, or
only the rules that are named.
"""

import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # A device waits for the others in a thread of XLA's pool, which has one for each device and processor.
    os.environ["NPROC"] = "64"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    os.environ["JAX_PLATFORMS"] = "cpu"
    sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from slax_neurons import LI, LIF, Dropout, Edge, RunningNorm, connect
from slax_rules import (
    RULES,
    Sampler,
    SequenceLoss,
    accuracy,
    cross_entropy,
    evaluate,
    firing_rate,
    fit,
    gradients,
    predict,
    split_batch,
    train_online,
)

T, B, N, H, C = 6, 8, 3, 4, 3
DEVICES = 8
SGD = optax.sgd(0.1, momentum=0.9)
MEAN = SequenceLoss(lambda y, labels, *mask: cross_entropy(y.mean(axis=0), labels))
PENALTIES = (firing_rate(0.1, 3.0),)
# Autodiff, influence of all parameters, eligibility, recurrence, traces of outputs, traces of inputs, weights of the rule that
# learn, losses of layers, targets in place of errors, another optimizer
KINDS = (
    "bptt",
    "rtrl",
    "ostl",
    "ostl_with_recurrence",
    "otpe",
    "pp_prop",
    "e_prop_adaptive",
    "decolle",
    "drtp",
    "fptt",
)
WITH_EDGES = ("bptt", "ostl_with_recurrence", "e_prop_random", "e_prop_adaptive")
DRAWS = np.random.default_rng(0)
INPUTS, LABELS = (DRAWS.random((T, B, N)) < 0.5).astype(float), np.arange(B) % C
# Some devices have samples that do not count, and of eight one has nothing but such; one window is masked whole.
MASK = (DRAWS.random((T, B)) < 0.5) & (np.arange(B) > 0) & (np.arange(T) > 1)[:, None]


def make(*, dtype=jnp.float64, modules=(), edges=False):
    """Two layers of spiking neurons and a read-out, with a delayed edge or not."""
    options = {"rngs": nnx.Rngs(0), "param_dtype": dtype}
    layers = [nnx.Linear(N, H, **options), *modules, LIF(decay=0.8, threshold=0.4, param_dtype=dtype)]
    layers += [nnx.Linear(H, H, **options), LIF(decay=0.6, threshold=0.3, param_dtype=dtype)]
    layers += [nnx.Linear(H, C, **options), LI(param_dtype=dtype)]
    return connect(layers, [Edge(1, 0, 2)] if edges else [], rngs=options["rngs"])


def batch(devices, dtype=np.float64):
    """Inputs, labels and mask, split over devices."""
    whole = tuple(map(jnp.asarray, (INPUTS.astype(dtype), LABELS, MASK)))
    return split_batch(whole, jax.devices()[:devices]) if devices > 1 else whole


def deviation(measure, devices=DEVICES):
    """The largest difference of what is measured on several devices and on one, relative to the largest number."""
    ours, theirs = (list(map(np.asarray, jax.tree.leaves(jax.device_get(measure(count))))) for count in (devices, 1))
    scale = max(np.abs(b).max() for b in theirs)
    return float(max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True)) / scale)


def of_rule(name):
    """The gradient in windows under a mask, or the loss and the parameters after training online, which rules have in turn."""

    def measure(devices):
        entry, model = RULES[name], make(edges=name in WITH_EDGES)
        rule = entry.make(rngs=nnx.Rngs(5), model=model)
        both = (model, rule) if jax.tree.leaves(nnx.state(rule, nnx.Param)) else model
        optimizer = nnx.Optimizer(both, entry.optimizer(SGD) if entry.optimizer else SGD, wrt=nnx.Param)
        inputs, labels, mask = batch(devices)
        options, found = {"rule": rule, "window": 2, "penalties": PENALTIES}, []
        if "online" not in entry.updates or list(RULES).index(name) % 2:
            found += gradients(model, MEAN, inputs, labels, mask, **options)
        else:
            found += [train_online(model, optimizer, cross_entropy, inputs, labels, mask, **options)]
        return found, nnx.state(both, nnx.Param)

    return deviation(measure, 2 if name in ("ottt", "rtrl") else DEVICES)


def of_norms(devices):
    """Loss, gradient and statistics of norms that add up over the sequence or take a batch, and on a late edge."""
    options = {"rngs": nnx.Rngs(0), "param_dtype": jnp.float64}
    norms = [RunningNorm(nnx.Linear(n, H, **options)) for n in (N, H)]
    layers = [norms[0], LIF(threshold=0.4, param_dtype=jnp.float64), nnx.BatchNorm(H, **options)]
    model = connect([*layers, nnx.Linear(H, C, **options)], [Edge(1, 0, 2, norms[1])])
    inputs, labels, mask = batch(devices)
    return gradients(model, cross_entropy, inputs, labels, mask), nnx.state(model, nnx.BatchStat)


def of_fit(devices):
    """What `fit` makes of a BatchNorm and a Dropout, and numbers of a held-out set whose last batch cannot be split."""
    rngs = nnx.Rngs(1)
    norm = nnx.BatchNorm(H, rngs=rngs, param_dtype=jnp.float64, dtype=jnp.float64)
    model = make(modules=[norm, Dropout(0.3, mask="sequence", rngs=rngs)])
    optimizer = nnx.Optimizer(model, SGD, wrt=nnx.Param)
    there = {"devices": jax.devices()[:devices] if devices > 1 else None}
    batches = [(INPUTS, LABELS, MASK), (INPUTS[::-1], LABELS, MASK)]
    history = fit(model, optimizer, cross_entropy, batches, epochs=2, **there)
    held_out = [(INPUTS, LABELS), (INPUTS[:, :5], LABELS[:5])]
    found = evaluate(model, cross_entropy, held_out, metrics={"accuracy": accuracy}, **there)
    floats = [leaf for leaf in jax.tree.leaves(nnx.state((model, optimizer))) if leaf.dtype == jnp.float64]
    return floats, history.losses, found, predict(model, INPUTS, **there)


def of_sampled_fit(devices):
    """Batches by key, with targets per step and an optimizer step for each window."""

    def sample(key):
        inputs = jax.random.bernoulli(key, 0.4, (T, B, N)).astype(float)
        return inputs, jnp.tile(jnp.arange(B) % C, (T, 1)), inputs[..., 0] > 0

    model, sampler = make(), Sampler(sample, jax.random.key(3), 3)
    optimizer = nnx.Optimizer(model, SGD, wrt=nnx.Param)
    options = {"rule": RULES["ottt"].make(), "update": "online", "window": 3}
    there = {"devices": jax.devices()[:devices] if devices > 1 else None}
    history = fit(model, optimizer, cross_entropy, sampler, **options, **there)
    return nnx.state(model, nnx.Param), history.losses


def of_sharded_weights(devices):
    """Units of each layer split by hand, as docs/scaling.md says: all weights in one program, and nothing of ours."""
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    model = make()
    if devices > 1:
        mesh = Mesh(np.array(jax.devices()[:4]), ("units",))
        columns = NamedSharding(mesh, PartitionSpec(None, "units"))
        for index in (0, 2):
            kernel = model.modules[index].kernel
            kernel[...] = jax.device_put(kernel[...], columns)
    inputs, labels, _ = batch(1)
    return gradients(model, cross_entropy, inputs, labels, rule=RULES["ostl"].make(), window=2)


def program_text(name):
    """The compiled program of a gradient on eight devices."""
    from slax_rules.loop.devices import as_mesh
    from slax_rules.loop.entry import Program, run_program

    inputs, labels, _ = batch(DEVICES, np.float32)
    graphdef, state = nnx.split((make(dtype=jnp.float32), RULES[name].make(), None))
    program = Program(graphdef, cross_entropy, "none", None, as_mesh(jax.devices()))
    return run_program.lower(program, state, inputs, labels, None, None).compile().as_text()


def refusals():
    """What is said to batches that cannot be split, models that differ from device to device, and a step that is not finite."""
    model, (inputs, labels, _) = make(), batch(DEVICES)
    optimizer = nnx.Optimizer(model, SGD, wrt=nnx.Param)
    diverging = nnx.Optimizer(model, optax.sgd(jnp.nan), wrt=nnx.Param)
    drawing = connect([nnx.Linear(N, C, rngs=nnx.Rngs(0)), nnx.Dropout(0.1, rngs=nnx.Rngs(0)), LI()])
    stepwise = make(modules=[Dropout(0.3, mask="step", rngs=nnx.Rngs(1))])
    seven = (INPUTS[:, :7], LABELS[:7])
    attempts = {
        "batch": lambda: fit(model, optimizer, cross_entropy, [seven], devices=jax.devices()),
        "key": lambda: gradients(stepwise, cross_entropy, inputs, labels),
        "stream": lambda: gradients(drawing, cross_entropy, inputs, labels),
        "uoro": lambda: gradients(model, cross_entropy, inputs, labels, rule=RULES["uoro"].make(rngs=nnx.Rngs(5))),
        "rate": lambda: fit(model, diverging, cross_entropy, [(INPUTS, LABELS)], devices=jax.devices()),
    }
    return {name: said(attempt) for name, attempt in attempts.items()}


def said(attempt):
    try:
        attempt()
    except (TypeError, ValueError, FloatingPointError) as error:
        return str(error)
    return "nothing"


def main():
    chosen = sys.argv[1:]
    with jax.enable_x64(True):
        measured = {name: of_rule(name) for name in chosen or KINDS}
        results = {"measured": measured}
        if not chosen:
            for measure in (of_norms, of_fit, of_sampled_fit, of_sharded_weights):
                measured[measure.__name__] = deviation(measure)
            results["refusals"] = refusals()
    if not chosen:
        results["program"] = program_text("ostl")
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
