"""A step of the optimizer with a gradient, or no step if the gradient cannot be used."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float

from slax_rules.loop.windows import Pair


def optimizer_step(
    model: nnx.RNNCellBase,
    rule: Any,
    optimizer: nnx.Optimizer,
    loss: Float[Array, ""],
    gradient: Pair,
    any_counts: Bool[Array, ""] | None,
    gradient_at: Callable[[Any], Pair],
    before: nnx.RNNCellBase,
) -> Float[Array, ""]:
    """Take a step in place, and return the loss, NaN if it or the gradient is not finite.

    No step is taken if the loss or gradient is not finite or no loss counts: parameters and the state of the optimizer,
    including its momenta and counters, then stay unchanged. If it is not finite, the variables that the model changes itself,
    such as the statistics of a BatchNorm, are also restored; random streams continue.

    Args:
        rule: the rule given to the training step; a rule with parameters is trained together with the model.
        any_counts: whether any loss counts; None if all do.
        gradient_at: maps parameters to the gradient of the same window there. It is passed to an optimizer that takes extra
            arguments, and costs nothing if it is not called.
        before: a copy of the model made before the gradient was computed.
    """
    trained = trained_together(model, rule)
    _check_optimizer(optimizer, trained, rule)
    finite = jnp.isfinite(loss) & _is_finite(gradient)
    use = finite if any_counts is None else finite & any_counts
    old = jax.tree.leaves(nnx.state((trained, optimizer)))
    extra = {}
    if isinstance(optimizer.tx, optax.GradientTransformationExtraArgs):
        extra["gradient_at"] = lambda params: nnx.as_pure(
            nnx.state(_as_given(gradient_at(params), model, rule), optimizer.wrt)
        )
    optimizer.update(trained, _as_given(gradient, model, rule), **extra)
    _keep((trained, optimizer), ..., use, old)
    own = nnx.Not(nnx.Any(nnx.Param, nnx.RngState))
    _keep(model, own, finite, jax.tree.leaves(nnx.state(before, own)))
    return jnp.where(finite, loss, jnp.nan)


def _keep(objects: Any, which: Any, use: Bool[Array, ""], old: list[Any]) -> None:
    """Restore the old leaves, in place, unless `use` is true."""
    new, structure = jax.tree.flatten(nnx.state(objects, which))
    kept = [n if n is o else jnp.where(use, n, o) for n, o in zip(new, old, strict=True)]
    nnx.update(objects, jax.tree.unflatten(structure, kept))


def trained_together(model: nnx.RNNCellBase, rule: Any) -> Any:
    """The object that the optimizer trains: the model, together with the rule if the rule has parameters."""
    return (model, rule) if jax.tree.leaves(nnx.state(rule, nnx.Param)) else model


def moved(objects: tuple[Any, Any], params: Any) -> tuple[Any, Any]:
    """Copies of a model and a rule with other parameters, given in the structure that the optimizer trains."""
    copies = nnx.clone(objects)
    nnx.update(trained_together(*copies), params)
    return copies


def _as_given(gradient: Pair, model: nnx.RNNCellBase, rule: Any) -> nnx.State:
    """Arrange a gradient in the structure of the object that the optimizer trains."""
    if not jax.tree.leaves(gradient.rule):
        return gradient.model
    own = jax.tree.unflatten(jax.tree.structure(nnx.state(rule, nnx.Param)), jax.tree.leaves(gradient.rule))
    return nnx.State({0: gradient.model, 1: own})


def _is_finite(gradient: Any) -> Bool[Array, ""]:
    """True if all entries are finite."""
    finite = jnp.ones((), bool)
    for leaf in jax.tree.leaves(gradient):
        finite = finite & jnp.isfinite(leaf).all()
    return finite


def _check_optimizer(optimizer: nnx.Optimizer, trained: Any, rule: Any) -> None:
    """Raise ValueError for an optimizer that was made with other parameters."""
    params = nnx.as_pure(nnx.state(trained, optimizer.wrt))
    expected = jax.eval_shape(optimizer.tx.init, params)
    mine = nnx.as_pure(optimizer.opt_state)
    if _layout(expected) != _layout(mine):
        made = "nnx.Optimizer((model, rule), ...)" if isinstance(trained, tuple) else "nnx.Optimizer(model, ...)"
        why = f", since {type(rule).__name__} has parameters of its own" if isinstance(trained, tuple) else ""
        raise ValueError(
            f"Got an optimizer whose state does not fit the parameters to be trained, expected one made with them{why}: "
            f"{made}."
        )


def _layout(tree: Any) -> list[tuple[str, tuple[int, ...], Any]]:
    """The path, shape and dtype of each array of a tree."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf.shape, leaf.dtype) for path, leaf in leaves]
