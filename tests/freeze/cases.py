"""What is frozen: each case is a name, and a function without arguments that returns arrays by name.

A case keeps to float64, and draws its numbers with NumPy, or by keys given to it.
"""

import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from freeze.calls import (
    BPTT,
    LI,
    LIF,
    OSTL,
    OTPE,
    OTTT,
    RTRL,
    RULES,
    SLTT,
    Checkpoints,
    Dropout,
    Edge,
    Every,
    Penalty,
    Sampler,
    SequenceLoss,
    Trainable,
    connect,
    cross_entropy,
    extend_stream,
    extend_trial,
    firing_rate,
    fit,
    fptt,
    gradients,
    numbers_of,
    per_layer,
    reward_gradient,
    rule_numbers,
    start_stream,
    start_trial,
)
from laws.table import MASK, NETWORKS, PENALTIES, TABLE, TARGETS, inputs_of, made, weighted_squares
from stacks import gradients_of

Arrays = dict[str, np.ndarray]

# ---------------------------------------------------------------------------------------------------------------- gradients


def of_table(name: str, network: str, window: int | None, masked: bool) -> Arrays:
    """The loss and the gradient of a rule of the laws' table, as the oracle calls its parameters."""
    entry = TABLE[name]
    model = NETWORKS[network].pair(fixed=entry.fixed, own_edges=entry.own_edges).model
    return _gradients(model, made(name, model), network, window, masked)


def of_uoro() -> Arrays:
    """UORO draws its signs from the streams it gets."""
    model = NETWORKS["chain"].pair().model
    return _gradients(model, RULES["uoro"].make(rngs=nnx.Rngs(5)), "chain", 3, True)


def of_penalties(name: str, window: int | None) -> Arrays:
    """With losses of layers: of each step, and where the window is the whole sequence, of a mean."""
    model = NETWORKS["edges"].pair().model
    penalties = [penalty for penalty, _ in PENALTIES if window is None or not penalty.of_mean]
    return _gradients(model, made(name, model), "edges", window, True, penalties=penalties)


def _gradients(model: Any, rule: Any, network: str, window: int | None, masked: bool, **options: Any) -> Arrays:
    inputs, mask = jnp.asarray(inputs_of(network)), jnp.asarray(MASK) if masked else None
    loss, found = gradients(
        model, weighted_squares, inputs, jnp.asarray(TARGETS), mask, rule=rule, window=window, **options
    )
    layers = enumerate(gradients_of(model, found))
    return {"loss": np.asarray(loss)} | {
        f"{index}.{name}": part for index, layer in layers for name, part in layer.items()
    }


# Each kind of trace in all windows, and with the mask and without; the rest in the whole sequence, with it.
KINDS = [
    *("bptt", "tbptt", "rtrl", "snap", "ostl", "ostl_with_recurrence", "otpe", "approximate_otpe", "ottt", "sltt"),
    *("e_prop", "pp_prop", "s_tllr", "e_prop_adaptive", "decolle", "osttp"),
]
CASES: dict[str, Callable[[], Arrays]] = {}
for name, entry in TABLE.items():
    for place, network in enumerate(entry.networks):
        for window in (3, 5, None) if name in KINDS and place == 0 else (None,):
            CASES[f"{name} on {network}, window {window}"] = partial(of_table, name, network, window, True)
for name in KINDS:
    CASES[f"{name} without a mask"] = partial(of_table, name, TABLE[name].networks[0], None, False)
CASES["uoro"] = of_uoro
for name in ("bptt", "ostl", "ottt"):
    for window in (3, None):
        CASES[f"{name} with penalties, window {window}"] = partial(of_penalties, name, window)

# ------------------------------------------------------------------------------------------------------------------ training

STEPS, B, N, C = 7, 4, 5, 3


def network(*, hidden: int = 6, edges: Any = (), modules: Any = (), layers: int = 1) -> Any:
    draws = np.random.default_rng(3)

    def linear(n: int, m: int) -> nnx.Linear:
        synapse = nnx.Linear(n, m, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
        synapse.kernel[...] = jnp.asarray(draws.normal(size=(n, m)) * 1.5 / np.sqrt(n))
        synapse.bias[...] = jnp.asarray(draws.normal(size=m) * 0.1)
        return synapse

    def lif() -> LIF:
        return LIF(decay=Trainable(0.8), threshold=0.6, param_dtype=jnp.float64)

    stack = []
    for n in (N, *[hidden] * (layers - 1)):
        stack += [linear(n, hidden), lif(), *modules]
    edges = [Edge(sender, receiver, 1, linear(hidden, hidden)) for sender, receiver in edges]
    return connect([*stack, linear(hidden, C), LI(decay=0.7, param_dtype=jnp.float64)], edges)


def batch(seed: int, *, masked: bool = False) -> tuple[Any, ...]:
    draws = np.random.default_rng(seed)
    drawn = (draws.random((STEPS, B, N)) < 0.5).astype(float), draws.integers(0, C, B)
    return (*drawn, draws.random((STEPS, B)) < 0.7) if masked else drawn


BATCHES = [batch(seed) for seed in range(3)]
MASKED = [batch(seed, masked=True) for seed in range(3)]


def squares(outputs: Any) -> Any:
    return (outputs**2).mean(axis=1)


def at_the_end(outputs: Any, targets: Any) -> Any:
    """Of the mean over time, as a loss of whole sequences."""
    return cross_entropy(outputs.mean(axis=0), targets)


def sample(key: Any) -> tuple[Any, Any]:
    keys = jax.random.split(key)
    inputs = jax.random.bernoulli(keys[0], 0.5, (STEPS, B, N)).astype(float)
    return inputs, jax.random.randint(keys[1], (B,), 0, C)


def trained(
    rule: Any,
    batches: Any = BATCHES,
    *,
    loss_fn: Any = cross_entropy,
    transformation: Any = None,
    learns: bool = False,
    model: Any = None,
    **options: Any,
) -> Arrays:
    """The loss of each step and what is learned: of a model, and of a rule that has parameters."""
    model = network() if model is None else model
    rule = rule(model) if isinstance(rule, Callable) else rule
    transformation = optax.adam(0.03) if transformation is None else transformation
    optimizer = nnx.Optimizer((model, rule) if learns else model, transformation, wrt=nnx.Param)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # silent layers, and windows without credit: these networks are tiny
        history = fit(model, optimizer, loss_fn, batches, rule=rule, epochs=2, progress=False, **options)
    losses = {"losses": history.losses}
    return losses | numbers_of(model) | (rule_numbers(rule) if learns else {})


class Killed(Exception):
    """Ends a run in the middle."""


def killed_and_resumed() -> Arrays:
    """A run that ends after four of its six steps, from its checkpoint of the third."""

    def stop(info: Any) -> None:
        if info.step == 4:
            raise Killed

    transformation = optax.adam(0.03)
    with tempfile.TemporaryDirectory() as folder:
        run = partial(trained, OTTT(), transformation=transformation, update="online", window=3)
        try:
            run(checkpoints=Checkpoints(folder, every=3), callbacks=[Every(1, stop)])
        except Killed:
            return run(checkpoints=Checkpoints(folder, every=3))
    raise AssertionError("The run was not ended.")


def evaluated() -> Arrays:
    """The records of an evaluation after each epoch."""
    model = network()
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    history = fit(model, optimizer, cross_entropy, BATCHES, epochs=2, held_out=MASKED, progress=False)
    return {"losses": history.losses} | {f"held_out{index}": _numbers(one) for index, one in enumerate(history.records)}


def _numbers(record: dict[str, Any]) -> np.ndarray:
    return np.array([record[name] for name in sorted(record)], float)


def adaptive(model: Any) -> Any:
    return RULES["e_prop_adaptive"].make(rngs=nnx.Rngs(5), model=model)


def streamed() -> Arrays:
    """Pieces of different length, a mask, and a reset of some samples."""
    model = network(edges=[(1, 0)])
    stream = start_stream(
        model, nnx.Optimizer(model, optax.adam(0.03), wrt=nnx.Param), cross_entropy, (B, N), rule=OTPE(), window=2
    )
    found, draws = {}, np.random.default_rng(6)
    for piece, steps in enumerate((4, 3, 4)):
        inputs = jnp.asarray((draws.random((steps, B, N)) < 0.5).astype(float))
        targets, mask = jnp.asarray(draws.integers(0, C, (steps, B))), jnp.asarray(draws.random((steps, B)) < 0.7)
        reset = jnp.asarray([True, False, False, True]) if piece == 2 else None
        stream, outputs, losses = extend_stream(stream, inputs, targets, mask, reset=reset)
        found |= {f"outputs{piece}": np.asarray(outputs), f"losses{piece}": np.asarray(losses)}
    return found | numbers_of(stream.model)


def rewarded(rule: Any) -> Arrays:
    """The gradient of a trial in two pieces of one program, whose actions are the largest outputs."""
    model, draws = network(), np.random.default_rng(7)
    trial = start_trial(model, (B, N), rule=rule)

    @nnx.jit
    def extended(model: Any, trial: Any, inputs: Any) -> Any:
        def act(outputs: Any) -> Any:
            return outputs.argmax(axis=-1)

        return extend_trial(model, trial, cross_entropy, inputs, act, rule=rule, discount=0.9)[:2]

    for _ in range(2):
        trial, outputs = extended(model, trial, jnp.asarray((draws.random((4, B, N)) < 0.5).astype(float)))
    gradient = nnx.clone(model)
    nnx.update(gradient, reward_gradient(trial, jnp.asarray(draws.normal(size=B))))
    return {"outputs": np.asarray(outputs)} | {
        name: part for name, part in numbers_of(gradient).items() if not name.endswith("decay")
    }


CASES |= {
    "fit, BPTT": partial(trained, BPTT()),
    "fit, BPTT, masks, momentum": partial(trained, BPTT(), MASKED, transformation=optax.sgd(0.1, momentum=0.9)),
    "fit, BPTT, a loss of sequences": partial(trained, BPTT(), loss_fn=SequenceLoss(at_the_end)),
    "fit, BPTT, dropout": lambda: trained(
        BPTT(), model=network(modules=[Dropout(0.3, rngs=nnx.Rngs(dropout=2))]), transformation=optax.sgd(0.1)
    ),
    "fit, BPTT, online": partial(trained, BPTT(), update="online", window=3),
    "fit, OTPE, windows": partial(trained, OTPE(), window=3),
    "fit, OTPE, online": lambda: trained(OTPE(), MASKED, model=network(layers=2), update="online", window=3),
    "fit, OTTT, online": partial(trained, OTTT(), update="online", window=3),
    "fit, OTTT, a sampler": lambda: trained(
        OTTT(), Sampler(sample, jax.random.key(1), steps=3), update="online", window=3
    ),
    "fit, OTPE, a sampler": lambda: trained(OTPE(), Sampler(sample, jax.random.key(1), steps=3)),
    "fit, e-prop random": lambda: trained(lambda _: RULES["e_prop_random"].make(rngs=nnx.Rngs(5))),
    "fit, e-prop adaptive": partial(trained, adaptive, learns=True),
    "fit, e-prop adaptive, online": partial(trained, adaptive, learns=True, update="online", window=3),
    "fit, OSTL with an edge, online": lambda: trained(
        OSTL(), model=network(edges=[(1, 0)]), update="online", window=1, transformation=optax.sgd(0.1)
    ),
    "fit, RTRL, online": lambda: trained(RTRL(), model=network(edges=[(1, 0)]), update="online", window=2),
    "fit, a rule for each layer, online": lambda: trained(per_layer([OTPE(), SLTT()]), update="online", window=3),
    "fit, FPTT": partial(trained, OTTT(), transformation=fptt(optax.sgd(0.1)), update="online", window=3),
    "fit, penalties": partial(trained, OTPE(), penalties=[firing_rate(0.1, 0.5), Penalty(squares, 0.2, layers=(0,))]),
    "fit, a penalty, online": partial(
        trained, OTTT(), penalties=[Penalty(squares, 0.2, layers=(0,))], update="online", window=3
    ),
    "fit, killed and resumed": killed_and_resumed,
    "fit, evaluated": evaluated,
    "a stream": streamed,
    "a reward, OSTL": lambda: rewarded(OSTL()),
    "a reward, BPTT": lambda: rewarded(BPTT()),
}

# What `make test` compares, in less than half a minute: a kind of trace in each window, a rule in one, and all of training.
WINDOWS = {
    **dict.fromkeys(("ostl", "ottt"), (3, 5)),
    **dict.fromkeys(("otpe", "e_prop", "s_tllr"), (3,)),
    **dict.fromkeys(("snap", *(set(TABLE) - set(KINDS))), ()),
}
REPEATS = ("fit, OTPE, a sampler", "fit, e-prop random", "fit, e-prop adaptive", "fit, BPTT, online")
DAILY = [
    *(f"{name} on {TABLE[name].networks[0]}, window {k}" for name in TABLE for k in WINDOWS.get(name, (None,))),
    *("ottt without a mask", "uoro", "ostl with penalties, window 3", "ottt with penalties, window None"),
    *(name for name in CASES if name.startswith(("fit, ", "a ")) and name not in REPEATS),
]
