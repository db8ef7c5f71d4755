"""Records what another framework computes, for the page docs/from/NAME.md: see README.md.

    python write_runs.py NAME

It runs the page's program in that framework as it stands on the page, and then each entry in the first column of the page's
tables of neurons, surrogates and initial weights.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from snippets_of_pages import rows, snippet  # noqa: E402

T, N = 30, 12
RATE = 0.05  # to which the currents of a neuron are made stronger: with few of its membranes above twice the threshold
GRID = np.linspace(-2.0, 2.0, 81, dtype=np.float32) + np.float32(0.01)  # distances to the threshold, none of them 0


def main():
    name = sys.argv[1]
    framework = FRAMEWORKS[name]
    framework.seed()
    program = snippet(name)
    names = {}
    exec(program, names)
    recorded = {
        "snippet": program,
        "inputs": names["inputs"],
        "labels": names["labels"],
        "spikes": array(names["spikes"]),
        "loss": array(framework.loss(names)),
    }
    for index, (before, after) in enumerate(zip(names["kernels"], framework.kernels(names), strict=True)):
        recorded |= {f"kernel_{index}": before, f"trained_{index}": array(after)}
    if hasattr(framework, "decays"):
        recorded["trained_decays"] = array(framework.decays(names))

    rng = np.random.default_rng(7)
    currents = rng.normal(0.15, 0.35, size=(T, 1, N)).astype(np.float32)
    weights = rng.normal(size=(T, 1, N)).astype(np.float32)
    recorded |= {"currents": currents, "weights": weights, "grid": GRID}
    for index, (theirs, _) in enumerate(rows(name, "Neurons")):
        gain = np.float32(1)
        while np.mean(framework.outputs(theirs, names, gain * currents)) < RATE:
            gain *= 2
        outputs, gradient = framework.neuron(theirs, names, gain * currents, weights)
        recorded |= {f"neuron_{index}": theirs, f"gain_{index}": gain}
        recorded |= {f"outputs_{index}": outputs, f"gradient_{index}": gradient}
        print(theirs, gain, float(outputs.mean()))
    for index, (theirs, _) in enumerate(rows(name, "Surrogates")):
        recorded |= {f"surrogate_{index}": theirs, f"slopes_{index}": framework.surrogate(theirs, names)}
    for index, (theirs, _) in enumerate(rows(name, "Initial weights")):
        drawn = np.abs(array(eval(theirs, names)))
        recorded |= {f"initial_{index}": theirs, f"quantiles_{index}": np.quantile(drawn, [0.25, 0.5, 0.75, 0.95])}
    np.savez_compressed(HERE / f"{name}.npz", **recorded)
    print(recorded["spikes"].sum(axis=0).tolist(), float(recorded["loss"]))


def array(values):
    """Numbers of any framework; a loss of one entry becomes a number."""
    values = np.asarray(values.detach() if hasattr(values, "detach") else values, np.float32)
    return values.reshape(()) if values.size == 1 else values


class Torch:
    """What the frameworks for PyTorch have in common."""

    def seed(self):
        import torch

        torch.manual_seed(0)

    def loss(self, names):
        return names["loss"]

    def outputs(self, theirs, names, currents):
        import torch

        return array(self.run(eval(theirs, names), torch.tensor(currents)))

    def neuron(self, theirs, names, currents, weights):
        import torch

        currents = torch.tensor(currents, requires_grad=True)
        outputs = self.run(eval(theirs, names), currents)
        (torch.tensor(weights) * outputs).sum().backward()
        return array(outputs), array(currents.grad)

    def surrogate(self, theirs, names):
        import torch

        grid = torch.tensor(GRID, requires_grad=True)
        self.spike(theirs, names, grid).sum().backward()
        return array(grid.grad)


class SnnTorch(Torch):
    def kernels(self, names):
        return [names["first"].weight.T, names["second"].weight.T]

    def run(self, neuron, currents):
        import torch

        states, outputs = neuron.reset_mem(), []
        states = states if isinstance(states, tuple) else (states,)
        for current in currents:
            spikes, *states = neuron(current, *states)
            outputs.append(spikes)
        return torch.stack(outputs)

    def spike(self, theirs, names, grid):
        return eval(theirs, names)(grid)


class SpikingJelly(Torch):
    def kernels(self, names):
        return [layer.weight.T for layer in names["net"][::2]]

    def run(self, neuron, currents):
        import torch

        neuron.step_mode = "m"
        outputs = neuron(currents)
        return torch.stack(outputs) if isinstance(outputs, list) else outputs

    def spike(self, theirs, names, grid):
        return eval(theirs, names)(grid)


class Norse(Torch):
    def kernels(self, names):
        return [layer.weight.T for layer in (names["net"][0], names["net"][2])]

    def run(self, neuron, currents):
        import torch

        state, outputs = None, []
        for current in currents:
            spikes, state = neuron(current, state)
            outputs.append(spikes)
        return torch.stack(outputs)

    def spike(self, theirs, names, grid):
        import torch
        from norse.torch.functional.threshold import threshold

        options = {"alpha": torch.tensor(100.0)} | eval(f"dict({theirs})", {"torch": torch})
        return threshold(grid, options["method"], options["alpha"])


class Jax:
    """What the frameworks for JAX have in common."""

    def seed(self):
        """The pages give keys."""

    def loss(self, names):
        return names["loss"]

    def outputs(self, theirs, names, currents):
        return array(self.run(eval(theirs, names), currents))

    def neuron(self, theirs, names, currents, weights):
        import jax

        outputs = self.outputs(theirs, names, currents)
        gradient = jax.grad(lambda at: (weights * self.run(eval(theirs, names), at)).sum())(currents)
        return outputs, array(gradient)

    def surrogate(self, theirs, names):
        import jax

        spike = eval(theirs, names)
        return array(jax.vmap(jax.grad(spike))(GRID))


class Spyx(Jax):
    def kernels(self, names):
        return [names["first"].kernel[...], names["second"].kernel[...]]

    def decays(self, names):
        return np.array([float(names["net"].layers[i].beta[...]) for i in (1, 3)])

    def run(self, neuron, currents):
        import spyx.nn

        return spyx.nn.run(neuron, currents)[0]


class Jaxpike(Jax):
    def kernels(self, names):
        return [names["net"].layers[i].weight.T for i in (0, 2)]

    def decays(self, names):
        return np.array([float(names["net"].layers[i].log_tau) for i in (1, 3)])

    def run(self, neuron, currents):
        import jaxpike

        return jaxpike.unroll(jaxpike.Sequential(neuron), currents)[0]


class Braintrace(Jax):
    def seed(self):
        import brainstate

        brainstate.random.seed(0)

    def loss(self, names):
        return np.mean(names["losses"])

    def kernels(self, names):
        return [weight.value["weight"] for weight in names["weights"].values()]

    def run(self, neuron, currents):
        import brainstate

        brainstate.nn.init_all_states(neuron, currents.shape[1])
        return brainstate.transform.for_loop(neuron.update, currents)


class Slax(Jax):
    def loss(self, names):
        return np.mean(names["losses"])

    def kernels(self, names):
        import jax

        return jax.tree_util.tree_leaves(names["params"]["params"])

    def run(self, neuron, currents):
        import jax
        import jax.numpy as jnp
        import slax

        currents = jnp.asarray(currents)
        model = slax.RNN(neuron, unroll=1)
        variables = model.init(jax.random.PRNGKey(0), currents[:1])
        # init leaves the state of its step in the carry.
        variables = {**variables, "carry": jax.tree_util.tree_map(jnp.zeros_like, variables["carry"])}
        return model.apply(variables, currents, mutable="carry")[0]


FRAMEWORKS = {
    "braintrace": Braintrace(),
    "jaxpike": Jaxpike(),
    "norse": Norse(),
    "slax": Slax(),
    "snntorch": SnnTorch(),
    "spikingjelly": SpikingJelly(),
    "spyx": Spyx(),
}

if __name__ == "__main__":
    main()
