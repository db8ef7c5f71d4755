"""Writes gradients that the learning rules of other libraries give, each with its net, inputs and labels.

    python write_foreign_gradients.py LIBRARY

runs one library, in an environment of its own, see README.md. What the libraries have in common is drawn here with NumPy, so
that each sees the same numbers. The loss is the softmax cross entropy of every step's output, summed over the T steps, with
the mean over the batch.
"""

import itertools
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
T, B = 10, 3
SIZES = (7, 6, 5, 4)
LABELS = np.array([0, 3, 2])
THRESHOLD = 1.0
ARCTAN = 2.0  # of the surrogate (ARCTAN / 2) / (1 + (pi ARCTAN x / 2)^2)
GAIN = 1.5  # of the weights: every layer fires, in 0.2 to 0.6 of its steps
CHUNKS = (1, 2, 5, 10)
PP_DECAY = 0.9
RECURRENT_DECAYS = (0.8, 0.7)  # of the recurrent layer and its read-out


def main():
    WRITERS[sys.argv[1]]()


def draw():
    """The inputs [T, B, I], and the kernels [I, O] and biases [O] of three layers."""
    rng = np.random.default_rng(0)
    pairs = list(itertools.pairwise(SIZES))
    kernels = [GAIN * np.sqrt(2 / n_in) * rng.normal(size=(n_in, n_out)) for n_in, n_out in pairs]
    biases = [rng.uniform(0, 0.3, size=n_out) for _, n_out in pairs]
    return rng.uniform(size=(T, B, SIZES[0])) < 0.4, kernels, biases


def draw_recurrent():
    """A recurrent kernel [N, N], the kernel of a read-out and a random feedback [N, C]."""
    rng = np.random.default_rng(1)
    n, n_out = SIZES[1], SIZES[-1]
    return 0.5 * rng.normal(size=(n, n)), rng.normal(size=(n, n_out)), rng.normal(size=(n, n_out))


def write(name, neurons, outputs, inputs, parameters, gradients, **more):
    """`neurons` are the constants of the layers; the gradients have the names of their parameters."""
    neurons = {"threshold": THRESHOLD, "arctan": ARCTAN, "gain": np.ones(len(neurons["decay"])), **neurons}
    gradients = {f"gradient_{key}": np.asarray(value) for key, value in gradients.items()}
    parameters = {key: np.asarray(value) for key, value in parameters.items()}
    path = HERE / f"{name}.npz"
    outputs = np.asarray(outputs)
    np.savez_compressed(
        path, inputs=inputs, labels=LABELS, outputs=outputs, **neurons, **parameters, **gradients, **more
    )
    print(name, path.stat().st_size, *(f"{key} {np.abs(value).max():.2g}" for key, value in gradients.items()))


def layers_of(kernels, biases):
    return {f"kernel_{i}": k for i, k in enumerate(kernels)} | {f"bias_{i}": b for i, b in enumerate(biases)}


# --------------------------------------------------------------------------------------------------- spikingjelly, PyTorch


def spikingjelly():
    """OTTT with one time constant and with one per layer, and SLTT, all with `ottt_online_training`."""
    from spikingjelly.activation_based import neuron

    _spikingjelly("spikingjelly_ottt", neuron.OTTTLIFNode, (5.0, 5.0, 5.0), v_reset=None)
    _spikingjelly("spikingjelly_ottt_decays", neuron.OTTTLIFNode, (10.0, 5.0, 4.0), v_reset=None)
    _spikingjelly("spikingjelly_sltt", neuron.SLTTLIFNode, (10.0, 5.0, 4.0), v_reset=0.0)


def _spikingjelly(name, node, taus, *, v_reset):
    """A `v_reset` of None subtracts the threshold."""
    import torch
    from spikingjelly.activation_based import layer, surrogate
    from spikingjelly.activation_based.learning.online_learning import ottt_online_training

    inputs, kernels, biases = draw()
    linear, modules = [], []
    for kernel, bias, tau in zip(kernels, biases, taus, strict=True):
        linear.append(torch.nn.Linear(*kernel.shape, dtype=torch.float64))
        with torch.no_grad():
            linear[-1].weight.copy_(torch.from_numpy(kernel.T))
            linear[-1].bias.copy_(torch.from_numpy(bias))
        spike = surrogate.ATan(alpha=ARCTAN)
        neuron = node(tau=tau, decay_input=False, v_threshold=THRESHOLD, surrogate_function=spike, v_reset=v_reset)
        modules += [linear[-1], neuron]
    model = layer.OTTTSequential(*modules)
    x = torch.from_numpy(inputs.astype(np.float64)).transpose(0, 1)
    labels = torch.from_numpy(LABELS)[:, None].expand(B, T)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.0)
    loss = torch.nn.functional.cross_entropy
    _, outputs = ottt_online_training(model, optimiser, x, labels, loss, online=False)
    write(
        name,
        {
            "decay": 1 - 1 / np.array(taus),
            "spiking": np.ones(3, bool),
            "reset": "subtract" if v_reset is None else "zero",
            "stop_reset_gradient": True,
        },
        outputs.transpose(0, 1),
        inputs,
        layers_of(kernels, biases),
        layers_of([module.weight.grad.T for module in linear], [module.bias.grad for module in linear]),
    )


# ------------------------------------------------------------------------------------------------------ sparx, JAX and Flax


def sparx():
    """OTTT of two layers of neurons and a linear read-out, and e-prop of a recurrent layer with a leaky read-out."""
    import jax

    jax.config.update("jax_enable_x64", True)
    _sparx_ottt()
    _sparx_e_prop("sparx_e_prop", stop_reset_gradient=True)
    _sparx_e_prop("sparx_e_prop_reset", stop_reset_gradient=False)


def _sparx_loss(outputs, labels):
    import jax

    return -(jax.nn.log_softmax(outputs) * jax.nn.one_hot(labels, SIZES[-1])).sum(-1).mean()


def _sparx_cell(decay, stop_reset_gradient):
    from sparx.dynamics import LIFCell
    from sparx.surrogate import ATan

    return LIFCell(decay, threshold=THRESHOLD, surrogate=ATan(ARCTAN), detach_reset=stop_reset_gradient)


def _sparx_ottt():
    """All traces decay by one `tau`, here that of the cells. The outputs, which `ottt` does not return, are its cells'."""
    import jax.numpy as jnp
    from sparx.dynamics import SynapticInput
    from sparx.learn.online import OTTTLayer, ottt

    inputs, kernels, biases = draw()
    decay = 0.8
    cells = [_sparx_cell(decay, True)] * 2
    layers = [OTTTLayer(jnp.asarray(k), jnp.asarray(b)) for k, b in zip(kernels, biases, strict=True)]
    x, targets = jnp.asarray(inputs, jnp.float64), jnp.tile(LABELS, (T, 1))
    _, gradients = ottt(cells, layers, x, targets, _sparx_loss, tau=-1 / np.log(decay))

    states = [cell.init_state((B, n), x.dtype) for cell, n in zip(cells, SIZES[1:], strict=False)]
    outputs = []
    for h in x:
        for index, cell in enumerate(cells):
            jump = SynapticInput(jump=h @ layers[index].weight + layers[index].bias)
            states[index], spikes = cell.step(states[index], jump, 1.0)
            h = spikes.value
        outputs.append(h @ layers[-1].weight + layers[-1].bias)
    write(
        "sparx_ottt",
        {
            "decay": np.array([decay, decay, 0.0]),
            "spiking": np.array([True, True, False]),
            "reset": "subtract",
            "stop_reset_gradient": True,
        },
        jnp.stack(outputs),
        inputs,
        layers_of(kernels, biases),
        layers_of([layer.weight for layer in gradients], [layer.bias for layer in gradients]),
    )


def _sparx_e_prop(name, *, stop_reset_gradient):
    """Symmetric and random feedback. The recurrent layer has no bias."""
    import jax.numpy as jnp
    from sparx.learn.online import EPropParams, eprop, eprop_forward

    inputs, kernels, biases = draw()
    recurrent, read_out, feedback = draw_recurrent()
    decays = np.array(RECURRENT_DECAYS)
    cell = _sparx_cell(decays[0], stop_reset_gradient)
    params = EPropParams(*(jnp.asarray(p) for p in (kernels[0], recurrent, read_out, biases[-1])))
    x, targets, tau = jnp.asarray(inputs, jnp.float64), jnp.tile(LABELS, (T, 1)), -1 / np.log(decays[1])
    _, symmetric = eprop(cell, params, x, targets, _sparx_loss, tau=tau)
    _, random = eprop(cell, params, x, targets, _sparx_loss, tau=tau, feedback=jnp.asarray(feedback))
    names = ("kernel_0", "recurrent", "kernel_1", "bias_1")
    write(
        name,
        {
            "decay": decays,
            "spiking": np.array([True, False]),
            "reset": "subtract",
            "stop_reset_gradient": stop_reset_gradient,
        },
        eprop_forward(cell, params, x, tau=tau)[0],
        inputs,
        dict(zip(names, params, strict=True)),
        dict(zip(names, symmetric, strict=True)),
        feedback=feedback,
        random_gradient_kernel_0=random.w_in,
        random_gradient_recurrent=random.w_rec,
    )


# ------------------------------------------------------------------------------------------------- braintrace, brainstate


def braintrace():
    """D-RTRL and pp-prop of three layers, step by step and in chunks; D-RTRL, e-prop and SnAp of a recurrent layer."""
    import brainstate
    import jax

    jax.config.update("jax_enable_x64", True)
    brainstate.environ.set(precision=64)
    import braintrace

    _braintrace_chunks("braintrace_d_rtrl", braintrace.D_RTRL)
    _braintrace_chunks("braintrace_pp_prop", braintrace.pp_prop, decay_or_rank=PP_DECAY)
    kappa = RECURRENT_DECAYS[1]
    _braintrace_recurrent("braintrace_recurrent_d_rtrl", braintrace.D_RTRL)
    _braintrace_recurrent("braintrace_recurrent_e_prop", braintrace.EProp, kappa_filter_decay=kappa)
    _braintrace_recurrent("braintrace_recurrent_snap_1", braintrace.SnAp, n=1)
    _braintrace_recurrent("braintrace_recurrent_snap_2", braintrace.SnAp, n=2)


def _braintrace_chunks(name, algorithm, **options):
    """All gradients have the chunks as first axis."""
    inputs, kernels, biases = draw()
    decays, spiking = (0.9, 0.8, 0.7), (True, True, False)
    layers = list(zip(kernels, biases, decays, spiking, strict=True))
    gradients = []
    for chunk in CHUNKS:
        gradient, outputs = _braintrace_run(layers, inputs, algorithm, options, chunk)
        gradients.append(layers_of([w["weight"] for w in gradient], [w["bias"] for w in gradient]))
    write(
        name,
        _braintrace_neurons(decays, spiking),
        outputs,
        inputs,
        layers_of(kernels, biases),
        {key: np.stack([gradient[key] for gradient in gradients]) for key in gradients[0]},
        chunks=np.array(CHUNKS),
        **({"pp_decay": options["decay_or_rank"]} if options else {}),
    )


def _braintrace_recurrent(name, algorithm, **options):
    inputs, kernels, biases = draw()
    recurrent, read_out, _ = draw_recurrent()
    decays, spiking = RECURRENT_DECAYS, (True, False)
    layers = [(kernels[0], None, decays[0], True, recurrent), (read_out, biases[-1], decays[1], False)]
    (first, second), outputs = _braintrace_run(layers, inputs, algorithm, options)
    write(
        name,
        _braintrace_neurons(decays, spiking),
        outputs,
        inputs,
        {"kernel_0": kernels[0], "recurrent": recurrent, "kernel_1": read_out, "bias_1": biases[-1]},
        {
            "kernel_0": first["weight"],
            "recurrent": first["recurrent"],
            "kernel_1": second["weight"],
            "bias_1": second["bias"],
        },
    )


def _braintrace_neurons(decays, spiking):
    return {
        "decay": np.array(decays),
        "spiking": np.array(spiking),
        "reset": "subtract",
        "stop_reset_gradient": False,
    }


def _braintrace_run(layers, inputs, algorithm, options, chunk=1):
    """The hidden state of a neuron is its membrane before the reset, which the next step begins with."""
    import brainstate
    import braintools
    import braintrace
    import jax
    import jax.numpy as jnp

    spike = braintools.surrogate.Arctan(alpha=ARCTAN)

    class Layer(brainstate.nn.Module):
        def __init__(self, kernel, bias, decay, spiking, recurrent=None):
            super().__init__()
            weights = {"weight": kernel, "bias": bias, "recurrent": recurrent}
            self.weights = brainstate.ParamState({k: jnp.asarray(w) for k, w in weights.items() if w is not None})
            self.n, self.decay, self.spiking = kernel.shape[1], decay, spiking

        def init_state(self, batch_size=None, **_):
            self.v = brainstate.HiddenState(jnp.zeros((batch_size, self.n)))

        def update(self, x):
            u, weights = self.v.value, self.weights.value
            current = braintrace.matmul(x, weights["weight"], weights.get("bias"))
            if "recurrent" in weights:
                current = current + braintrace.matmul(spike(u - THRESHOLD), weights["recurrent"])
            if self.spiking:
                u = u - THRESHOLD * spike(u - THRESHOLD)
            self.v.value = self.decay * u + current
            return spike(self.v.value - THRESHOLD) if self.spiking else self.v.value

    class Net(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            for index, layer in enumerate(layers):
                setattr(self, f"layer_{index}", Layer(*layer))

        def update(self, x):
            for index in range(len(layers)):
                x = getattr(self, f"layer_{index}")(x)
            return x

    net, x = Net(), jnp.asarray(inputs, jnp.float64)
    method = "single-step" if chunk == 1 else "multi-step"
    learner = braintrace.compile(net, algorithm, x[0], batch_size=B, vjp_method=method, **options)

    def losses(piece):
        outputs = learner(piece if chunk == 1 else braintrace.MultiStepData(piece))
        log_probabilities = jax.nn.log_softmax(outputs) * jax.nn.one_hot(LABELS, SIZES[-1])
        return -log_probabilities.sum(-1).mean(-1), outputs

    gradients, outputs = learner.etrace_grad(x, step_fn=losses, chunk_size=chunk, reduction="sum", has_aux=True)
    return [gradients[f"layer_{i}", "weights"] for i in range(len(layers))], outputs.reshape(T, B, SIZES[-1])


# -------------------------------------------------------------------------------------------------------- jaxpike, Equinox


def jaxpike():
    """What it calls e-prop. Its neurons are in float32 always, and weigh their current by 1 - decay."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    from jaxpike.layers import Dense, Sequential
    from jaxpike.neurons import LIF, LeakyIntegrator
    from jaxpike.online import eprop_grads
    from jaxpike.surrogate import ATan

    inputs, kernels, biases = draw()
    taus = (6.0, 4.0, 3.0)
    decays = np.exp(-1 / np.array(taus))
    kernels, biases = (
        [(p / (1 - decay)).astype(np.float32) for p, decay in zip(ps, decays, strict=True)] for ps in (kernels, biases)
    )
    modules = []
    for index, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        dense = Dense(*kernel.shape, key=jax.random.key(0))
        dense = eqx.tree_at(lambda d: (d.weight, d.bias), dense, (jnp.asarray(kernel.T), jnp.asarray(bias)))
        spiking = index < 2
        lif = LIF(taus[index], threshold=THRESHOLD, surrogate=ATan(ARCTAN)) if spiking else LeakyIntegrator(taus[index])
        modules += [dense, lif]
    net, x = Sequential(*modules), jnp.asarray(inputs, jnp.float32)

    def loss(outputs):
        return -(jax.nn.log_softmax(outputs) * jax.nn.one_hot(LABELS, SIZES[-1])).sum(-1).mean()

    gradients, _ = eprop_grads(net, x, loss)
    write(
        "jaxpike_e_prop",
        {
            "decay": decays,
            "gain": 1 - decays,
            "spiking": np.array([True, True, False]),
            "reset": "subtract",
            "stop_reset_gradient": False,
        },
        jax.lax.scan(lambda state, x: net(state, x), net.init_state((B, SIZES[0])), x)[1],
        inputs,
        layers_of(kernels, biases),
        layers_of([gradients.layers[i].weight.T for i in (0, 2, 4)], [gradients.layers[i].bias for i in (0, 2, 4)]),
    )


WRITERS = {"spikingjelly": spikingjelly, "sparx": sparx, "braintrace": braintrace, "jaxpike": jaxpike}

if __name__ == "__main__":
    main()
