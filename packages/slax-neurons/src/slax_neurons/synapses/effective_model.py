"""A model with effective weights in the place of what makes them."""

from typing import Any

from flax import nnx

from slax_neurons.synapses.running_sums import accumulates
from slax_neurons.synapses.synapse import Synapse, effective_synapse, is_plain, is_synapse


def with_effective_weights(model: Any, *, keep_calls: bool = False, keep: tuple[type, ...] = ()) -> Any:
    """Return a copy of a model in which each synapse is the Linear or Conv with its effective weights.

    The copy shares all other variables with the model, and a model without such synapses is returned itself. It computes the
    same outputs as in evaluation, such as for export; JAX differentiates through the copy to the parameters of the model.

    Args:
        model: any module, such as a stack made by `connect`.
        keep_calls: keep synapses with a call of their own: those that add to running sums, such as a `RunningNorm` in training,
            and those that are no `Synapse`, which may compute less than a product with the effective kernel.
        keep: types of synapses to keep.

    Raises:
        ValueError: effective weights of shapes that do not fit.

    Example:
        >>> from flax import nnx
        >>> from slax_neurons import LIF, Masked, connect, with_effective_weights
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([Masked.random(nnx.Linear(8, 4, rngs=rngs), 0.25, rngs=rngs), LIF()])
        >>> sparse = with_effective_weights(model).modules[0]
        >>> type(sparse).__name__, int((sparse.kernel[...] != 0).sum())
        ('Linear', 8)
    """
    if not any(_is_made(part) and type(part) not in keep for _, part in nnx.iter_modules(model)):
        return model
    replacements: dict[int, Any] = {}
    seen: set[int] = set()

    def replaced(part: Any) -> Any:
        """The module, or its replacement; a module that occurs in several places has one."""
        if (
            _is_made(part)
            and type(part) not in keep
            and not (keep_calls and (accumulates(part) or not isinstance(part, Synapse)))
        ):
            if id(part) not in replacements:
                replacements[id(part)] = effective_synapse(part)
            return replacements[id(part)]
        if id(part) not in seen:
            seen.add(id(part))
            for name, value in list(vars(part).items()):
                if isinstance(value, nnx.Module) and replaced(value) is not value:
                    setattr(part, name, replaced(value))
        return part

    return replaced(nnx.clone(model, variables=False))


def _is_made(module: Any) -> bool:
    return is_synapse(module) and not is_plain(module)
