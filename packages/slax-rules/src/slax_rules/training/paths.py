"""Names of arrays and modules in a tree."""

from collections.abc import Mapping
from typing import Any

import jax
from jax.tree_util import GetAttrKey, keystr
from jaxtyping import PyTree

from slax_neurons import Connect


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
                names[here] = f"{index}{number} {kind(module)}"
        for number, (edge, synapse) in enumerate(zip(stack.edges, stack.synapses, strict=True)):
            name = f"{index}{edge.sender} -> {index}{edge.receiver} {kind(synapse)}"
            late = f" ({edge.steps} steps late)" if name in names.values() else ""
            names[f"{path}synapses/{number}"] = name + late

    if isinstance(model, Connect):
        add(model, "", "")
    return names


def kind(module: Any) -> str:
    """The name of a module's class, or of the function that it calls."""
    return getattr(getattr(module, "function", None), "__name__", type(module).__name__)


def readable_path(path: str, names: Mapping[str, str]) -> str:
    """A path with its module's name, as in "0 Linear/kernel" for "modules/0/kernel"; the path itself if there is no name."""
    parts = path.split("/")
    for count in range(len(parts), 0, -1):
        module = "/".join(parts[:count])
        if module in names:
            return "/".join([names[module], *parts[count:]])
    return path
