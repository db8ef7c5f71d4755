"""The checks of what `sweep` got."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from slax_rules.train.batches import epoch_batches

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
        raise TypeError(f"sweep got {make_model!r} as make_model, expected a function that maps nnx.Rngs to a model.")
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
        raise ValueError("sweep got several rates or settings and no validation samples to choose by.")
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
