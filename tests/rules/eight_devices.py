"""Measurements on several devices, as JSON: `python eight_devices.py PART`, with eight virtual devices of a CPU.

A process of its own, since the number of devices is fixed when JAX starts. PART is the name of a rule, "others" for what is no
rule, or "few" for rules that are measured together, in windows of three steps: eight whose traces and routes are also those of
other rules, and by default some more, which `make test-all` measures in all ways.
"""

import functools
import json
import os
import re
import sys
from pathlib import Path

if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    os.environ["JAX_PLATFORMS"] = "cpu"
    sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from covering import EVERY, combinations
from slax_neurons import LI, LIF, BlockDiagonal, Delay, Dropout, Edge, RunningNorm, connect, unroll
from slax_rules import (
    RULES,
    Sampler,
    SequenceLoss,
    accuracy,
    cross_entropy,
    evaluate,
    fit,
    gradients,
    split_batch,
    train_offline,
    train_online,
)

T, B, N, H, C = 12, 8, 3, 4, 3  # whole windows, so that a program has one of them
DEVICES = (1, 2, 8)
WINDOWS = (1, 3, T)
SGD = optax.sgd(0.1)
TRAINED = {"offline": train_offline, "online": train_online}
LOSSES = {
    "step": cross_entropy,
    "time mean": SequenceLoss(lambda y, labels, *mask: cross_entropy(y.mean(axis=0), labels)),
    "rate": SequenceLoss(lambda y, labels, *mask: jnp.square(y.sum(axis=0)).sum(axis=-1) / 10),
}
# Rules of the table, without the one that several devices refuse; those that need fewer windows are measured together.
FEW = ("e_prop_direct", "hypr", "s_tllr", "tess", "osttp", "etlp", "dfa", "drtp")
if not EVERY:
    FEW += ("snap", "ostl", "otpe", "ottt", "sltt", "e_prop", "approximate_otpe", "e_prop_random")
RULE_NAMES = [name for name in RULES if name not in ("uoro", *FEW)]
WITH_LOSSES = combinations(RULE_NAMES, LOSSES, ((2, 3), (8, 1)))
FEW_TRIED = combinations(FEW, DEVICES[1:], strength=1)
WITH_EDGES = ("bptt", "ostl_with_recurrence", "e_prop_random", "e_prop_adaptive")


def make(dtype, *, batch_norm=False, dropout=None, edges=False):
    """Two layers of spiking neurons and a read-out, with a delayed edge or not."""
    rngs = nnx.Rngs(0)
    options = {"param_dtype": dtype}
    norms = [nnx.BatchNorm(H, rngs=rngs, dtype=dtype, **options)] if batch_norm else []
    drops = [Dropout(0.3, mask=dropout, rngs=rngs)] if dropout else []
    layers = [nnx.Linear(N, H, rngs=rngs, **options), *norms, *drops, LIF(decay=0.8, threshold=0.4, **options)]
    layers += [nnx.Linear(H, H, rngs=rngs, **options), LIF(decay=0.6, threshold=0.3, **options)]
    layers += [nnx.Linear(H, C, rngs=rngs, **options), LI(**options)]
    wired = [Edge(1, 0, 2)] if edges else []
    return connect(layers, wired, rngs=rngs)


def make_delays():
    """Delays before the first layer and behind it, where they are part of a recurrence."""
    rngs, options = nnx.Rngs(0), {"param_dtype": jnp.float64}
    layers = [Delay(N, 4, groups=2, rngs=rngs, **options), BlockDiagonal(2 * N, H, 2, rngs=rngs, **options)]
    layers += [nnx.Linear(H, H, rngs=rngs, **options), LIF(decay=0.8, threshold=0.2, **options)]
    layers += [Delay(H, 3, width=0.7, rngs=rngs, **options), nnx.Linear(H, C, rngs=rngs, **options), LI(**options)]
    return connect(layers, {2: [4]}, rngs=rngs)


def make_rule(name, model):
    return RULES[name].make(rngs=nnx.Rngs(5), model=model)


def batch(dtype=jnp.float64, *, masked):
    inputs = jax.random.bernoulli(jax.random.key(0), 0.5, (T, B, N)).astype(dtype)
    # Some devices have samples that do not count, and of eight one has nothing but such; one window is masked whole.
    mask = jax.random.bernoulli(jax.random.key(1), 0.5, (T, B)).at[:, :1].set(False).at[:3].set(False)
    return inputs, jnp.arange(B) % C, mask | (not masked)


def deviation(ours, theirs):
    """The largest difference of two trees, relative to the largest number in the second."""
    leaves = [
        (np.asarray(a), np.asarray(b)) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    ]
    scale = max(np.abs(b).max() for _, b in leaves)
    return float(max(np.abs(a - b).max() for a, b in leaves) / scale)


def on(devices, arrays):
    return split_batch(arrays, jax.devices()[:devices]) if devices > 1 else arrays


def trained(name, update, window, devices, masked):
    """Parameters after three steps, and the losses."""
    model = make(jnp.float64, edges=name in WITH_EDGES)
    rule, both, optimizer = make_optimizer(name, model)
    inputs, labels, mask = on(devices, batch(masked=masked))
    step, options = TRAINED[update], {"rule": rule, "window": window, "mask": mask}
    losses = [step(model, optimizer, cross_entropy, inputs, labels, **options) for _ in range(3)]
    return nnx.state(both, nnx.Param), losses


def make_optimizer(name, model):
    """The rule, what is trained under it, and an optimizer, which for FPTT is where the rule is."""
    rule = make_rule(name, model)
    both = (model, rule) if jax.tree.leaves(nnx.state(rule, nnx.Param)) else model
    wrap = RULES[name].optimizer
    return rule, both, nnx.Optimizer(both, wrap(SGD) if wrap else SGD, wrt=nnx.Param)


def ways(name):
    """How a rule is tried: update, window, devices, and whether with a mask."""
    return combinations(RULES[name].updates, WINDOWS, DEVICES[1:], (False, True))


def of_rule(name):
    """Parameters after three steps and losses on 2 and 8 devices beside those on one, and gradients of three losses."""
    found, on_one = {}, functools.cache(lambda update, window, masked: trained(name, update, window, 1, masked))
    for update, window, devices, masked in ways(name):
        key = f"{update}, window {window}, {devices} devices{', mask' if masked else ''}"
        found[key] = deviation(trained(name, update, window, devices, masked), on_one(update, window, masked))
    return found | (of_losses(name) if "offline" in RULES[name].updates else {})


def of_losses(name):
    """Each loss and its gradient, in windows and on several devices, beside those of one window on one."""
    model = make(jnp.float64, edges=name in WITH_EDGES)
    rule = make_rule(name, model)
    inputs, labels, _ = batch(masked=False)
    found = {}
    for title, loss in LOSSES.items():
        whole = gradients(model, loss, inputs, labels, rule=rule, window=T)
        for _, _, (devices, window) in (way for way in WITH_LOSSES if way[:2] == (name, title)):
            shares = on(devices, (inputs, labels))
            found[f"{title}, window {window}, {devices} devices"] = deviation(
                gradients(model, loss, *shares, rule=rule, window=window), whole
            )
    return found


def few():
    """Parameters after three steps online, and the gradient of a loss of the sequence, beside those on one device."""
    found = {}
    for name, devices in FEW_TRIED:
        one = trained(name, "online", 3, 1, True)
        model = make(jnp.float64, edges=name in WITH_EDGES)
        rule, loss = make_rule(name, model), LOSSES["time mean"]
        inputs, labels, _ = batch(masked=False)
        whole = gradients(model, loss, inputs, labels, rule=rule, window=T)
        shares = on(devices, (inputs, labels))
        by_three = gradients(model, loss, *shares, rule=rule, window=3)
        found[f"{name}, online, {devices} devices"] = deviation(trained(name, "online", 3, devices, True), one)
        found[f"{name}, time mean, {devices} devices"] = deviation(by_three, whole)
    return found


def of_gradients(model, dtype):
    """Loss and gradient by BPTT on eight devices beside those on one, for a model that `model()` makes."""
    inputs, labels, mask = batch(dtype, masked=True)
    one = gradients(model(), cross_entropy, inputs, labels, mask=mask)
    inputs, labels, mask = on(8, (inputs, labels, mask))
    return deviation(gradients(model(), cross_entropy, inputs, labels, mask=mask), one)


def of_running_norms(rule, devices):
    """Loss, gradient, parameters and statistics of norms in both layers and on a late edge, after two steps of training."""
    options = {"rngs": nnx.Rngs(0), "param_dtype": jnp.float64}
    norms = [RunningNorm(nnx.Linear(n, H, **options)) for n in (N, H, H)]
    neurons = [LIF(decay=0.8, threshold=0.4, param_dtype=jnp.float64) for _ in range(2)]
    layers = [norms[0], neurons[0], norms[1], neurons[1], nnx.Linear(H, C, **options), LI(param_dtype=jnp.float64)]
    model = connect(layers, [Edge(1, 0, 2, norms[2])])
    optimizer = nnx.Optimizer(model, SGD, wrt=nnx.Param)
    inputs, labels, mask = on(devices, batch(masked=True))
    options = {"rule": RULES[rule].make(), "mask": mask}
    found = gradients(model, cross_entropy, inputs, labels, window=5, **options)
    train_offline(model, optimizer, cross_entropy, inputs, labels, **options)
    train_online(model, optimizer, cross_entropy, inputs, labels, window=5, **options)
    return found, nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat)


def of_sums_before(devices):
    """The statistics of a norm after a gradient, if an `unroll` without an end has added to its sums before."""
    norm = RunningNorm(nnx.Linear(N, C, rngs=nnx.Rngs(0), param_dtype=jnp.float64))
    model = connect([norm, LI(param_dtype=jnp.float64)])
    arrays = batch(masked=False)
    unroll(model, model.initialize_carry(arrays[0].shape[1:]), 2 * arrays[0])
    rows = norm.rows[...]
    inputs, labels, _ = on(devices, arrays)
    gradients(model, cross_entropy, inputs, labels)
    assert rows == T * B and norm.rows[...] == 0
    return nnx.state(model, nnx.BatchStat)


def of_fit(name, devices):
    """What `fit` makes of a model, online where the rule can, in windows."""
    model = make(jnp.float64, edges=name in WITH_EDGES)
    rule, both, optimizer = make_optimizer(name, model)
    update = "online" if "online" in RULES[name].updates else "offline"
    batches = [batch(masked=True)] * 3
    history = fit(
        model, optimizer, cross_entropy, batches, rule=rule, update=update, window=3, devices=devices, progress=False
    )
    return nnx.state(both, nnx.Param), history.losses


def of_offline_fit(devices):
    """What `fit` makes of a BatchNorm and a Dropout, and numbers of a held-out set whose last batch cannot be split."""
    model = make(jnp.float64, batch_norm=True, dropout="sequence")
    optimizer = nnx.Optimizer(model, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)
    inputs, labels, mask = batch(masked=True)
    batches = [(inputs, labels, mask), (inputs[::-1], labels, mask)]
    history = fit(model, optimizer, cross_entropy, batches, epochs=2, devices=devices, progress=False)
    held_out = [(inputs, labels), (inputs[:, :5], labels[:5])]
    numbers = evaluate(model, cross_entropy, held_out, metrics={"accuracy": accuracy}, devices=devices)
    floats = [leaf for leaf in jax.tree.leaves(nnx.state((model, optimizer))) if leaf.dtype == jnp.float64]
    return floats, history.losses, numbers


def of_sampled_fit(devices):
    """Batches by key, with targets per step and an optimizer step for each window."""

    def sample(key):
        inputs = jax.random.bernoulli(key, 0.4, (T, B, N)).astype(jnp.float64)
        return inputs, jnp.tile(jnp.arange(B) % C, (T, 1)), inputs[..., 0] > 0

    model = make(jnp.float64)
    optimizer = nnx.Optimizer(model, SGD, wrt=nnx.Param)
    sampler = Sampler(sample, jax.random.key(3), 3)
    rule = RULES["ottt"].make()
    options = {"rule": rule, "update": "online", "window": 3, "devices": devices, "progress": False}
    history = fit(model, optimizer, cross_entropy, sampler, **options)
    return nnx.state(model, nnx.Param), history.losses


def of_program(name):
    """Rows of the matrix products of inputs or spikes with weights, and collective operations, in the compiled program."""
    from slax_rules.loop.devices import as_mesh
    from slax_rules.loop.entry import Program, run_program

    inputs, labels, _ = split_batch(batch(jnp.float32, masked=False), jax.devices())
    model = make(jnp.float32)
    graphdef, state = nnx.split((model, RULES[name].make(), None))
    program = Program(graphdef, cross_entropy, "none", None, as_mesh(jax.devices()))
    text = run_program.lower(program, state, inputs, labels, None, None).compile().as_text()
    return {
        "rows": sorted({int(rows) for rows in re.findall(r"= f32\[(\d+),\d+\]\S* dot\(", text)}),
        "collectives": sorted(set(re.findall(r" (all-[a-z]+|collective-permute|reduce-scatter)\(", text))),
    }


def refusals():
    """What is said to batches that cannot be split, models that differ from device to device, and a step that is not finite."""
    inputs, labels, _ = batch(jnp.float32, masked=False)
    model = make(jnp.float32)
    optimizer = nnx.Optimizer(model, SGD, wrt=nnx.Param)
    seven = (inputs[:, :7], labels[:7])
    shares = on(8, (inputs, labels))
    diverging = nnx.Optimizer(model, optax.sgd(jnp.nan), wrt=nnx.Param)
    drawing = connect([nnx.Linear(N, C, rngs=nnx.Rngs(0)), nnx.Dropout(0.1, rngs=nnx.Rngs(0)), LI()])
    attempts = {
        "batch": lambda: fit(model, optimizer, cross_entropy, [seven], devices=jax.devices()),
        "split_batch": lambda: split_batch(seven, jax.devices()),
        "key": lambda: gradients(make(jnp.float32, dropout="step"), cross_entropy, *shares),
        "stream": lambda: gradients(drawing, cross_entropy, *shares),
        "uoro": lambda: gradients(model, cross_entropy, *shares, rule=make_rule("uoro", model)),
        "rate": lambda: fit(model, diverging, cross_entropy, [(inputs, labels)], devices=jax.devices()),
    }
    return {name: _message(attempt) for name, attempt in attempts.items()}


def _message(attempt):
    try:
        attempt()
    except (TypeError, ValueError, FloatingPointError) as error:
        return str(error)
    return "nothing"


def others():
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("a", "b"))
    results = {
        "programs": {"bptt": of_program("bptt"), "ostl": of_program("ostl")},
        "refusals": refusals(),
        "float32": of_gradients(lambda: make(jnp.float32, edges=True), jnp.float32),
    }
    with jax.enable_x64(True):
        results["float64"] = {
            "batch norm": of_gradients(lambda: make(jnp.float64, batch_norm=True), jnp.float64),
            "delays": of_gradients(make_delays, jnp.float64),
            "fit offline": deviation(of_offline_fit(mesh), of_offline_fit(None)),
            "fit sampled": deviation(of_sampled_fit(mesh), of_sampled_fit(None)),
        }
        for rule in ("bptt", "ostl"):
            one, *others = (of_running_norms(rule, devices) for devices in DEVICES)
            results["float64"][f"running norm, {rule}"] = max(deviation(other, one) for other in others)
        one, *others = map(of_sums_before, DEVICES)
        results["float64"]["running sums before the call"] = max(deviation(other, one) for other in others)
    return results


def main(part):
    if part == "others":
        results = others()
    elif part == "few":
        with jax.enable_x64(True):
            results = few()
    else:
        with jax.enable_x64(True):
            results = of_rule(part)
            results["fit"] = deviation(of_fit(part, jax.devices()[:2]), of_fit(part, None))
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
