"""The agreement of a rule's gradient with another gradient, by default BPTT's; and the names of arrays in a model."""

import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.tree_util import GetAttrKey, keystr
from jaxtyping import Array, Bool, Float, PyTree

from slax_neurons import Connect
from slax_rules.api import gradients
from slax_rules.losses import sum_dtype
from slax_rules.rules.base import Rule, check_is_rule
from slax_rules.rules.bptt import BPTT
from slax_rules.step import jitted
from slax_rules.train.batches import Batch, checked
from slax_rules.train.callbacks import Metrics, StepInfo, offline_rule

Group = Callable[[str], str]


class Agreement(NamedTuple):
    """The agreement of a gradient g with a reference r.

    Args:
        cosine: g . r / (|g| |r|), in [-1, 1]; 0 where it is not defined.
        norm_ratio: |g| / |r|; 0 where the reference is zero.
        sign_agreement: share of the nonzero entries of r for which g has the same sign; 0 if there are none.
        defined: whether both are finite and nonzero, as the cosine requires.
        has_reference: whether both are finite and r is nonzero, as the other two require.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_rules import agreement
        >>> found = agreement({"kernel": jnp.array([3.0, 0.0])}, {"kernel": jnp.array([3.0, 4.0])})["kernel"]
        >>> type(found).__name__, bool(found.defined)
        ('Agreement', True)
        >>> [round(float(number), 3) for number in (found.cosine, found.norm_ratio, found.sign_agreement)]
        [0.6, 0.6, 0.5]
    """

    cosine: Float[Array, ""]
    norm_ratio: Float[Array, ""]
    sign_agreement: Float[Array, ""]
    defined: Bool[Array, ""]
    has_reference: Bool[Array, ""]


def agreement(
    gradient: PyTree, reference: PyTree, *, model: nnx.Module | None = None, group: Group | None = None
) -> dict[str, Agreement]:
    """Compute the cosine, norm ratio and sign agreement of each leaf, or of each group of leaves as one long vector.

    Args:
        gradient: tree of floating-point arrays, as returned by `gradients`.
        reference: tree with the same paths and shapes.
        model: the model of the gradient. With it, leaves are named by layer: "0 Linear/kernel", "3.0 Linear/kernel" in a stack
            that is module 3, "1 -> 0 Linear/kernel" for an edge; without it, by path: "modules/0/kernel".
        group: maps a name to the name of its group: `lambda name: name.partition("/")[0]` for one group per layer. By default
            each leaf stands alone, and "all" is the entire gradient.

    Returns:
        An `Agreement` by name: `agreement(ours, exact, model=model)["0 Linear/kernel"].cosine`.

    Raises:
        ValueError: trees with different paths or shapes.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OTTT, agreement, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> exact = gradients(model, cross_entropy, inputs, labels)[1]
        >>> ours = gradients(model, cross_entropy, inputs, labels, rule=OTTT())[1]
        >>> list(agreement(ours, exact, model=model))
        ['0 Linear/bias', 'all', '0 Linear/kernel', '2 Linear/bias', '2 Linear/kernel']
    """
    left, right = by_path(gradient), by_path(reference)
    mine, theirs = ({f"{path} {list(jnp.shape(leaf))}" for path, leaf in tree.items()} for tree in (left, right))
    if mine != theirs:
        raise ValueError(f"agreement got {sorted(mine ^ theirs)} on one side alone, expected equal paths and shapes.")
    names = module_names(model)
    groups = defaultdict(list)
    for path in left:
        name = readable_path(path, names)
        for found in (name, "all") if group is None else (group(name),):
            groups[found].append((left[path], right[path]))
    return {name: _agreement(pairs) for name, pairs in groups.items()}


def gradient_norms(gradient: PyTree, model: nnx.Module | None = None) -> dict[str, Float[Array, ""]]:
    """The Euclidean norm of each array of a gradient, or of any tree of parameters, by name.

    Args:
        gradient: tree of floating-point arrays, as returned by `gradients`.
        model: the model of the gradient, for names such as "0 Linear/kernel"; see `agreement`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import cross_entropy, gradient_norms, gradients
        >>> model = connect([nnx.Linear(8, 3, rngs=nnx.Rngs(0)), LI()])
        >>> _, gradient = gradients(model, cross_entropy, jnp.ones((20, 2, 8)), jnp.array([0, 2]))
        >>> list(gradient_norms(gradient, model))
        ['0 Linear/bias', '0 Linear/kernel']
    """
    names = module_names(model)
    return {readable_path(path, names): jnp.linalg.norm(jnp.ravel(leaf)) for path, leaf in by_path(gradient).items()}


@dataclasses.dataclass(frozen=True)
class GradientAgreement:
    """A callback of `fit` that compares the gradients of the training rule and of another rule, on the same batch.

    Both are offline gradients of the full batch at the parameters after the step, with the same random numbers. Records are
    named by layer, "cosine/0 Linear/kernel", "norm_ratio/...", "sign_agreement/...", and None where they are not defined: a
    zero gradient has no cosine. "cosine/all" is the cosine of the entire gradient. "comparison/seconds" is the time that the
    comparison took, which contains the compilation of its program in the first record, and "comparison/share" its share of the
    time of training, at `every` steps per comparison. `slax_viz.plot_agreement(history.records)` draws them.

    Args:
        every: steps between measurements, >= 1.
        rule: the rule to be compared; by default the rule of `fit`. For BPTT with `update="online"`, this is `TBPTT` with the
            steps of a window, since its gradient flows within windows.
        reference: the rule with which it is compared.
        group: maps a name such as "0 Linear/kernel" to the name of its group; see `agreement`.

    Example:
        >>> from slax_rules import GradientAgreement
        >>> by_layer = GradientAgreement(every=10, group=lambda name: name.partition("/")[0])
    """

    every: int = 100
    rule: Rule | None = None
    reference: Rule = BPTT()
    group: Group | None = None

    def __post_init__(self) -> None:
        for rule in (self.reference, self.rule or self.reference):
            check_is_rule(rule)

    def __call__(self, info: StepInfo) -> Metrics:
        start = time.perf_counter()
        rule = offline_rule(info.rule, info.update, info.window) if self.rule is None else self.rule
        graphdef, state = nnx.split((info.model, rule, self.reference))
        compare = jitted(_compare, graphdef, info.loss_fn, info.penalties, info.window, self.group)
        found = jax.device_get(compare(state, info.batch))
        seconds = time.perf_counter() - start
        numbers = {
            f"{field}/{name}": float(getattr(measured, field)) if getattr(measured, needs) else None
            for name, measured in found.items()
            for field, needs in _NEEDS.items()
        }
        share = seconds / (seconds + self.every * info.seconds)
        return numbers | {"comparison/seconds": seconds, "comparison/share": share}


_NEEDS = {"cosine": "defined", "norm_ratio": "has_reference", "sign_agreement": "has_reference"}


def _compare(
    graphdef: Any, loss_fn: Any, penalties: Any, window: int | None, group: Group | None, state: nnx.State, batch: Batch
) -> dict[str, Agreement]:
    """The agreement of the gradients of two rules; both start with the same random streams."""
    found = []
    for which, its_window in ((1, window), (2, None)):
        objects = nnx.merge(graphdef, state, copy=True)
        options = {"rule": objects[which], "window": its_window, "penalties": penalties}
        found.append(gradients(objects[0], loss_fn, *checked(batch), **options)[1])
    return agreement(*found, model=nnx.merge(graphdef, state, copy=True)[0], group=group)


def _agreement(pairs: list[tuple[Array, Array]]) -> Agreement:
    dtype = jnp.result_type(*(sum_dtype(leaf.dtype) for pair in pairs for leaf in pair))
    left, right = (jnp.concatenate([leaf.astype(dtype).ravel() for leaf in side]) for side in zip(*pairs, strict=True))
    (g, g_scale), (r, r_scale) = _scaled(left), _scaled(right)
    g_norm, r_norm = jnp.sqrt(jnp.sum(g**2)), jnp.sqrt(jnp.sum(r**2))
    finite = jnp.isfinite(g_norm) & jnp.isfinite(r_norm)
    has_reference = finite & (r_norm > 0)
    defined = has_reference & (g_norm > 0)
    cosine = jnp.sum(g * r) / jnp.where(defined, g_norm * r_norm, 1)
    ratio = g_norm / jnp.where(has_reference, r_norm, 1) * (g_scale / r_scale)
    same_sign = jnp.mean(jnp.sign(g) == jnp.sign(r), where=r != 0, dtype=dtype)
    return Agreement(
        cosine=jnp.where(defined, jnp.clip(cosine, -1, 1), 0),  # clips only rounding errors, as in 1 + 1e-7
        norm_ratio=jnp.where(has_reference, ratio, 0),
        sign_agreement=jnp.where(has_reference, same_sign, 0),
        defined=defined,
        has_reference=has_reference,
    )


def _scaled(vector: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, ""]]:
    """Return a vector divided by its largest magnitude, so that very small and very large vectors keep their direction, and
    this magnitude; zeros and 1 if the magnitude is below the smallest normal number."""
    largest = jnp.max(jnp.abs(vector), initial=0)
    is_zero = largest < jnp.finfo(vector.dtype).tiny
    scale = jnp.where(is_zero, 1, largest)
    return jnp.where(is_zero, 0, vector / scale), scale


def by_path(tree: PyTree) -> dict[str, Any]:
    """The leaves by path, such as "modules/0/kernel", in order."""
    # The array of an nnx variable is stored under the attribute `value`, which is not part of the variable's place.
    return {
        keystr(tuple(key for key in path if key != GetAttrKey("value")), simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def module_names(model: Any) -> dict[str, str]:
    """The names of a stack's modules and edges by path, as used by `slax_neurons.health` and `summary`.

    "modules/0" is "0 Linear", "modules/3/modules/1" is "3.1 LIF", in a stack that is module 3, and "synapses/0" is
    "1 -> 0 Linear", an edge from module 1 to module 0. A model that is not a stack has no such names.
    """
    names: dict[str, str] = {}

    def add(stack: Connect, path: str, index: str) -> None:
        for number, module in enumerate(stack.modules):
            here = f"{path}modules/{number}"
            if isinstance(module, Connect):
                add(module, f"{here}/", f"{index}{number}.")
            else:
                names[here] = f"{index}{number} {_kind(module)}"
        for number, (edge, synapse) in enumerate(zip(stack.edges, stack.synapses, strict=True)):
            name = f"{index}{edge.sender} -> {index}{edge.receiver} {_kind(synapse)}"
            late = f" ({edge.steps} steps late)" if name in names.values() else ""
            names[f"{path}synapses/{number}"] = name + late

    if isinstance(model, Connect):
        add(model, "", "")
    return names


def readable_path(path: str, names: Mapping[str, str]) -> str:
    """A path with its module's name, as in "0 Linear/kernel" for "modules/0/kernel"; the path itself if there is no name."""
    parts = path.split("/")
    for count in range(len(parts), 0, -1):
        module = "/".join(parts[:count])
        if module in names:
            return "/".join([names[module], *parts[count:]])
    return path


def _kind(module: Any) -> str:
    """The name of a module's class, or of the function that it calls."""
    return getattr(getattr(module, "function", None), "__name__", type(module).__name__)
