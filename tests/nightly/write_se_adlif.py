"""Writes spikes, states and gradients of the SE-adLIF of its authors, with and without recurrence: se_adlif.npz.

    python write_se_adlif.py PATH

runs their public code, a checkout of github.com/IGITUGraz/SE-adlif at the commit of README.md at PATH, in an environment of its
own. What is drawn here with NumPy is put in place of their parameters, in float64.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf

HERE = Path(__file__).parents[1] / "neurons" / "data"
T, B, N_IN, N = 40, 3, 5, 4
TAU_U, TAU_W = (5.0, 25.0), (60.0, 300.0)
GAIN = 60.0  # of the input weights: every neuron fires now and then


def draw():
    rng = np.random.default_rng(0)
    return {
        "inputs": (rng.uniform(size=(T, B, N_IN)) < 0.3).astype(np.float64),
        "kernel": GAIN * rng.uniform(-0.6, 1, size=(N_IN, N)) / np.sqrt(N_IN),
        "bias": rng.uniform(0, 0.5, size=N),
        "recurrent": 6 * rng.normal(size=(N, N)),
        "tau_u": rng.uniform(*TAU_U, size=N),
        "tau_w": rng.uniform(*TAU_W, size=N),
        "a": rng.uniform(0, 1, size=N),
        "b": rng.uniform(0, 2, size=N),
        "weights": rng.normal(size=(T, B, N)),
        "end_weights": rng.normal(size=(2, B, N)),
    }


def run(layer_type, data, recurrent):
    """The spikes [T, B, N], the last u and w, and the gradients of a weighted sum of both."""
    options = {
        "input_size": N_IN,
        "n_neurons": N,
        "q": 120,
        "alpha": 5,
        "c": 0.4,
        "tau_u_range": list(TAU_U),
        "tau_w_range": list(TAU_W),
        "use_recurrent": recurrent,
    }
    layer = layer_type(OmegaConf.create(options)).double()
    trainers = {"tau_u": (layer.tau_u_trainer, TAU_U), "tau_w": (layer.tau_w_trainer, TAU_W)}
    values = {
        layer.weight: data["kernel"].T,
        layer.bias: data["bias"],
        layer.a: data["a"],
        layer.b: data["b"],
    }
    if recurrent:
        values[layer.recurrent] = data["recurrent"].T
    for name, (trainer, (low, high)) in trainers.items():
        values[trainer.weight] = (data[name] - low) / (high - low)
    with torch.no_grad():
        for parameter, value in values.items():
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    states = tuple(torch.zeros(B, N, dtype=torch.float64) for _ in range(3))
    total, spikes = 0.0, []
    for t in range(T):
        z, states = layer(torch.from_numpy(data["inputs"][t]), states)
        total = total + (torch.from_numpy(data["weights"][t]) * z).sum()
        spikes.append(z.detach().numpy())
    u, _, w = states
    total = total + sum((torch.from_numpy(c) * s).sum() for c, s in zip(data["end_weights"], (u, w), strict=True))
    total.backward()
    results = {
        "spikes": np.stack(spikes),
        "u": u.detach().numpy(),
        "w": w.detach().numpy(),
        "gradient_kernel": layer.weight.grad.numpy().T,
        "gradient_bias": layer.bias.grad.numpy(),
        "gradient_a": layer.a.grad.numpy(),
        "gradient_b": layer.b.grad.numpy(),
    }
    if recurrent:
        results["gradient_recurrent"] = layer.recurrent.grad.numpy().T
    for name, (trainer, (low, high)) in trainers.items():  # by the decay exp(-1 / tau), and not by their weight
        slope = np.exp(-1 / data[name]) / data[name] ** 2 * (high - low)
        results[f"gradient_decay_{name[-1]}"] = trainer.weight.grad.numpy() / slope
    return results


def main():
    sys.path.insert(0, sys.argv[1])
    from models.alif import SEAdLIF

    data = draw()
    results = {}
    for name, recurrent in (("feedforward", False), ("recurrent", True)):
        found = run(SEAdLIF, data, recurrent)
        print(name, "rate", found["spikes"].mean(axis=(0, 1)))
        results |= {f"{name}_{key}": value for key, value in found.items()}
    np.savez_compressed(HERE / "se_adlif.npz", **data, **results)
    print((HERE / "se_adlif.npz").stat().st_size)


if __name__ == "__main__":
    main()
