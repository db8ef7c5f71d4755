# /// script
# requires-python = "==3.11.*"
# dependencies = ["jax==0.5.3", "flax==0.10.5", "optax==0.2.8", "numpy==2.4.6"]
# ///
"""Writes gradients that the authors' code of HYPR gives.

    python write_hypr.py CHECKOUT

needs a checkout of it; README.md says which commit. Everything runs in float64 on the processor.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

HERE = Path(__file__).parent
T, B = 12, 3
LABELS = np.array([0, 2, 1])
N_IN, N_HIDDEN, N_OUT = 6, 5, 3
CHUNKS = (1, 4)  # numbers of segments
ADLIF = {
    "tau_u_range": (2.0, 8.0),
    "tau_w_range": (5.0, 20.0),
    "a_range": (0.0, 1.0),
    "b_range": (0.0, 1.0),
    "thr": 1.0,
}


def main():
    sys.path.insert(0, sys.argv[1])
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    between = {"tau_u": rng.uniform(size=N_HIDDEN), "tau_w": rng.uniform(size=N_HIDDEN), "thr": np.ones(N_HIDDEN)}
    adaptive = {**between, "a": rng.uniform(0.2, 1.0, size=N_HIDDEN), "b": rng.uniform(0.2, 1.0, size=N_HIDDEN)}
    plain = {**between, "a": np.zeros(N_HIDDEN), "b": np.zeros(N_HIDDEN)}
    oscillator = {"omega": rng.uniform(5, 10, size=N_HIDDEN), "b_offset": rng.uniform(1, 3, size=N_HIDDEN)}
    alif = {"tau_u": rng.uniform(3, 8, size=N_HIDDEN), "tau_a": rng.uniform(5, 20, size=N_HIDDEN)}
    adlif_options, brf_options = {**ADLIF, "adapt_coeff": 4.0}, {"thr": 1.0, "dt": 0.05, "exponential_b": False}
    brf_options |= {"exponential_omega": False, "use_exponential": False, "surrogate_gradient": "slayer"}
    brf_options |= {"b_range": (1.0, 3.0), "omega_range": (5.0, 10.0)}
    alif_options = {"tau_u_mean": 5.0, "tau_u_std": 1.0, "tau_a_mean": 10.0, "tau_a_std": 1.0, "b_j0": 0.5, "beta": 1.8}
    _hypr("hypr_lif", "AdLIF", plain, adlif_options, gain=2.5)
    _hypr("hypr_adlif", "AdLIF", adaptive, adlif_options, gain=3.0)
    _hypr("hypr_adlif_recurrent", "AdLIF", adaptive, adlif_options, gain=3.0, recurrent=True)
    _hypr("hypr_alif", "ALIF", alif, alif_options, gain=2.5)
    _hypr("hypr_brf", "BRF", oscillator, brf_options, gain=16.0)
    _hypr("hypr_brf_recurrent", "BRF", oscillator, brf_options, gain=16.0, recurrent=True)


def _hypr(name, neuron, parameters, options, *, gain, recurrent=False):
    """Two hidden layers and a leaky read-out, and the gradient for each number of segments, which have to agree."""
    import train
    from hypr.hypr_trainable_base import maybe_hypr_class_factory
    from models.li_jax import LI
    from models.multi_layer_rnn import MultiLayerRNN
    from util.factories import get_model_class

    model = MultiLayerRNN(
        maybe_hypr_class_factory(get_model_class(neuron), True),
        options,
        N_HIDDEN,
        recurrent,
        "lecun_uniform",
        "zeros",
        True,
        2,
        maybe_hypr_class_factory(LI, True),
        {"tau_u_range": (3.0, 6.0), "interpolation_tau": False},
        "lecun_uniform",
        N_IN,
        N_OUT,
        nnx.Rngs(0),
    )
    rng = np.random.default_rng(1)
    inputs, arrays = rng.uniform(size=(T, B, N_IN)) < 0.4, {}
    for index, layer in enumerate([*model.layers, model.output_layer]):
        drawn = parameters if index < 2 else {"tau_u": rng.uniform(3, 6, size=N_OUT)}
        layer.params.value = {key: jnp.asarray(drawn[key]) for key in layer.params.value}
        shape, scale = layer.linear.kernel.value.shape, (gain, 2 * gain, 3.0)[index]
        kernel, bias = (
            scale * rng.normal(0.7, size=shape) / np.sqrt(shape[0]),
            scale * rng.uniform(0, 0.2, size=shape[1]),
        )
        layer.linear.kernel.value, layer.linear.bias.value = jnp.asarray(kernel), jnp.asarray(bias)
        arrays |= {f"kernel_{index}": kernel, f"bias_{index}": bias}
        arrays |= {f"{key}_{index}": value for key, value in drawn.items()}
        if layer.is_recurrent:
            weights = gain * rng.normal(size=(N_HIDDEN, N_HIDDEN)) / (2 * np.sqrt(N_HIDDEN))
            layer.recurrent.kernel.value = jnp.asarray(weights)
            arrays[f"recurrent_{index}"] = weights

    x, targets = jnp.asarray(inputs, jnp.float64).swapaxes(0, 1), jax.nn.one_hot(LABELS, N_OUT)[:, None]
    zeros = jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param))
    gradients = []
    for n in CHUNKS:
        carry = (zeros, model.initialize_carry((B, N_IN)))
        pieces = x.reshape(B, n, T // n, N_IN)
        (_, outputs), (gradient, _) = train.scan_hypr_subseq(model, targets, pieces, jnp.ones((B, n, T // n)), carry)
        gradients.append(_by_layer(gradient, recurrent))
    outputs = outputs.swapaxes(1, 2).reshape(T, B, N_OUT)
    hidden = _hidden(model, x, targets)
    spread = max(np.ptp([g[key] for g in gradients], axis=0).max() for key in gradients[0])
    if spread > 1e-12:
        raise ValueError(f"{name}: the gradient depends on the number of segments, by {spread}")
    path = HERE / f"{name}.npz"
    np.savez_compressed(
        path,
        inputs=inputs,
        labels=LABELS,
        outputs=outputs,
        neuron=neuron,
        recurrent=recurrent,
        **{f"option_{key}": value for key, value in options.items()},
        **arrays,
        **{f"gradient_{key}": value for key, value in gradients[0].items()},
        **hidden,
    )
    rates = [float(hidden[f"outputs_{index}"].mean().round(2)) for index in range(2)]
    sizes = (f"{key} {np.abs(value).max():.2g}" for key, value in gradients[0].items())
    print(name, path.stat().st_size, "rates", rates, *sizes)


def _by_layer(gradient, recurrent):
    found = {}
    for index, layer in enumerate([gradient["layers"][0], gradient["layers"][1], gradient["output_layer"]]):
        found[f"kernel_{index}"] = layer["linear"]["kernel"].value
        found[f"bias_{index}"] = layer["linear"]["bias"].value
        found |= {f"{key}_{index}": value for key, value in layer["params"].value.items()}
        if recurrent and index < 2:
            found[f"recurrent_{index}"] = layer["recurrent"]["kernel"].value
    return {key: np.asarray(value) for key, value in found.items()}


def _hidden(model, x, targets):
    """Membranes, spikes and signals [T, B, N] of the hidden layers: the gradient at additions to the outputs."""
    from hypr.hypr_trainable_base import multi_step_forward_with_states
    from util.loss_jax import masked_seq_cross_entropy_loss

    states = model.initialize_carry((B, N_IN))
    shapes = [(B, T, N_HIDDEN), (B, T, N_HIDDEN), (B, T, N_OUT)]

    def loss_of(additions, model):
        h, outputs = x, []
        for layer, state, addition in zip([*model.layers, model.output_layer], states, additions, strict=True):
            h = layer(h, state)[0] + addition
            outputs.append(h)
        return masked_seq_cross_entropy_loss(h, targets, jnp.ones((B, T))), outputs

    signals, outputs = nnx.grad(loss_of, has_aux=True)([jnp.zeros(shape) for shape in shapes], model)
    found = {f"signal_{index}": np.asarray(signal.swapaxes(0, 1)) for index, signal in enumerate(signals)}
    h = x
    for index, layer in enumerate(model.layers):
        _, (history, _, _) = multi_step_forward_with_states(layer, layer.linear(h), states[index][0])
        found[f"membrane_{index}"] = np.asarray(history[..., 0].swapaxes(0, 1))
        found[f"outputs_{index}"] = np.asarray(outputs[index].swapaxes(0, 1)).astype(bool)
        h = outputs[index]
    return found


if __name__ == "__main__":
    main()
