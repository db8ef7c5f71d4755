"""The weights of a model in a file."""

from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from slax_rules.train.agreement import module_names, readable_path
from slax_rules.train.archives import (
    described,
    differences,
    filled,
    model_types,
    read_about,
    read_arrays,
    readable,
    steps_in,
    with_arrays,
    write_archive,
)


def save_weights(path: str | Path, model: nnx.Module) -> None:
    """Save the parameters and all other variables of a model, such as the statistics of a BatchNorm, except random streams.

    The file is a NumPy archive (.npz) with an array for each variable, named by its path in the model, and a text with the
    shapes and the type of each module. It holds no code and no options of the model: `load_weights` needs the model. It is
    written under another name and renamed when it is complete.

    Args:
        path: path of the file, which may already exist; no suffix is added. The target of a symbolic link is written.
        model: any Flax module.

    Raises:
        FileNotFoundError: a folder that does not exist.
        OSError: the file could not be written, as on a full disk; a file that was there stays as it was.

    Example:
        >>> import os, tempfile
        >>> from flax import nnx
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import load_weights, save_weights
        >>> model, other = (connect([nnx.Linear(8, 3, rngs=nnx.Rngs(seed)), LI()]) for seed in range(2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_weights(os.path.join(folder, "weights.npz"), model)
        ...     found = load_weights(os.path.join(folder, "weights.npz"), other)
        >>> bool((model.modules[0].kernel[...] == other.modules[0].kernel[...]).all())
        True
    """
    path = Path(path).expanduser()
    if not path.parent.is_dir():
        raise FileNotFoundError(f"save_weights got {path}, but there is no folder {path.parent}. Make it first.")
    write_archive(path, "The weights", {"types": model_types(model)}, filled(weights(nnx.state(model))))


def load_weights(path: str | Path, model: nnx.Module, *, strict: bool = True) -> dict[str, list[str]]:
    """Load weights, trained under any rule, into a model from a file of `save_weights` or a checkpoint of `fit`.

    Args:
        path: a file of `save_weights`, a checkpoint, or a folder of checkpoints, whose newest one is used.
        model: a model with the same modules, of the same sizes and dtypes, as when the weights were saved. Decays and
            thresholds that are trained, or that are arrays with one number for each unit, are replaced by the saved ones. A
            decay or threshold that is a fixed number is not in the file and stays as it is, as do other options and random
            streams.
        strict: whether file and model have to agree in every array. Otherwise the arrays of the same path and shape are
            loaded, whatever the types of modules, and floating-point numbers are cast to the model's dtype; the rest stays.

    Returns:
        Names of arrays, such as "0 Linear/kernel": those "loaded"; those "missing" in the file and "unexpected" in the model;
        and those "different", of another shape, or a dtype that is not cast, with what is saved and what is here. What was not
        loaded stays as it was.

    Raises:
        FileNotFoundError: no such file.
        ValueError: weights of another model, or a file that is damaged, holds no weights, or has an array with NaN; without
            `strict`, a file without any array that fits.

    Example:
        >>> import os, tempfile
        >>> from flax import nnx
        >>> from slax_neurons import LI, connect
        >>> from slax_rules import load_weights, save_weights
        >>> hidden = nnx.Linear(8, 4, rngs=nnx.Rngs(0))
        >>> small, large = (connect([hidden, LI(), nnx.Linear(4, size, rngs=nnx.Rngs(0))]) for size in (3, 5))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_weights(os.path.join(folder, "weights.npz"), small)
        ...     found = load_weights(os.path.join(folder, "weights.npz"), large, strict=False)
        >>> found["loaded"]
        ['0 Linear/bias', '0 Linear/kernel']
        >>> found["different"][0]
        '2 Linear/bias: float32[3] saved, float32[5] here'
    """
    path = Path(path).expanduser()
    if path.is_dir():
        if not (saved := steps_in(path)):
            raise ValueError(f"The folder {path} holds no checkpoint, expected one of fit: Checkpoints({path}).")
        path = path / str(saved[-1])
    if not path.exists():
        raise FileNotFoundError(f"load_weights got {path}, which does not exist, expected a file of save_weights.")
    tree, names = weights(nnx.state(model)), module_names(model)
    here = described(filled(tree))

    def named(table: Mapping[str, str]) -> dict[str, str]:
        return {readable_path(name, names) or "model": text for name, text in table.items()}

    def fits(name: str) -> bool:
        """Whether an array is of one shape here and there, and of one dtype or floating-point."""
        (mine, my_shape), (its, its_shape) = (table[name].split("[") for table in (here, there))
        return my_shape == its_shape and (mine == its or ("float" in mine and "float" in its))

    damaged = f"The file {path} is damaged, or holds no weights", "Expected a file that save_weights wrote."
    with readable(*damaged):
        about = read_about(path)
        prefix = "model/" if "step" in about else ""  # a checkpoint has other arrays, too
        held = about["weights"] if prefix else about["arrays"]
        there = {name.removeprefix(prefix): about["arrays"][name] for name in held}
    differing = differences(named(about["types"]), named(model_types(model))) or differences(named(there), named(here))
    fitting = [name for name in here if name in there and fits(name)]
    if differing and (strict or not fitting):
        advice = "Make the model as it was when they were saved, or load what fits: load_weights(..., strict=False)."
        advice = advice if strict else "No array fits."
        raise ValueError(f"The weights in {path} do not match this model: {differing}. {advice}")
    with readable(*damaged):
        arrays = read_arrays(path, {prefix + name: there[name] for name in fitting})
        for name, array in arrays.items():
            if jnp.issubdtype(array.dtype, jnp.inexact) and np.isnan(array).any():
                raise ValueError(f"there are NaN in {readable_path(name.removeprefix(prefix), names)}")
    nnx.update(model, with_arrays(tree, arrays, prefix))
    loaded, theirs, ours = [readable_path(name, names) for name in fitting], named(there), named(here)
    different = [name for name in ours if name in theirs and name not in loaded]
    return {
        "loaded": loaded,
        "missing": [name for name in ours if name not in theirs],
        "unexpected": [name for name in theirs if name not in ours],
        "different": [f"{name}: {theirs[name]} saved, {ours[name]} here" for name in different],
    }


def weights(state: nnx.State) -> nnx.State:
    """The state of a model without its random streams."""
    return nnx.filter_state(state, nnx.Not(nnx.RngState))
