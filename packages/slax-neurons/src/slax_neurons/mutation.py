"""What a module changes when it is called: statistics, caches, random streams and running sums."""

import contextlib
from collections.abc import Iterator

from flax import nnx
from flax.errors import TraceContextError

from slax_neurons.synapses.synapse import accumulates

# Types of variables that a module changes when it is called; a variable of any other type is taken as constant.
MUTATED = (nnx.BatchStat, nnx.Cache, nnx.Intermediate, nnx.RngState)

# The remedies for a module that changes without saying so, and for a neuron with noise.
DECLARE_IT = (
    "Put mutates_state = True into its class, or make the variable an nnx.BatchStat: it is then called once, with the whole "
    "sequence. If jax.jit is around it, use nnx.jit."
)
KEY_IN_CARRY = (
    "Keep what changes in the carry: for noise, a random key for each sample, which each step splits, and "
    "mutates_state = False in the class (docs/neurons.md, Noise)."
)


def mutates_state(module: nnx.Module) -> bool:
    """True if a call may change variables of the module, which must then see the entire sequence in one call outside a scan.

    A module declares this by `mutates_state = True` in its class. Among modules without a declaration, it is true for those
    with random streams or variables of a type in `MUTATED`, BatchNorm in training, and Flax's Dropout unless deterministic.
    """
    return any(_mutates(part) for _, part in nnx.iter_modules(module))


def changes_when_called(module: nnx.Module) -> bool:
    """True if a call may change variables of the module: it mutates its state, or adds to running sums."""
    return mutates_state(module) or accumulates(module)


def _mutates(part: nnx.Module) -> bool:
    if isinstance(part, nnx.BatchNorm):
        return not part.use_running_average
    if isinstance(part, nnx.Dropout):
        return not part.deterministic
    declared = getattr(part, "mutates_state", None)
    if declared is not None:
        return declared
    return any(isinstance(value, (nnx.Rngs, nnx.RngStream, *MUTATED)) for value in vars(part).values())


@contextlib.contextmanager
def mutations_explained(model: nnx.Module) -> Iterator[None]:
    """Explain the remedy if a module changes a variable of its own in a function that JAX traces."""
    try:
        yield
    except TraceContextError as error:
        changed = (part for _, part in nnx.iter_modules(model) if isinstance(part, nnx.RNNCellBase) and _mutates(part))
        what, cure = "a module", DECLARE_IT
        if (cell := next(changed, None)) is not None:
            what, cure = type(cell).__name__, KEY_IN_CARRY
        elif mutates_state(model):
            raise
        says = "draws random numbers or changes its variables where JAX traces"
        raise ValueError(f"Got {what} that {says}. {cure}") from error
