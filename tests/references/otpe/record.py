# /// script
# requires-python = "==3.11.*"
# dependencies = [
#   "slax==0.0.1", "jax==0.4.25", "jaxlib==0.4.25", "flax==0.8.2", "optax==0.2.2", "numpy==1.26.4", "scipy==1.12.0",
#   "orbax-checkpoint==0.5.18"
# ]
# ///
"""Writes gradients that the code of OTPE's authors gives, and those of slax 0.0.1, for tests/laws/test_authors.py.

    uv run record.py authors FOLDER
    uv run record.py slax

FOLDER has three files of the repository Intelligent-Microsystems-Lab/OTPE: OTPE.py at commit 39cd582, utils.py at 58739c3 and
spiking_learning.py at 700d39b. All numbers are float64, on the processor. The same versions give the same files, bit by bit.

    inputs [T, B, I], labels [B]
    decay, slope                                    of the membranes, per layer, and of the surrogate
    kernel_0 [I, N], bias_0 [N], ...                weights, from the first layer up
    RULE/loss, RULE/kernel_0, ...                   the mean over T and B, and its gradient
    RULE/trained/kernel_0, ...                      the weights after one sequence of online updates, SGD with rate `RATE`
    RULE/steps/kernel_0 [T, ...]                    the gradient of the loss of each step, at the given weights
"""

import hashlib
import itertools
import sys
from functools import partial
from pathlib import Path

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import tree_leaves, tree_map, tree_structure, tree_unflatten

HERE = Path(__file__).parent
RATE = 0.1
SHA256 = {
    "OTPE.py": "68192b497ac08561e99d80aa6f48babdfe14db4d298ca905e7a3ca0c6e6a1419",
    "spiking_learning.py": "29f541843d881c32ea43d3f13d748799f20ed48783653ed236ffa459024c9041",
    "utils.py": "08c4049da99159d968b848320fe4184587d3c53f7d68bd97972ad6d04cf74b5e",
}


def draw(sizes, steps, batch, seed, taus, slope):
    """A case: inputs, labels and weights large enough for spikes in each layer."""
    rng = np.random.default_rng(seed)
    case = {"inputs": (rng.uniform(size=(steps, batch, sizes[0])) < 0.4).astype(np.float64)}
    case |= {"labels": rng.integers(sizes[-1], size=batch), "decay": 1 / (1 + np.exp(-np.array(taus))), "slope": slope}
    for index, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        width = 2 * (3 / n_in) ** 0.5
        case[f"kernel_{index}"] = rng.uniform(-width, width, (n_in, n_out))
        case[f"bias_{index}"] = rng.uniform(0, 0.25, n_out)
    return case


def weights(case, order):
    """The leaves of both libraries: for each layer its bias and its kernel."""
    return [jnp.asarray(case[f"{name}_{index}"]) for index in order for name in ("bias", "kernel")]


def named(tree, order, prefix):
    """From their leaves to our names."""
    names = [f"{name}_{index}" for index in order for name in ("bias", "kernel")]
    return {f"{prefix}/{name}": np.asarray(leaf) for name, leaf in zip(names, tree_leaves(tree), strict=True)}


def one_hot(case):
    shape, size = case["inputs"].shape[:2], case[f"bias_{len(case['decay']) - 1}"].size
    return jnp.broadcast_to(jax.nn.one_hot(case["labels"], size, dtype=jnp.float64), (*shape, size))


def write(name, cases):
    found = {f"{case}/{key}": value for case, values in cases.items() for key, value in values.items()}
    assert all(np.asarray(value).dtype != np.float32 for value in found.values())
    np.savez_compressed(HERE / f"{name}.npz", **found)
    print(name, (HERE / f"{name}.npz").stat().st_size)


# ------------------------------------------------------------------------------------------------------------- the authors


def authors(folder):
    for name, expected in SHA256.items():
        if hashlib.sha256((Path(folder) / name).read_bytes()).hexdigest() != expected:
            sys.exit(f"Got another {name}, expected that of the commit above. Take it from there.")
    sys.path.insert(0, folder)
    flax.config.update("flax_return_frozendict", True)  # as in the Flax of 2023, for which the code is written
    import OTPE
    import spiking_learning
    import utils

    last_and_hidden = {
        "bptt": None,
        "ostl": (OTPE.OSTL, OTPE.OSTL),
        "ottt": (OTPE.OTTT, OTPE.OTTT),
        "otpe": (OTPE.OSTL, OTPE.OTPE),
        "approximate_otpe": (OTPE.OTTT, OTPE.Approx_OTPE),
        "otpe_front": (OTPE.OTPE_front, OTPE.OTPE),
        "approximate_otpe_front": (OTPE.Approx_OTPE_front, OTPE.Approx_OTPE),
    }

    class Network(utils.custom_snn):
        """Theirs has one decay for all layers."""

        taus: tuple = ()

        def layer(self, number):
            dense = partial(nn.Dense, dtype=self.dtype, param_dtype=self.dtype)
            neuron = partial(spiking_learning.subtraction_LIF, dtype=self.dtype)
            make, size = (self.mod2, self.layer_sz(number)) if number else (self.mod1, self.output_sz)
            return make(dense, size, neuron, self.taus[number], self.spike_fn, dtype=self.dtype)

        def setup(self):
            self.snns = [self.layer(number) for number in range(self.n_layers)]

    def run(sizes, steps, batch, seed, taus, slope, rules, online=False, each_step=()):
        case = draw(sizes, steps, batch, seed, taus, slope)
        depth, batch = len(sizes) - 1, (jnp.asarray(case["inputs"]), one_hot(case))
        order = list(reversed(range(depth)))  # their first layer is the last one
        options = {
            "spike_fn": spiking_learning.fs(float(slope)),
            "layer_sz": lambda i: sizes[depth - i],
            "n_layers": depth,
            "output_sz": sizes[-1],
            "dtype": jnp.float64,
        }
        if len(set(taus)) == 1:
            network, options["tau"] = utils.custom_snn, float(taus[0])
        else:
            network, options["taus"] = Network, tuple(map(float, reversed(taus)))
        optimizer = optax.sgd(RATE)
        carry = [OTPE.OTPE_front.initialize_carry(dtype=jnp.float64)] * depth
        first = network(mod1=OTPE.OTPE_front, mod2=OTPE.OTPE, **options)  # its carry has the traces of all rules
        params = first.init(jax.random.PRNGKey(0), carry, batch[0][0])
        params = tree_unflatten(tree_structure(params), weights(case, order))
        carry, _ = first.apply(params, carry, batch[0][0])  # of which their training functions take the shapes
        for rule in rules:
            if rule == "bptt":
                model = utils.bp_snn(**options)
                states = [{"u": one["u"]} for one in carry]
                its = model.init(jax.random.PRNGKey(0), states, batch[0][0])
                its = tree_unflatten(tree_structure(its), weights(case, order))
                train = jax.jit(partial(utils.bp_train_func, optimizer, model))
                loss, gradient, *_ = train(its, states, batch, optimizer.init(its))
            else:
                last, hidden = last_and_hidden[rule]
                model = network(mod1=last, mod2=hidden, **options)
                train = jax.jit(partial(utils.offline_train_func, optimizer, model))
                loss, gradient, *_ = train(params, carry, batch, optimizer.init(params))
            case |= {f"{rule}/loss": np.asarray(loss), **named(gradient, order, rule)}
            if online and rule != "bptt":
                train = jax.jit(partial(utils.online_train_func, optimizer, model))
                _, _, trained, _ = train(params, carry, batch, optimizer.init(params))
                case |= named(trained, order, f"{rule}/trained")
            if rule in each_step:
                step = jax.jit(jax.jacrev(partial(utils.loss_fn, model), has_aux=True))
                now = tree_map(lambda x: jnp.zeros((batch[0].shape[1], *x.shape[1:]), x.dtype), carry)
                found = []
                for one in zip(*batch, strict=True):
                    gradient, (now, _, _) = step(params, now, one)
                    found.append(gradient)
                case |= named(tree_map(lambda *g: jnp.stack(g), *found), order, f"{rule}/steps")
        return case

    three, two, rules = (8, 7, 6, 5), (1, 7, 5), tuple(last_and_hidden)
    cases = {
        "slow": run(three, 12, 3, 0, (3, 3, 3), 25, rules, online=True, each_step=("otpe",)),
        "fast": run(three, 9, 2, 1, (1, 1, 1), 10, rules),
        "unequal": run(three, 9, 2, 4, (3, 2, 0), 25, ("ottt", "otpe", "approximate_otpe")),
        "one_input": run(two, 9, 2, 2, (3, 3), 25, ("ottt", "approximate_otpe")),
    }
    write("authors", cases)


# ---------------------------------------------------------------------------------------------------------------- slax 0.0.1


def slax():
    import slax as sl

    tau = 2.0
    leak = nn.sigmoid(tau)

    def layer(n_out):
        return [nn.Dense(n_out, param_dtype=jnp.float64), sl.LIF(init_tau=tau, dtype=jnp.float64)]

    def network(rule, sizes):
        *below, top = sizes
        whole = sl.connect([module for n_out in sizes for module in layer(n_out)])
        if rule in ("bptt", "rtrl"):
            return whole if rule == "bptt" else sl.connect([sl.RTRL([whole])])
        if rule == "otpe":
            return sl.connect([*(sl.DenseOTPE(layer(n_out), leak) for n_out in below), sl.DenseOSTL(layer(top))])
        wrap = sl.DenseOSTL if rule == "ostl" else partial(sl.OTTT, leak=leak)
        return sl.connect([wrap(layer(n_out)) for n_out in sizes])

    def run(sizes, steps, batch, seed, rules):
        case = draw(sizes, steps, batch, seed, [tau] * (len(sizes) - 1), 25)
        inputs, order = (jnp.asarray(case["inputs"]), one_hot(case)), range(len(sizes) - 1)
        optimizer = optax.sgd(RATE)
        for rule in rules:
            model = network(rule, sizes[1:])
            variables = model.init(jax.random.PRNGKey(0), inputs[0][0])
            params = tree_unflatten(tree_structure(variables["params"]), weights(case, order))
            variables = {"params": params, "carry": tree_map(jnp.zeros_like, variables["carry"])}
            trainer = sl.train_offline if rule == "bptt" else sl.train_online_deferred
            train = trainer(model, optax.softmax_cross_entropy, optimizer)
            *_, loss, gradient = train(variables, inputs, optimizer.init(params), True)
            case |= {f"{rule}/loss": np.mean(loss), **named(gradient, order, rule)}
        return case

    cases = {
        "three_layers": run((8, 7, 6, 5), 12, 3, 3, ("bptt", "rtrl", "ostl", "ottt", "otpe")),
        "one_input": run((1, 7, 5), 9, 2, 2, ("ottt",)),
    }
    write("slax", cases)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    {"authors": authors, "slax": slax}[sys.argv[1]](*sys.argv[2:])
