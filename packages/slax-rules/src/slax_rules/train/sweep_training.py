"""The checks of what `sweep` got, and the training of its runs."""

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

from slax_rules.loop import trained_together
from slax_rules.masks import check_some_entry
from slax_rules.rules.base import check_is_rule
from slax_rules.step import Step, jitted
from slax_rules.train.batches import as_batch, epoch_batches
from slax_rules.train.runs import Run
from slax_rules.train.steps import Flags, guarded_step

# A step takes about as long as with all optimizations of LLVM, and compiles in two thirds of the time.
COMPILER_OPTIONS = {"xla_backend_optimization_level": 1}

# Folded into the key of a seed for weights and rules, so that they are independent of samples drawn by the key itself.
START = 1

RESERVED = {  # columns of the table
    "rule", "rate", "validation", "test", "low", "high", "seeds", "not_finite", "reference", "difference", "difference_low",
    "difference_high", "p_value",
}  # fmt: skip


Values = Sequence[Any] | np.ndarray | jax.Array


def of_rule(given: Any, rule: str) -> Any:
    """The value for a rule, of one for all or a dict with one for each."""
    return given[rule] if isinstance(given, Mapping) else given


def plain(value: Any) -> Any:
    """A number of NumPy or JAX as one of Python; anything else as it is."""
    is_number = isinstance(value, np.generic | np.ndarray | jax.Array) and not value.ndim
    return value.item() if is_number else value


def checked_steps(evaluate_at: Values) -> tuple[int, ...]:
    """The numbers of batches of `evaluate_at`, each once, in increasing order."""
    try:
        steps = tuple(sorted({*map(operator.index, evaluate_at)}))
    except TypeError:
        raise TypeError(f"sweep got evaluate_at={evaluate_at}, expected integers: (100, 300).") from None
    if steps and steps[0] < 0:
        raise ValueError(f"sweep got evaluate_at={evaluate_at}, expected numbers of batches of at least 0.")
    return steps


def check_arguments(
    make_model: Any,
    rules: Any,
    by_rule: Mapping[str, Any],
    rates: Any,
    settings: Any,
    seeds: Any,
    trials: int,
    sets: Mapping[str, Any],
) -> None:
    """Raise TypeError or ValueError for arguments that do not fit together."""
    if not callable(make_model) or isinstance(make_model, nnx.Module):
        raise TypeError(f"sweep got a {type(make_model).__name__}, expected a function that maps nnx.Rngs to a model.")
    if not isinstance(rules, Mapping) or not rules:
        raise TypeError('sweep expects rules by name: rules={"bptt": BPTT(), "otpe": OTPE()}.')
    for name, given in by_rule.items():
        if isinstance(given, Mapping) and (missing := [rule for rule in rules if rule not in given]):
            raise ValueError(f"sweep got {name} by rule and none for {', '.join(missing)}, expected one for each rule.")
    if not all(callable(of_rule(by_rule["optimizer"], rule)) for rule in rules):
        raise TypeError("sweep expects as optimizer a function that maps a learning rate to one: optax.adam.")
    if not np.size(rates) or np.ndim(rates) != 1 or not np.min(rates) > 0 or len(np.unique(rates)) < len(rates):
        raise ValueError(f"sweep got rates={rates}, expected a list of different positive numbers: [1e-3, 1e-2].")
    if not 1 <= trials <= len(seeds) or len(set(seeds)) < len(seeds):
        raise ValueError(f"sweep got the seeds {seeds}, {trials} for trials, expected different seeds, 1 or more.")
    if taken := sorted({*(settings or {})} & RESERVED):
        raise ValueError(f"sweep got settings named {', '.join(taken)}, expected other names than the table's.")
    if any(isinstance(values, str) or not np.size(values) for values in (settings or {}).values()):
        raise ValueError(f'sweep got settings={settings}, expected a list of values each: {{"decay": [0.9, 0.98]}}.')
    if sets["validation"] is None and (
        len(rates) > 1 or any(np.size(values) > 1 for values in (settings or {}).values())
    ):
        raise ValueError("sweep got several rates or settings, expected validation=[...] to choose by.")
    if _are_same(sets["validation"], sets["test"]):
        raise ValueError("sweep got the same samples for validation and test, expected new ones in the test.")
    for name, given in sets.items():
        if given is not None:
            epoch_batches(given, name, times=2)


def _are_same(validation: Any, test: Any) -> bool:
    """Whether two sources are the same object, or lists with the same inputs first."""
    if validation is None or test is None:
        return False
    lists = isinstance(validation, list | tuple) and isinstance(test, list | tuple) and validation and test
    return validation is test or bool(lists and validation[0][0] is test[0][0])


Objects = tuple[Any, Any, nnx.Optimizer]  # the model, the rule and the optimizer


@dataclasses.dataclass(frozen=True)
class Training:
    """How the runs of a sweep are trained. It has the arguments of `sweep`, with the window of each rule."""

    make_model: Callable[..., nnx.RNNCellBase]
    optimizer: Any
    loss_fn: Any
    batches: Any
    rules: Mapping[str, Any]
    update: Literal["offline", "online"]
    windows: Mapping[str, int | None]
    evaluate_at: Sequence[int]

    def run(self, rule: str, point: Mapping[str, Any], seed: int) -> Run:
        """The run of a rule, a point and a seed."""
        return self.train(self.start(rule, point, seed), rule, point, seed)[0]

    def start(self, rule: str, point: Mapping[str, Any], seed: int) -> Objects:
        """The model, the rule and the optimizer before training. The weights do not depend on the rule."""
        model_key, rule_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), START))
        rate, setting = point["rate"], {name: value for name, value in point.items() if name != "rate"}
        model = self.make_model(nnx.Rngs(model_key), **setting)
        if not isinstance(model, nnx.RNNCellBase):
            raise TypeError(f"make_model returned {type(model).__name__}, expected a cell, as connect makes.")
        given = self.rules[rule]
        made = callable(given) and not isinstance(given, type)
        given = given(rngs=nnx.Rngs(rule_key), model=model) if made else given
        check_is_rule(given)
        transformation = _with_rate_in_state(of_rule(self.optimizer, rule))
        optimizer = nnx.Optimizer(trained_together(model, given), transformation, wrt=nnx.Param)
        in_state = optimizer.opt_state.hyperparams["rate"]
        in_state[...] = jnp.asarray(rate, in_state.dtype)
        return model, given, optimizer

    def train(self, objects: Objects, rule: str, point: Mapping[str, Any], seed: int) -> tuple[Run, Any]:
        """Train once; the run, and its last batch."""
        graph, state = nnx.split(objects)
        step = jitted(guarded_step, Step(graph, self.loss_fn, self.update, self.windows[rule]), **COMPILER_OPTIONS)
        flags = Flags.first(objects[0])
        states = {0: state} if 0 in self.evaluate_at else {}
        pending: list[Array] = []
        batch = None
        for batch in map(as_batch, epoch_batches(self.batches)(seed)):
            for mask in batch[2:]:
                check_some_entry(mask)
            state, flags, loss = step(state, flags, batch)
            pending.append(loss)
            if len(pending) in self.evaluate_at:
                states[len(pending)] = state
        if (count := len(pending)) < (least := max([1, *self.evaluate_at])):
            raise ValueError(f"sweep got {count} batches for seed {seed}, expected at least {least}.")
        states = {at: of_network(kept) for at, kept in (states | {count: state}).items()}
        losses = np.array(jax.device_get(pending))
        return Run.of(rule, point, seed, losses, nnx.graphdef(objects[:2]), states), batch


@functools.lru_cache(maxsize=64)
def _with_rate_in_state(make: Callable[[Any], optax.GradientTransformation]) -> optax.GradientTransformation:
    """A transformation with its learning rate in its state; the same object each time, so that it is the same program."""
    return optax.inject_hyperparams(lambda rate: make(rate))(rate=1.0)


def of_network(state: nnx.State) -> nnx.State:
    """The state of model and rule in that of (model, rule, optimizer)."""
    return nnx.filter_state(state, lambda path, _: path[0] < 2)
