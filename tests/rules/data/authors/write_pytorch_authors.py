# /// script
# requires-python = "==3.11.*"
# dependencies = ["torch==2.13.0", "numpy==2.4.6", "tqdm==4.70.1", "plotly==7.1.0", "matplotlib==3.11.2"]
# ///
"""Writes gradients that the code of the authors of S-TLLR, TESS and ETLP gives, and of OTTT's weight standardization.

    python write_pytorch_authors.py NAME CHECKOUT

runs one of s_tllr, tess, etlp, ottt, given a checkout of its authors' code; README.md says which commit. Nothing of theirs
is changed, but everything runs in float64 on the processor: torch's default type is float64, `.float()` means float64 and
`.cuda()` does nothing. What a module computes inside is taken from the arguments and results of its autograd functions.
"""

import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

HERE = Path(__file__).parent
T, B = 12, 3
SIZES = (6, 5, 4, 3)
LABELS = np.array([0, 2, 1])


def main():
    name, checkout = sys.argv[1:]
    sys.path.insert(0, checkout)
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    torch.Tensor.cuda = lambda tensor, *_, **__: tensor
    WRITERS[name]()


def draw(seed=0, rate=0.4):
    """Input spikes [T, B, I], and kernels [I, O], biases [O] and gains [O] of the layers."""
    rng = np.random.default_rng(seed)
    pairs = list(itertools.pairwise(SIZES))
    kernels = [np.sqrt(2 / n_in) * rng.normal(size=(n_in, n_out)) for n_in, n_out in pairs]
    biases = [rng.uniform(0, 0.3, size=n_out) for _, n_out in pairs]
    gains = [rng.uniform(1.2, 2.0, size=n_out) for _, n_out in pairs]
    return rng.uniform(size=(T, B, SIZES[0])) < rate, kernels, biases, gains


def write(name, **arrays):
    """Spikes, which are arrays of zeros and ones in each step, as booleans."""
    path = HERE / f"{name}.npz"
    arrays = {
        key: value.detach().numpy() if torch.is_tensor(value) else np.asarray(value) for key, value in arrays.items()
    }
    for key in arrays:
        if key.startswith("outputs") and np.isin(arrays[key], (0, 1)).all():
            arrays[key] = arrays[key].astype(bool)
    np.savez_compressed(path, **arrays)
    sizes = (f"{key} {np.abs(value).max():.2g}" for key, value in arrays.items() if key.startswith("gradient"))
    print(name, path.stat().st_size, *sizes)


def set_parameters(layer, kernel, bias, gain=None):
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.swapaxes(kernel, 0, 1) if kernel.ndim == 2 else kernel))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(bias))
        if gain is not None:
            layer.gain.copy_(torch.from_numpy(gain).reshape(layer.gain.shape))


class Recorder:
    """Keeps what goes into and out of a layer's autograd function at each step, and the gradients that reach its results.

    Args:
        layer: a layer of the authors with an attribute `activation`.
        kernels: the positions of its weights, by name, among the arguments of `activation`.
    """

    def __init__(self, layer, **kernels):
        self.positions = kernels or {"kernel": 1}
        self.kernels, self.gradients = {}, {}
        self.membranes, self.outputs, self.signals = [], [], []
        function = layer.activation

        def recorded(*arguments):
            for name, position in self.positions.items():
                if not arguments[position].is_leaf:
                    self._keep_effective(name, arguments[position])
            results = function(*arguments)
            output = results[0] if isinstance(results, tuple) else results
            if isinstance(results, tuple):
                self.membranes.append(results[1].detach().clone())
            self._keep_output(output)
            return results

        layer.activation = recorded

    def _keep_effective(self, name, kernel):
        def add(gradient):
            self.gradients[name] = self.gradients.get(name, 0) + gradient

        self.kernels[name] = kernel.detach().clone()
        kernel.register_hook(add)

    def _keep_output(self, output):
        self.outputs.append(output.detach().clone())
        self.signals.append(torch.zeros_like(output))
        output.register_hook(self.signals[-1].add_)

    def arrays(self, index):
        """By name and index of the layer; of kernels only those that are made of parameters, dense ones as [I, O]."""
        found = {f"outputs_{index}": torch.stack(self.outputs), f"signal_{index}": torch.stack(self.signals)}
        if self.membranes:
            found[f"membrane_{index}"] = torch.stack(self.membranes)
        for name, kernel in self.kernels.items():
            found[f"{name}_{index}"] = as_kernel(kernel)
            found[f"gradient_{name}_{index}"] = as_kernel(self.gradients[name])
        return found


def as_kernel(weight):
    return weight.T if weight.ndim == 2 else weight


STANDARDIZED = {name: name for name in ("weight", "gain", "bias")}
RECURRENT = STANDARDIZED | {"weight_rec": "recurrent_weight", "gain_rec": "recurrent_gain"}
PLAIN = {"weight": "kernel", "bias": "bias"}


def of_parameters(layer, index, names):
    """The parameters and their gradients; `names` maps those of the layer to those of the file. Weights are [I, O] if dense."""
    found = {}
    for theirs, ours in names.items():
        parameter = getattr(layer, theirs)
        if parameter is not None:
            shape = as_kernel if theirs.startswith("weight") else torch.flatten
            found[f"{ours}_{index}"] = shape(parameter.detach())
            found[f"gradient_{ours}_{index}"] = shape(parameter.grad)
    return found


# ------------------------------------------------------------------------------------------------------------------ S-TLLR


def s_tllr():
    """Two spiking layers and a leaky read-out; the same with other options; a recurrent layer; feedback; a convolution."""
    _s_tllr("s_tllr", factors=[0.2, 0.75, -1.0, 1.0], learning_steps=5)
    _s_tllr("s_tllr_synchrony", factors=[0.5, 0.9, 0.3, 0.8], learning_steps=T, reset="hard", leak=1.0)
    _s_tllr("s_tllr_causal", factors=[0.5, float(torch.sigmoid(torch.tensor(2.0))), 0.0, 1.0], learning_steps=T)
    _s_tllr("s_tllr_feedback", factors=[0.2, 0.75, -1.0, 1.0], learning_steps=T, feedback="DFA")
    _s_tllr("s_tllr_target", factors=[0.2, 0.75, -1.0, 1.0], learning_steps=T, feedback="DRTP")
    _s_tllr_recurrent("s_tllr_recurrent", None)
    _s_tllr_recurrent("s_tllr_recurrent_triangle", "STLLRLinearRecGradNorm")
    _s_tllr_convolution("s_tllr_convolution", None)
    _s_tllr_convolution("s_tllr_convolution_spikes", "STLLRConv2dGradNormOut")


def _learn(step, read_out, learning_steps, inputs):
    """The per-step losses of the last steps, as in the authors' utils/train.py, mode `stllr`. Returns the outputs."""
    labels, outputs = torch.from_numpy(LABELS), []
    for t, x in enumerate(torch.from_numpy(inputs).double()):
        output = step(x)
        outputs.append(output.detach())
        if T - t <= learning_steps:
            nn.functional.cross_entropy(output, labels).backward()
    return torch.stack(outputs)


def _s_tllr(name, *, factors, learning_steps, reset="soft", leak=2.0, feedback="BP"):
    from models.layers.feedback_alignment import TrainingHook
    from models.layers.STLLR_layers import LinearSTLLR

    inputs, kernels, biases, gains = draw()
    options = {"threshold": 0.6, "leak": leak, "factors": factors, "reset_mechanism": reset}
    layers = [LinearSTLLR(*kernel.shape, **options) for kernel in kernels[:2]]
    read_out = LinearSTLLR(*kernels[2].shape, accumulate=True, leak=3.0, factors=[0.0, 0.9, 0.0, 1.0])
    hooks = [TrainingHook(SIZES[-1], [SIZES[-1], n], feedback) for n in SIZES[1:3]]
    one_hot, prediction = torch.eye(SIZES[-1])[LABELS], torch.zeros(B, SIZES[-1])
    for layer, *parameters in zip([*layers, read_out], kernels, biases, gains, strict=True):
        set_parameters(layer, *parameters)
    if feedback != "BP":
        rng = np.random.default_rng(1)
        for hook in hooks:
            hook.fixed_fb_weights.data = torch.from_numpy(rng.normal(size=hook.fixed_fb_weights.shape))
    recorders = [Recorder(layer) for layer in [*layers, read_out]]

    def step(x):
        for layer, hook in zip(layers, hooks, strict=True):
            x = hook(layer(x), one_hot, prediction)
        logits = read_out(x)
        prediction.data.copy_(torch.softmax(logits, dim=1).data)
        return logits

    arrays = {"outputs": _learn(step, read_out, learning_steps, inputs)}
    for index, (layer, recorder) in enumerate(zip([*layers, read_out], recorders, strict=True)):
        arrays |= of_parameters(layer, index, PLAIN if layer is read_out else STANDARDIZED) | recorder.arrays(index)
    if feedback != "BP":
        arrays |= {f"feedback_{index}": hook.fixed_fb_weights for index, hook in enumerate(hooks)}
    lambda_post, lambda_pre, alpha_post, alpha_pre = factors
    write(
        name,
        inputs=inputs,
        labels=LABELS,
        decay=[float(torch.sigmoid(layer.leak)) for layer in [*layers, read_out]],
        threshold=0.6,
        reset=reset,
        psi="fast_sigmoid",
        lambda_pre=lambda_pre,
        lambda_post=lambda_post,
        alpha_pre=alpha_pre,
        alpha_post=alpha_post,
        read_out_trace_decay=0.9,
        learning_steps=learning_steps,
        feedback_mode=feedback,
        **arrays,
    )


def _s_tllr_recurrent(name, activation):
    from models.layers import surrogate_gradients
    from models.layers.STLLR_layers import LinearRecSTLLR, LinearSTLLR

    inputs, kernels, biases, gains = draw()
    rng = np.random.default_rng(2)
    n, factors = SIZES[1], [0.5, 0.8, 1.0, 1.0]
    function = getattr(surrogate_gradients, activation) if activation else None
    layer = LinearRecSTLLR(SIZES[0], n, threshold=0.6, factors=factors, activation=function)
    set_parameters(layer, kernels[0], biases[0], gains[0])
    with torch.no_grad():
        layer.weight_rec.copy_(torch.from_numpy(rng.normal(size=(n, n))))
        layer.gain_rec.copy_(torch.from_numpy(rng.uniform(0.4, 0.8, size=(n, 1))))
    read_out = LinearSTLLR(n, SIZES[-1], accumulate=True, leak=3.0, factors=[0.0, 0.9, 0.0, 1.0])
    set_parameters(read_out, rng.normal(size=(n, SIZES[-1])), biases[2])
    recorder, outer = Recorder(layer, kernel=2, recurrent=3), Recorder(read_out)
    outputs = _learn(lambda x: read_out(layer(x)), read_out, 7, inputs)
    write(
        name,
        inputs=inputs,
        labels=LABELS,
        outputs=outputs,
        decay=[float(torch.sigmoid(layer.leak)), float(torch.sigmoid(read_out.leak))],
        threshold=0.6,
        reset="soft",
        psi="triangle" if activation else "fast_sigmoid",
        lambda_pre=factors[1],
        lambda_post=factors[0],
        alpha_pre=factors[3],
        alpha_post=factors[2],
        read_out_trace_decay=0.9,
        learning_steps=7,
        **of_parameters(layer, 0, RECURRENT),
        **recorder.arrays(0),
        **of_parameters(read_out, 1, PLAIN),
        **outer.arrays(1),
    )


def _s_tllr_convolution(name, activation):
    """One convolution and a linear read-out of its spikes, as at the end of the authors' VGG."""
    from models.layers import surrogate_gradients
    from models.layers.STLLR_layers import Conv2dSTLLR

    rng = np.random.default_rng(3)
    factors, inputs = [0.2, 0.5, -1.0, 1.0], rng.uniform(size=(T, B, 2, 4, 4)) < 0.4
    function = getattr(surrogate_gradients, activation) if activation else None
    layer = Conv2dSTLLR(2, 3, 3, 1, 1, threshold=0.6, leak=0, factors=factors, activation=function)
    set_parameters(layer, rng.normal(size=(3, 2, 3, 3)), rng.uniform(0, 0.3, size=3), rng.uniform(1.2, 2.0, size=3))
    read_out = nn.Linear(3 * 16, SIZES[-1])
    set_parameters(read_out, rng.normal(size=(48, SIZES[-1])) / 4, rng.uniform(size=SIZES[-1]))
    recorder = Recorder(layer)
    outputs = _learn(lambda x: read_out(layer(x).flatten(1)), read_out, 5, inputs)
    write(
        name,
        inputs=inputs,
        labels=LABELS,
        outputs=outputs,
        decay=[0.5, 0.0],
        threshold=0.6,
        reset="soft",
        psi="spikes" if activation else "triangle",
        lambda_pre=factors[1],
        lambda_post=factors[0],
        alpha_pre=factors[3],
        alpha_post=factors[2],
        learning_steps=5,
        **of_parameters(layer, 0, STANDARDIZED),
        **recorder.arrays(0),
        **of_parameters(read_out, 1, PLAIN),
    )


# -------------------------------------------------------------------------------------------------------------------- TESS


def tess():
    """Two dense layers, each with a local loss, for both kinds of basis; and a convolution that is pooled."""
    _tess("tess_square", waveform="square", standardize=True)
    _tess("tess_sine", waveform="cosine", standardize=False)
    _tess_convolution("tess_convolution")


def _tess(name, *, waveform, standardize):
    from models.layers.local_learning_signal_generation import (
        LocalLearningSignalGenerationLayer,
        generate_frequency_matrix,
    )
    from models.layers.stdp_layers import LinearSTDP

    inputs, kernels, biases, gains = draw(seed=8)
    factors = [0.2, 0.5, 1.0, 1.0]
    blocks = [LinearSTDP(*k.shape, threshold=0.6, leak=0.0, factors=factors, wn=standardize) for k in kernels[:2]]
    layers, recorders, arrays = [], [], {}
    for index, block in enumerate(blocks):
        set_parameters(block, kernels[index], biases[index], gains[index])
        n = SIZES[index + 1]
        layers.append(LocalLearningSignalGenerationLayer(block, n_classes=SIZES[-1], waveform=waveform, pooling_size=n))
        recorders.append(Recorder(block))
        basis = generate_frequency_matrix(SIZES[-1], n, max_freq=512)
        arrays[f"basis_{index}"] = (torch.sign(basis) if waveform == "square" else basis) / n
    labels = torch.from_numpy(LABELS)
    for x in torch.from_numpy(inputs).double():
        for layer in layers:
            x = layer(x, labels)
    for index, (block, recorder) in enumerate(zip(blocks, recorders, strict=True)):
        arrays |= of_parameters(block, index, STANDARDIZED if standardize else PLAIN) | recorder.arrays(index)
    write(
        name,
        inputs=inputs,
        labels=LABELS,
        decay=[0.5, 0.5],
        threshold=0.6,
        subtracted=0.6,
        psi="fast_sigmoid",
        waveform="square" if waveform == "square" else "sine",
        lambda_pre=factors[1],
        lambda_post=factors[0],
        alpha_pre=factors[3],
        alpha_post=factors[2],
        **arrays,
    )


def _tess_convolution(name):
    """A block of the authors' VGG: convolution without bias, dropout of nothing, pooling; then the loss pools again."""
    from models.layers.local_learning_signal_generation import (
        LocalLearningSignalGenerationLayer,
        generate_frequency_matrix,
    )
    from models.VGG_TESS import ConvBlock

    rng = np.random.default_rng(4)
    factors, inputs = [0.2, 0.5, 1.0, 1.0], rng.uniform(size=(T, B, 2, 4, 4)) < 0.4
    block = ConvBlock(2, 3, 3, "AVG", factors, 0.0, pool_size=2, wn=True)
    set_parameters(block.conv, rng.normal(size=(3, 2, 3, 3)), None, rng.uniform(1.2, 2.0, size=3))
    block.reset_state()
    layer = LocalLearningSignalGenerationLayer(block, n_classes=SIZES[-1], waveform="square", pooling_size=1)
    recorder, labels = Recorder(block.conv), torch.from_numpy(LABELS)
    outputs = torch.stack([layer(x, labels) for x in torch.from_numpy(inputs).double()])
    write(
        name,
        inputs=inputs,
        labels=LABELS,
        outputs=outputs,
        basis_0=torch.sign(generate_frequency_matrix(SIZES[-1], 3, max_freq=512)) / 3,
        decay=[0.5],
        threshold=0.6,
        subtracted=1.0,
        psi="triangle",
        waveform="square",
        lambda_pre=factors[1],
        lambda_post=factors[0],
        alpha_pre=factors[3],
        alpha_post=factors[2],
        **of_parameters(block.conv, 0, STANDARDIZED),
        **recorder.arrays(0),
    )


# -------------------------------------------------------------------------------------------------------------------- ETLP


def etlp():
    """LIF neurons, neurons without a leak, recurrent adaptive ones with a refractory time; and their e-prop."""
    _etlp("etlp", "ETLP", decay_v=0.8)
    _etlp("etlp_no_leak", "ETLP", decay_v=1.0)
    _etlp("etlp_adaptive", "ETLP", recurrent=True, scale=3.0, theta=0.2, refractory=4, voltage_reg=0.1, weight_l1=0.01)
    _etlp("etlp_e_prop", "EPROP", decay_v=0.8, recurrent=True)


def _etlp(
    name, method, *, decay_v=None, scale=1.0, recurrent=False, theta=0.0, refractory=0, voltage_reg=0.0, weight_l1=0.0
):
    """`utils.train` with an optimizer that only keeps the gradients; decays per neuron if no `decay_v` is given."""
    import models
    import utils

    rng = np.random.default_rng(5)
    n_in, n_rec, n_out = 6, 5, 3
    args = SimpleNamespace(
        dt=4.0, n_ref=refractory, recurrent=recurrent, method=method, train_rec=recurrent, tau_v=20.0
    )
    vars(args).update(
        tau_o=20.0, tau_a=30.0, thr=1.0, theta=theta, n_out=n_out, voltage_reg=voltage_reg, weight_L1=weight_l1
    )
    models.SpikeFunction.scale = 0.3 / args.thr
    model = models.Network(n_in, n_rec, n_out, args)
    decays = rng.uniform(0.6, 0.95, size=(1, n_rec)) if decay_v is None else np.full((1, n_rec), decay_v)
    parameters = {
        "W_in": scale * rng.normal(size=(n_in, n_rec)),
        "W_out": scale * (0.5 * rng.normal(size=(n_rec, n_out)) + 0.2),
        "b_out": rng.normal(size=(n_rec, n_out)) / np.sqrt(n_rec),
        "decay_v": decays,
    }
    if recurrent:
        parameters["W_rec"] = 0.5 * rng.normal(size=(n_rec, n_rec))
    with torch.no_grad():
        for key, value in parameters.items():
            getattr(model, key).copy_(torch.from_numpy(value))
    inputs = rng.uniform(size=(T, B, n_in)) < 0.5
    states, events, gradients = [], [], []

    def keep_state(*_):
        states.append({key: value.detach().clone() for key, value in model.state._asdict().items()})

    def keep_gradients():
        events.append(len(states) - 1)
        gradients.append({key: getattr(model, key).grad.clone() for key in parameters if key.startswith("W")})

    model.register_forward_hook(keep_state)
    optimizer = SimpleNamespace(zero_grad=lambda: None, step=keep_gradients)
    np.random.seed(3)
    batch = torch.from_numpy(inputs).double(), torch.from_numpy(LABELS)
    utils.train(args, model, [batch], optimizer, lambda x, y: 0.5 * torch.sum((x - y) ** 2), torch.device("cpu"))

    names = {"W_in": "kernel_0", "W_rec": "recurrent", "W_out": "kernel_1"}
    state = {key: torch.stack([step[key] for step in states]) for key in states[0]}
    write(
        name,
        inputs=inputs,
        labels=LABELS,
        events=events,
        decay=decays[0],
        output_decay=model.decay_o,
        adaptation_decay=model.decay_a,
        threshold=args.thr,
        adaptation=theta,
        refractory_steps=refractory,
        voltage_reg=voltage_reg,
        weight_l1=weight_l1,
        feedback=model.b_out,
        membrane_0=state["V_rec"],
        outputs_0=state["S_rec"],
        membrane_1=state["V_out"],
        outputs_1=state["S_out"],
        **{names[key]: getattr(model, key) for key in names if key in parameters},
        **{f"gradient_{names[key]}": torch.stack([g[key] for g in gradients]) for key in gradients[0]},
    )


# ------------------------------------------------------------------------------------------- weight standardization of OTTT


def ottt():
    """A dense layer and a convolution with standardized weights, given the gradient of their outputs."""
    from models.spiking_vgg import ScaledWSConv2d, ScaledWSLinear

    rng = np.random.default_rng(6)
    arrays = {}
    for name, layer, shape in (
        ("linear", ScaledWSLinear(6, 5), (B, 6)),
        ("conv", ScaledWSConv2d(2, 3, 3, padding=1), (B, 2, 4, 4)),
    ):
        with torch.no_grad():
            for parameter in (layer.weight, layer.bias, layer.gain):
                parameter.copy_(torch.from_numpy(rng.normal(size=parameter.shape)))
        inputs = torch.from_numpy(rng.uniform(size=shape))
        outputs = layer(inputs)
        signal = torch.from_numpy(rng.normal(size=outputs.shape))
        outputs.backward(signal)
        arrays |= {f"inputs_{name}": inputs, f"outputs_{name}": outputs, f"signal_{name}": signal}
        arrays[f"kernel_{name}"] = as_kernel(layer.get_weight())
        arrays |= {
            f"{key.rsplit('_', 1)[0]}_{name}": value for key, value in of_parameters(layer, 0, STANDARDIZED).items()
        }
    write("ottt_weight_standardization", eps=1e-4, **arrays)


WRITERS = {"s_tllr": s_tllr, "tess": tess, "etlp": etlp, "ottt": ottt}

if __name__ == "__main__":
    main()
