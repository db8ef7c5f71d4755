"""Writes graphs of other frameworks, each with an input and what the framework itself makes of it.

Run it in an environment of its own, see README.md. A network is exported by its framework and run by it; the graph of
`norse_recurrent` is written with NIR's library alone and run by norse, that of `slax_chain` is written by this package and run
by snnTorch.
"""

import itertools
import warnings
from pathlib import Path

import nir
import nirtorch
import norse.torch as norse
import numpy as np
import snntorch
import torch
from norse.torch.module.leaky_integrator_box import LIBoxCell, LIBoxParameters
from norse.torch.module.lif_box import LIFBoxCell, LIFBoxParameters
from norse.torch.utils.import_nir import _import_norse_module
from snntorch.export_nir import export_to_nir
from snntorch.import_nir import import_from_nir

HERE = Path(__file__).parents[1] / "neurons" / "data"
T, B = 60, 4


def main():
    warnings.simplefilter("ignore")
    with torch.no_grad():
        for write in (
            norse_chain,
            norse_recurrent,
            snntorch_subtract,
            snntorch_recurrent,
            snntorch_synaptic,
            snntorch_conv,
            slax_chain,
        ):
            torch.manual_seed(0)
            write()


def norse_chain():
    """Linear, LIF, Linear, LI with a tau and a threshold per neuron; forward Euler with dt = 1 ms, r = 1."""
    lif = LIFBoxParameters(
        tau_mem_inv=1 / torch.linspace(4e-3, 2e-2, 12),
        v_leak=torch.zeros(12),
        v_th=torch.linspace(0.1, 0.3, 12),
        v_reset=torch.zeros(12),
    )
    li = LIBoxParameters(tau_mem_inv=1 / torch.linspace(5e-3, 8e-3, 4), v_leak=torch.zeros(4))
    layers = [torch.nn.Linear(6, 12), LIFBoxCell(lif, dt=1e-3), torch.nn.Linear(12, 4), LIBoxCell(li, dt=1e-3)]
    network = norse.SequentialState(*layers)
    layers[0].weight *= 3
    # norse 1.1.0 writes dt * tau for tau, so its own dt has to be 1 here.
    graph = norse.to_nir(network, torch.zeros(6), dt=1.0)
    save("norse_chain", graph, network, spikes(6), dt=1e-3)


def norse_recurrent():
    """Current-based neurons with r and w_in per neuron, which feed themselves through a Linear; LI; forward Euler, 1 ms."""
    rng = np.random.default_rng(0)
    neurons = nir.CubaLIF(
        tau_syn=np.linspace(3e-3, 6e-3, 12),
        tau_mem=np.linspace(2e-2, 5e-3, 12),
        r=np.linspace(1.0, 3.0, 12),
        v_leak=np.zeros(12),
        v_threshold=np.linspace(0.2, 0.1, 12),
        w_in=np.linspace(2.0, 0.5, 12),
    )
    nodes = {
        "input": nir.Input({"input": np.array([6])}),
        "feed": nir.Affine(rng.normal(size=(12, 6)).astype(np.float32), rng.normal(size=12).astype(np.float32) / 10),
        "neurons": neurons,
        "recur": nir.Linear(rng.normal(size=(12, 12)).astype(np.float32) / 2),
        "read": nir.Affine(rng.normal(size=(4, 12)).astype(np.float32), rng.normal(size=4).astype(np.float32)),
        "integrator": nir.LI(tau=np.full(4, 5e-3), r=np.ones(4), v_leak=np.zeros(4)),
        "output": nir.Output({"output": np.array([4])}),
    }
    chain = ["input", "feed", "neurons", "read", "integrator", "output"]
    edges = [*itertools.pairwise(chain), ("neurons", "recur"), ("recur", "neurons")]
    graph = nir.NIRGraph(nodes, edges)

    def module(node):
        if isinstance(node, nir.LI):
            tau, leak = torch.as_tensor(node.tau).float(), torch.as_tensor(node.v_leak).float()
            return LIBoxCell(LIBoxParameters(tau_mem_inv=1 / tau, v_leak=leak), dt=1e-3)
        return _import_norse_module(node, ignore_warnings=True, dt=1e-3)

    kinds = (nir.Affine, nir.CubaLIF, nir.LI, nir.Linear)
    network = nirtorch.nir_to_torch(graph, dict.fromkeys(kinds, module))
    save("norse_recurrent", graph, network, spikes(6), dt=1e-3)


def snntorch_subtract():
    """Two layers that reset by subtraction, which the graph does not say.

    Weights are small enough for membranes below twice the threshold. From there on snnTorch 1.0.0 subtracts at the next
    step, before it decides on a spike.
    """
    network = torch.nn.Sequential(torch.nn.Linear(6, 12), leaky(12), torch.nn.Linear(12, 4), leaky(4))
    network[0].weight *= 0.6
    network[2].weight *= 1.2
    save_snntorch("snntorch_subtract", network, spikes(6), check=lambda: max(network[i].mem.max() for i in (1, 3)) < 1)


def snntorch_recurrent():
    """A recurrent layer whose weights go through the neurons' input, with a bias; reset to zero."""
    recurrent = snntorch.RLeaky(
        beta=0.9, linear_features=12, reset_mechanism="zero", reset_delay=False, init_hidden=True
    )
    network = torch.nn.Sequential(torch.nn.Linear(6, 12), recurrent, torch.nn.Linear(12, 4), leaky(4, "zero"))
    network[0].weight *= 3
    network[2].weight *= 10
    recurrent.recurrent.weight *= 2
    save_snntorch("snntorch_recurrent", network, spikes(6))


def snntorch_synaptic():
    """A layer of current-based neurons, with its decays per neuron; reset to zero."""
    synaptic = snntorch.Synaptic(
        alpha=torch.linspace(0.5, 0.8, 12),
        beta=torch.linspace(0.9, 0.7, 12),
        threshold=torch.linspace(1.0, 2.0, 12),
        reset_mechanism="zero",
        reset_delay=False,
        init_hidden=True,
    )
    network = torch.nn.Sequential(torch.nn.Linear(6, 12), synaptic, torch.nn.Linear(12, 4), leaky(4, "zero"))
    network[2].weight *= 4
    save_snntorch("snntorch_synaptic", network, spikes(6))


def snntorch_conv():
    """Convolution with stride and padding, pooling, flattening; height and width differ; reset to zero."""
    network = torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 3, padding=1),
        leaky((3, 8, 6), "zero"),
        torch.nn.AvgPool2d(2, stride=2),
        torch.nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False),
        leaky((4, 2, 2), "zero"),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 4),
        leaky(4, "zero"),
    )
    for layer in (0, 3, 6):
        network[layer].weight *= 4
    save_snntorch("snntorch_conv", network, spikes((2, 8, 6)))


def slax_chain():
    """What snnTorch makes of the graph that write_slax_chain.py has written."""
    inputs = spikes(6)
    network, outputs, state = import_from_nir(nir.read(HERE / "slax_chain.nir")), [], None
    for x in inputs:
        output, state = network(x, state)
        outputs.append(output)
    save_run("slax_chain", inputs, outputs, dt=1e-4)


def leaky(shape, reset="subtract"):
    """A threshold and a decay of the layer's shape, without which snnTorch writes nodes that NIR refuses."""
    ones = torch.ones(shape)
    options = {"reset_mechanism": reset, "reset_delay": False, "init_hidden": True}
    return snntorch.Leaky(beta=0.9 * ones, threshold=ones, **options)


def spikes(shape):
    shape = (shape,) if isinstance(shape, int) else shape
    return (torch.rand(T, B, *shape) < 0.4).float()


def save_snntorch(name, network, inputs, check=lambda: True):
    graph = export_to_nir(network, torch.zeros(1, *inputs.shape[2:]), ignore_dims=[0])
    for module in network:
        if isinstance(module, snntorch.RLeaky | snntorch.Leaky | snntorch.Synaptic):
            module.reset_mem()

    def step(x, state):
        output = network(x)
        assert check(), "a membrane is above its threshold after the reset: use smaller weights"
        return output, state

    save(name, graph, step, inputs, dt=1e-4)  # snnTorch's own dt, of which it says nothing


def save(name, graph, network, inputs, *, dt):
    outputs, state = [], None
    for x in inputs:
        output, state = network(x, state)
        outputs.append(output)
    nir.write(HERE / f"{name}.nir", graph, compression=None)
    save_run(name, inputs, outputs, dt=dt)


def save_run(name, inputs, outputs, *, dt):
    outputs = torch.stack(outputs)
    np.savez_compressed(HERE / f"{name}.npz", inputs=inputs.bool().numpy(), outputs=outputs.numpy(), dt=dt)
    print(name, float(outputs.mean()))


if __name__ == "__main__":
    main()
