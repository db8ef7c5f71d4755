"""Record what the authors of the LRU under online learning, and of RTUs, compute: `linear_units.py lru SOURCES`, or `rtu`.

One layer of 4 units and a read-out; T = 12 steps, B = 3 samples, float64. Gradients are of the cross entropy of each step,
summed over the steps and averaged over the batch.
"""

import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util as tree

jax.config.update("jax_enable_x64", True)
jnp.complex64 = jnp.complex128  # to which the code of the LRU casts its traces
T, B, INPUTS, UNITS = 12, 3, 5, 4
RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape) / np.sqrt(shape[0])


def cross_entropy(outputs, labels):
    """Of outputs [..., C], a sum over the samples, divided by their number in the batch."""
    return -jnp.take_along_axis(jax.nn.log_softmax(outputs), labels[..., None], -1).sum() / B


def lru(inputs, labels):
    from online_lru.rec import LRU

    options = {"d_hidden": UNITS, "d_model": INPUTS, "seq_length": T}
    params = {name: normal(UNITS, INPUTS) for name in ("B_re", "B_im")} | {
        name: normal(INPUTS, UNITS) for name in ("C_re", "C_im")
    }
    nu = RANDOM.uniform(0.05, 0.5, UNITS)
    params |= {"D": np.zeros(INPUTS), "nu": np.log(nu), "theta": np.log(RANDOM.uniform(0.1, 3.0, UNITS))}
    params |= {"gamma_log": np.log(np.sqrt(1 - np.exp(-2 * nu)))}
    cell, zeros = LRU(**options, training_mode="online_full"), jnp.zeros((T, UNITS), complex)

    def of_sample(x, label):
        def loss(params, states):
            given = {"params": params, "perturbations": {"hidden_states": states}}
            outputs, found = cell.apply(given, x, mutable=["traces"])
            return cross_entropy(outputs, jnp.full(T, label)), (outputs, found["traces"])

        (by_params, by_states), (outputs, traces) = jax.grad(loss, (0, 1), has_aux=True)(params, zeros)
        given = {"params": params, "perturbations": {"hidden_states": by_states}, "traces": traces}
        return cell.apply(given, dict(by_params), method=cell.update_gradients), outputs

    found = [of_sample(x, label) for x, label in zip(inputs.swapaxes(0, 1), labels, strict=True)]
    gradient = {name: sum(of_one[name] for of_one, _ in found) for name in params}
    save("lru", inputs, labels, params, gradient, np.stack([outputs for _, outputs in found], 1))


def rtu(inputs, labels):
    from src.nets.rtus import linear_rtus, non_linear_rtus
    from src.nets.rtus.rtus import RealTimeLinearRTUsLayer, RealTimeNonLinearRTUsLayer

    for module in (linear_rtus, non_linear_rtus):  # they add 1e-8 to sqrt(1 - r^2)
        module.g_phi_params = partial(module.g_phi_params, eps=0.0)
    flat = {"kernel_1": normal(INPUTS, UNITS), "kernel_2": normal(INPUTS, UNITS), "read_out": normal(2 * UNITS, 3)}
    flat |= {"nu": np.log(RANDOM.uniform(0.05, 0.5, (1, UNITS))), "theta": np.log(RANDOM.uniform(0.1, 3.0, (1, UNITS)))}
    kinds = {"linear": RealTimeLinearRTUsLayer, "nonlinear": RealTimeNonLinearRTUsLayer}
    for name, kind in kinds.items():
        cell = kind(UNITS, "tanh")
        carry = tree.tree_map(lambda leaf: leaf.astype(float), kind.initialize_state(B, UNITS, INPUTS))
        names = tree.tree_leaves_with_path(cell.init(jax.random.PRNGKey(0), carry, inputs[0]))
        structure = tree.tree_structure(cell.init(jax.random.PRNGKey(0), carry, inputs[0]))
        ours = {"r_param": "nu", "theta_param": "theta", "wx1": "kernel_1", "wx2": "kernel_2"}

        def params_of(flat, names=names, structure=structure, ours=ours):
            keys = [next(ours[part.key] for part in path if part.key in ours) for path, _ in names]
            return tree.tree_unflatten(structure, [flat[key] for key in keys])

        def loss(flat, carry, x, cell=cell, params_of=params_of):
            carry, states = cell.apply(params_of(flat), carry, x)
            states = jnp.concatenate(states, -1) if isinstance(states, tuple) else states
            outputs = states @ flat["read_out"]
            return cross_entropy(outputs, jnp.asarray(labels)), (carry, outputs)

        gradient, outputs = tree.tree_map(np.zeros_like, flat), []
        for x in inputs:
            by_step, (carry, of_step) = jax.grad(loss, has_aux=True)(flat, carry, jnp.asarray(x))
            gradient = tree.tree_map(np.add, gradient, by_step)
            outputs.append(of_step)
        save(f"rtu_{name}", inputs, labels, flat, gradient, np.stack(outputs))


def save(name, inputs, labels, params, gradient, outputs):
    arrays = params | {f"gradient_{key}": np.asarray(leaf, np.float64) for key, leaf in gradient.items()}
    np.savez(Path(__file__).with_name(name), inputs=inputs, labels=labels, outputs=outputs, **arrays)


if __name__ == "__main__":
    sys.path.append(sys.argv[2])
    {"lru": lru, "rtu": rtu}[sys.argv[1]](RANDOM.normal(size=(T, B, INPUTS)), np.array([0, 2, 1]))
