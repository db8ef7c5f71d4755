"""A check of a neuron of your own: all that `unroll` and learning rules take for granted, in one call for your tests."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons.neurons.neuron import Neuron, NeuronCell, SpikingNeuron
from slax_neurons.surrogates import Surrogate
from slax_neurons.unrolling import reverse_pass_of_jax, unroll


def check_neuron(neuron: NeuronCell, currents: Float[Array, "T B ..."] | None = None) -> None:
    """Raise AssertionError, which says what to do, unless a neuron keeps its contract. Nothing is trained or changed.

    * The carry keeps its shapes and dtypes from step to step.
    * Each unit of each sample depends on its own state and current alone; of a cell that is no `Neuron`, each sample does.
    * Outputs of a neuron with `spikes = True` are 0 or 1, and have a derivative w.r.t. the currents.
    * `unroll`, in windows and in chunks, is the step in a loop: the same outputs, last carry and gradients.
    * `membrane_decay`, if it is a number, is the derivative of the membrane of a silent unit w.r.t. the membrane before.
    * `linear = True` holds: without spikes, the derivatives of `integrate` and `fire` do not depend on the state.

    Args:
        neuron: an instance, with parameters for these currents.
        currents: currents under which it fires; by default normal ones for 3 samples of 4 units, of deviation 1, 10 and 100.

    Raises:
        AssertionError: a promise that the neuron does not keep.

    Example:
        >>> from slax_neurons import LIF, SpikingNeuron
        >>> from slax_neurons.testing import check_neuron
        >>> check_neuron(LIF(decay=0.5, reset="zero"))
        >>> class Competing(SpikingNeuron):
        ...     def integrate(self, carry, inputs):
        ...         return 0.5 * carry - carry.mean(axis=-1, keepdims=True) + inputs
        ...
        ...     def fire(self, membrane):
        ...         return self.spike(membrane)
        >>> check_neuron(Competing())
        Traceback (most recent call last):
        AssertionError: Competing makes a unit or a sample of others. Let each depend on its own state and current alone. ...
    """
    if currents is None:
        normal = jax.random.normal(jax.random.key(0), (12, 3, 4))
        currents = (jnp.array([1.0, 10.0, 100.0])[None, :, None] * normal).astype(neuron.param_dtype)
    rest = neuron.initialize_carry(currents.shape[1:], nnx.Rngs(0))
    _check_carry(neuron, rest, currents[0])
    if not units_are_separate(neuron, rest):
        cure = "Let each depend on its own state and current alone. A cell whose units interact is a NeuronCell."
        raise _broken(neuron, f"makes a unit or a sample of others. {cure}")
    _check_time(neuron, rest, currents)
    if neuron.membrane_decay is not None:
        _check_membrane_decay(neuron, rest, currents[0])
    if neuron.linear:
        _check_linear(neuron, rest, currents[0])


def _broken(neuron: NeuronCell, says: str) -> AssertionError:
    return AssertionError(f"{type(neuron).__name__} {says}")


def _check_carry(neuron: Any, rest: Any, current: Array) -> None:
    made = jax.eval_shape(lambda carry, current: neuron(carry, current), rest, current)
    if not (isinstance(made, tuple) and len(made) == 2):
        raise _broken(neuron, f"returned {made} for a step. End fire, or __call__, with: return carry, output.")
    of_unit = current[..., : current.shape[-1] // getattr(neuron, "currents_per_unit", 1)]
    written = lambda leaf: f"{leaf.dtype}{list(leaf.shape)}"  # noqa: E731
    before, after, own = (jax.tree.map(written, tree) for tree in (rest, made[0], of_unit))
    if before != after:
        cure = "Make all states of param_dtype, s.astype(self.param_dtype), and end fire with: return carry, output."
        raise _broken(neuron, f"has a carry of {before} before a step, and of {after} after it. {cure}")
    if getattr(neuron, "has_split_step", False) and any(leaf != own for leaf in jax.tree.leaves(before)):
        cure = "States of integrate and fire are like the current; counts and random keys need __call__ alone."
        raise _broken(neuron, f"has a carry of {before} for a current of {own}. {cure}")


def _check_time(neuron: Any, rest: Any, currents: Array) -> None:
    """Compare `unroll` with a loop of steps, and look at the outputs and at their derivative."""
    graphdef, params, others = nnx.split(neuron, nnx.Param, ...)
    weights = jax.random.normal(jax.random.key(1), currents.shape).astype(currents.dtype)
    middle = len(currents) // 2

    def loop(cell: Any, currents: Array) -> Any:
        return jax.lax.scan(lambda carry, current: cell(carry, current), rest, currents)

    def windows(cell: Any, currents: Array) -> Any:
        carry, first = unroll(cell, rest, currents[:middle], chunk=2)
        carry, second = unroll(cell, carry, currents[middle:])
        return carry, jnp.concatenate([first, second])

    def found(run: Any) -> Any:
        def total(params: Any, currents: Array) -> Any:
            carry, outputs = run(nnx.merge(graphdef, params, others), currents)
            return jnp.sum(weights * outputs), (outputs, _states(carry))

        with reverse_pass_of_jax(False):
            return jax.jit(jax.grad(total, (0, 1), has_aux=True))(params, currents)

    expected = found(loop)
    gradient, (outputs, _) = expected
    if neuron.spikes and not jnp.isin(outputs, jnp.array([0, 1], outputs.dtype)).all():
        cure = "Return the carry first and then the spikes, which spike_fn makes: return carry, spikes."
        raise _broken(neuron, f"declares spikes = True, and has outputs other than 0 and 1. {cure}")
    is_finite = all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(expected))
    if not is_finite or (neuron.spikes and not outputs.any()):
        fault = "never fires" if is_finite else "is not finite"
        raise _broken(neuron, f"{fault} under these currents. Pass others: check_neuron(neuron, currents).")
    if not gradient[1].any():
        cure = "Make spikes by a surrogate: self.spike(membrane), or self.spike_fn(membrane - threshold)."
        raise _broken(neuron, f"has outputs without a derivative, so that nothing before it learns. {cure}")
    if not _close(found(windows), expected):
        cure = "Leave unroll and pre_reset_states as they are, and keep all that lasts in the carry."
        raise _broken(neuron, f"has outputs or gradients over time that differ from its steps one by one. {cure}")


def _close(one: Any, other: Any) -> bool:
    """Whether trees of arrays are equal up to rounding."""
    pairs = [[np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)] for tree in (one, other)]
    return all(np.allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max(initial=0)) for a, b in zip(*pairs, strict=True))


def _check_membrane_decay(neuron: Any, rest: Any, current: Array) -> None:
    """Compare it with the derivative at three membranes, the other states being at rest."""
    held = neuron.replace(spike_fn=Surrogate(jnp.zeros_like)) if hasattr(neuron, "spike_fn") else neuron

    def step(carry: Any) -> Any:
        after, output = held(carry, jnp.zeros_like(current))
        return neuron.membrane(after), output

    states, decay = _states(rest), jnp.asarray(neuron.membrane_decay, current.dtype)
    along = jax.grad(lambda states: _of_states(neuron.membrane, rest)(states).sum())(states)
    for shift in (0.0, 0.3, -0.3):
        point = [state + jnp.asarray(shift, state.dtype) * part for state, part in zip(states, along, strict=True)]
        (_, output), (slope, _) = jax.jvp(_of_states(step, rest), (point,), (along,))
        slope = jnp.where((output == 0) | (not neuron.spikes), slope, decay)  # of units that are silent
        if not _close(slope, jnp.full_like(slope, decay)):
            cure = "Define the property membrane_decay as the factor of the membrane in a step, or as None."
            found = f"has membrane_decay = {decay:.4g}, but its membrane decays by {slope.ravel()[0]:.4g}"
            raise _broken(neuron, f"{found}. {cure}")


def _check_linear(neuron: Any, rest: Any, current: Array) -> None:
    """Compare the derivatives of `integrate` and `fire` at three states, with spikes as constants."""
    if not neuron.has_split_step:
        raise _broken(neuron, "declares linear = True without integrate and fire. Define both.")
    held = neuron
    if isinstance(neuron, SpikingNeuron):
        reset = "none" if neuron.reset == "zero" else neuron.reset
        held = neuron.replace(spike_fn=Surrogate(jnp.zeros_like), reset=reset)

    def slopes(at: float) -> Any:
        state, now = jax.tree.map(lambda leaf: jnp.full_like(leaf, at), (rest, current))
        by_fire = jax.jacfwd(lambda membrane: held.fire(membrane)[0])(held.integrate(state, now))
        return *(jax.jacfwd(held.integrate, number)(state, now) for number in (0, 1)), by_fire

    _, by_current, _ = here = slopes(0.0)
    reads_current = any(leaf.any() for leaf in jax.tree.leaves(by_current))
    if not (reads_current and _close(slopes(3.0), here) and _close(slopes(-2.0), here)):
        cure = "Leave it out, since only some rules need it, or make its spikes by self.spike."
        fault = "declares linear = True, but derivatives of integrate or fire depend on its state"
        raise _broken(neuron, f"{fault}. {cure}")


def units_are_separate(neuron: NeuronCell, carry: Any) -> bool:
    """Whether each unit of each sample depends on its own state and current alone; for a cell that is no `Neuron`, each sample.

    It is run on random numbers. For each binary digit of the units' numbers, the units with a 0 there and those with a 1 get
    tangents in turn, so that each pair of units is apart at some digit. What rules omit is derivatives, so a detached mean over
    units, say, is allowed.

    Args:
        neuron: any neuron; its parameters may be tracers.
        carry: its carry, or the shapes and dtypes of one.
    """
    graphdef, state = nnx.split(neuron)
    currents = getattr(neuron, "currents_per_unit", 1)

    @jax.jit
    def reaches(variables: Any, carry: Any, scale: Array, marked: Array) -> Array:
        """Whether the tangents of the marked units reach others."""
        step = _of_states(lambda carry, current: nnx.merge(graphdef, variables)(carry, current), carry)
        point = [scale.astype(leaf.dtype) * leaf for leaf in _states(carry)]
        moved = [jnp.where(marked, leaf, jnp.zeros_like(leaf)) for leaf in point]
        current, d_current = (jnp.concatenate([leaves[0]] * currents, axis=-1) for leaves in (point, moved))
        after, output = jax.jvp(step, (point, current), (moved, d_current))[1]
        parts = [*_states(after), *jnp.split(output, currents, axis=-1)]
        return jnp.any(jnp.stack([jnp.any(jnp.isfinite(x) & (x != 0) & ~marked) for x in parts]))

    with jax.ensure_compile_time_eval(), jax.debug_nans(False), jax.debug_infs(False):
        variables, start = _random_like((state, carry))
        shape = _states(start)[0].shape
        numbers = np.arange(math.prod(shape)).reshape(shape)
        if not isinstance(neuron, Neuron):
            numbers = np.broadcast_to(np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)), shape)
        halves = [numbers >> digit & 1 == side for digit in range(int(numbers.max()).bit_length()) for side in (0, 1)]
        scales = jnp.array([0.5, 5.0, -5.0])
        return not any(reaches(variables, start, scale, half) for half in halves for scale in scales)


def spikes_are_whole(neuron: NeuronCell, carry: Any) -> bool:
    """Whether the outputs of a neuron with `spikes = True` are whole numbers, as spikes are, in one step on random numbers.

    Args:
        neuron: any neuron; its parameters may be tracers.
        carry: its carry, or the shapes and dtypes of one.
    """
    if not neuron.spikes or not _states(carry):
        return True
    graphdef, state = nnx.split(neuron)
    with jax.ensure_compile_time_eval(), jax.debug_nans(False), jax.debug_infs(False):
        variables, start = _random_like((state, carry))
        _, output = nnx.merge(graphdef, variables)(start, 3.0 * _states(start)[0])
        return bool((output == jnp.round(output)).all())


def _random_like(tree: Any) -> Any:
    """A tree of the same shapes and dtypes with random numbers between 0 and 1; integers and booleans that are known stay."""
    random = np.random.default_rng(0)

    def some(leaf: Any) -> Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.split(jax.random.key(0), leaf.shape)
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.asarray(random.uniform(size=leaf.shape), leaf.dtype)
        is_known = isinstance(leaf, jax.Array | np.ndarray) and not isinstance(leaf, jax.core.Tracer)
        return jnp.asarray(leaf) if is_known else jnp.ones(leaf.shape, leaf.dtype)  # such as a mask of connections

    return jax.tree.map(some, tree)


def _states(carry: Any) -> list[Array]:
    """The floating-point numbers in a carry."""
    return [leaf for leaf in jax.tree.leaves(carry) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def _of_states(function: Any, carry: Any) -> Any:
    """A function of a carry as one of its states."""

    def of_states(states: list[Array], *arguments: Any) -> Any:
        given = iter(states)
        leaf_of = lambda leaf: next(given) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf  # noqa: E731
        return function(jax.tree.map(leaf_of, carry), *arguments)

    return of_states
