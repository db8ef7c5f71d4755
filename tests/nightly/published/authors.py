"""The learning rules of data/authors as plain loops over time, of what their README says: each returns what was recorded.

Kernels are the effective ones. Gradients have the names of the files,
without `gradient_`; the functions also give the outputs and membranes that they find, under their names.
"""

from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data" / "authors"
NAMES = sorted(path.stem for path in DATA.glob("*.npz"))


def load(name):
    with np.load(DATA / f"{name}.npz") as file:
        return dict(file)


def recorded_gradients(data):
    return {key.removeprefix("gradient_"): value for key, value in data.items() if key.startswith("gradient_")}


PSI = {
    "fast_sigmoid": lambda x: 1 / (100 * np.abs(x) + 1) ** 2,
    "triangle": lambda x: 0.3 * np.maximum(1 - np.abs(x), 0),
}


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def one_hot(data, n):
    return np.eye(n)[data["labels"]]


def learning(data, t):
    """S-TLLR learns in the last steps only."""
    return len(data["inputs"]) - t <= data.get("learning_steps", np.inf)


class Stack(dict):
    """Lists by key, which are arrays [T, ...] in the end; and gradients, which add up."""

    def keep(self, **values):
        for key, value in values.items():
            self.setdefault(key, []).append(np.array(value))

    def add(self, **gradients):
        for key, value in gradients.items():
            self[key] = self.get(key, 0) + value

    def arrays(self):
        return {key: np.stack(value) if isinstance(value, list) else value for key, value in self.items()}


# ---------------------------------------------------------------------------------------------------------- S-TLLR and TESS


class Traced:
    """One layer of S-TLLR, dense: the two traces of its input, xhat, and of its neurons, Psihat, one step late."""

    def __init__(self, data, index):
        self.data, self.index = data, index
        self.kernel, self.bias = data[f"kernel_{index}"], data[f"bias_{index}"]
        self.recurrent = data.get(f"recurrent_{index}")
        self.u = self.xhat = self.psihat = self.shat = self.s = 0

    def forward(self, x):
        d = self.data
        self.previous = np.zeros((len(x), self.kernel.shape[1])) + self.s
        current = x @ self.kernel + self.bias
        if self.recurrent is not None:
            current = current + self.previous @ self.recurrent
        v = d["decay"][self.index] * self.u + current
        self.s = (v > d["threshold"]).astype(float)
        soft = str(d.get("reset", "soft")) == "soft"
        self.u = v - d.get("subtracted", d["threshold"]) * self.s if soft else v * (1 - self.s)
        self.x, self.v, self.psi = x, v, PSI[str(d["psi"])](v - d["threshold"])
        self.xhat = d["lambda_pre"] * self.xhat + x
        self.shat = d["lambda_pre"] * self.shat + self.previous
        self.before, self.psihat = self.psihat, d["lambda_post"] * self.psihat + self.psi
        return self.s

    def gradients(self, delta):
        causal = self.data["alpha_pre"] * delta * self.psi
        non_causal = self.data["alpha_post"] * delta * self.before
        found = {
            f"kernel_{self.index}": self.xhat.T @ causal + self.x.T @ non_causal,
            f"bias_{self.index}": (delta * self.psi).sum(0),
        }
        if self.recurrent is not None:
            found[f"recurrent_{self.index}"] = self.shat.T @ causal + self.previous.T @ non_causal
        return found

    def down(self, delta):
        return (delta * self.psi) @ self.kernel.T


def s_tllr(data):
    """Spiking layers and a leaky read-out u = decay u + I, whose input has a trace with a decay of its own."""
    n_spiking = sum(key.startswith("membrane") for key in data)
    layers, found = [Traced(data, index) for index in range(n_spiking)], Stack()
    kernel, bias = data[f"kernel_{n_spiking}"], data[f"bias_{n_spiking}"]
    logits = trace = 0
    for t, x in enumerate(data["inputs"].astype(float)):
        for layer in layers:
            x = layer.forward(x)
            found.keep(**{f"membrane_{layer.index}": layer.v, f"outputs_{layer.index}": layer.s})
        trace = data["read_out_trace_decay"] * trace + x
        logits = data["decay"][n_spiking] * logits + x @ kernel + bias
        found.keep(outputs=logits)
        if learning(data, t):
            error = softmax(logits) - one_hot(data, len(bias))
            delta = error / len(x)
            found.add(**{f"kernel_{n_spiking}": trace.T @ delta, f"bias_{n_spiking}": delta.sum(0)})
            delta = delta @ kernel.T
            for layer in reversed(layers):
                if f"feedback_{layer.index}" in data:  # of a sum over the batch, not of a mean
                    sent = error if str(data["feedback_mode"]) == "DFA" else one_hot(data, len(bias))
                    delta = sent @ data[f"feedback_{layer.index}"]
                found.keep(**{f"signal_{layer.index}": delta})
                found.add(**layer.gradients(delta))
                delta = layer.down(delta)
        else:
            found.keep(**{f"signal_{layer.index}": np.zeros_like(layer.s) for layer in layers})
    return found.arrays()


def tess(data):
    """Each layer has its own loss, the cross entropy of the logits basis s / n."""
    layers, found = [Traced(data, index) for index in range(2)], Stack()
    for x in data["inputs"].astype(float):
        for layer in layers:
            x, basis = layer.forward(x), data[f"basis_{layer.index}"]
            delta = (softmax(x @ basis.T) - one_hot(data, len(basis))) @ basis / len(x)
            found.add(**layer.gradients(delta))
            name = layer.index
            found.keep(**{f"membrane_{name}": layer.v, f"outputs_{name}": layer.s, f"signal_{name}": delta})
    return found.arrays()


def patches(x):
    """[B, C, H, W] to [B, H, W, 9 C]: what a 3 x 3 kernel with padding sees."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    h, w = x.shape[2:]
    return np.stack([padded[:, :, i : i + h, j : j + w] for i in range(3) for j in range(3)], -1).transpose(
        0, 2, 3, 1, 4
    )


def convolution(data):
    """S-TLLR or TESS of one convolution: with a linear read-out of its spikes, or with a local loss of pooled spikes."""
    kernel, found = data["kernel_0"], Stack()
    spikes_for_psi = str(data["psi"]) == "spikes"
    triangle, u, xhat, psihat = PSI["triangle"], 0, 0, 0
    flat = kernel.reshape(len(kernel), kernel.shape[1], 9)
    for t, x in enumerate(data["inputs"].astype(float)):
        bias = data.get("bias_0", np.zeros(len(kernel)))
        v = data["decay"][0] * u + np.einsum("bhwck,ock->bohw", patches(x), flat) + bias[:, None, None]
        s = (v > data["threshold"]).astype(float)
        u = v - data.get("subtracted", data["threshold"]) * s
        surrogate = triangle(v - data["threshold"])
        psi = s if spikes_for_psi else surrogate
        xhat = data["lambda_pre"] * xhat + x
        before, psihat = psihat + np.zeros_like(psi), data["lambda_post"] * psihat + psi
        found.keep(membrane_0=v, outputs_0=s)
        if "basis_0" in data:
            pooled = s.mean((2, 3))  # of halves, then of everything
            error = softmax(pooled @ data["basis_0"].T) - one_hot(data, 3)
            delta = np.broadcast_to((error @ data["basis_0"] / len(x))[..., None, None] / 16, s.shape)
        else:
            logits = s.reshape(len(s), -1) @ data["kernel_1"] + data["bias_1"]
            found.keep(outputs=logits)
            error = (softmax(logits) - one_hot(data, 3)) / len(x)
            delta = (error @ data["kernel_1"].T).reshape(s.shape)
        if not learning(data, t):
            continue
        causal, non_causal = data["alpha_pre"] * delta * psi, data["alpha_post"] * delta * before
        gradient = np.einsum("bohw,bhwck->ock", causal, patches(xhat)) + np.einsum(
            "bohw,bhwck->ock", non_causal, patches(x)
        )
        found.add(kernel_0=gradient.reshape(kernel.shape))
        if "basis_0" not in data:
            found.add(bias_0=(delta * surrogate).sum((0, 2, 3)))
            found.add(kernel_1=s.reshape(len(s), -1).T @ error, bias_1=error.sum(0))
    return found.arrays()


# -------------------------------------------------------------------------------------------------------------------- ETLP


def etlp(data):
    """ETLP at the recorded events, one gradient for each; or its authors' e-prop, summed over all steps."""
    threshold, theta, rho = data["threshold"], data["adaptation"], data["adaptation_decay"]
    recurrent, kernel_1, found = data.get("recurrent"), data["kernel_1"], Stack()
    e_prop = len(data["events"]) == 1
    b, n = len(data["labels"]), len(kernel_1)
    v = s = a = rest = psi_free = np.zeros((b, n))
    vo = so = trace = 0
    sources = {"kernel_0": data["kernel_0"]} | ({} if recurrent is None else {"recurrent": recurrent})
    eps_v = {key: np.zeros((b, *kernel.shape)) for key, kernel in sources.items()}
    eps_a, filtered = dict(eps_v), dict(eps_v)

    def triangle(x):
        return PSI["triangle"](x / threshold) / threshold

    for t, x in enumerate(data["inputs"].astype(float)):
        for key in eps_a:
            eps_a[key] = psi_free[:, None] * eps_v[key] + (rho - theta * psi_free[:, None]) * eps_a[key]
        a = rho * a + s
        level = threshold + theta * a
        currents = {"kernel_0": x, "recurrent": s}
        v = data["decay"] * v + sum(currents[key] @ kernel for key, kernel in sources.items()) - threshold * s
        refractory = rest > 0
        psi_free = triangle(v - level)
        psi = np.where(refractory, 0, psi_free)
        s = np.where(refractory, 0, v > level)
        rest = np.clip(rest + data["refractory_steps"] * s - 1, 0, data["refractory_steps"])
        so, vo = 1.0 * (vo > threshold), data["output_decay"] * vo + s @ kernel_1 - threshold * so
        so = np.zeros_like(vo) + so
        trace = data["output_decay"] * trace + s
        found.keep(membrane_0=v, outputs_0=s, membrane_1=vo, outputs_1=so)

        target = one_hot(data, kernel_1.shape[1])
        sent = so - target if e_prop else -target
        signal = sent @ data["feedback"].T + data["voltage_reg"] * v * (np.abs(v) > threshold)
        gradients = {"kernel_1": np.einsum("bj,bi->ij", (so - target) * triangle(vo - threshold), trace)}
        for key, kernel in sources.items():
            eps_v[key] = data["decay"] * eps_v[key] + currents[key][:, :, None]
            e = psi[:, None] * (eps_v[key] - theta * eps_a[key])
            filtered[key] = data["output_decay"] * filtered[key] + e if e_prop else e
            gradients[key] = np.einsum("bj,bij->ij", signal, filtered[key]) + data["weight_l1"] * np.sign(kernel)
        if e_prop:
            found.add(**gradients)
        elif t in data["events"]:
            found.keep(**gradients)
    found = found.arrays()
    return {key: value[None] if e_prop and key in {"kernel_1", *sources} else value for key, value in found.items()}


# -------------------------------------------------------------------------------------------------------------------- HYPR


def slayer(x, scale):
    return scale * 5 / 2 * np.exp(-5 * np.abs(x))


def decay(tau, slope=1.0):
    """exp(-1 / tau), and its derivative times `slope`."""
    return np.exp(-1 / tau), slope * np.exp(-1 / tau) / tau**2


class AdLIF:
    """The states are u and w. `step` gives the new ones and the spikes.

    `derivatives` are those of the new states by the old ones, at given old spikes, and by the current; `by_parameters` are
    those by the neuron's parameters; `read` gives those of the spikes by the new states and by the old ones.
    """

    def __init__(self, data, index):
        (u_min, u_max), (w_min, w_max) = data["option_tau_u_range"], data["option_tau_w_range"]
        self.alpha, self.d_alpha = decay(u_min + (u_max - u_min) * data[f"tau_u_{index}"], u_max - u_min)
        self.beta, self.d_beta = decay(w_min + (w_max - w_min) * data[f"tau_w_{index}"], w_max - w_min)
        self.a, self.b, self.threshold = (data[f"{key}_{index}"] for key in ("a", "b", "thr"))
        self.coefficient = data["option_adapt_coeff"]
        self.strength = (1 - self.beta) * self.coefficient

    def step(self, h, z_before, current):
        u, w = h
        u_new = self.alpha * u * (1 - z_before) + (1 - self.alpha) * (current - w)
        z = 1.0 * (u_new > self.threshold)
        w_new = self.beta * w + self.strength * (self.a * u_new * (1 - z) + self.b * z_before)
        return (u_new, w_new), z

    def derivatives(self, h, z_before, current):
        (u, _), z = self.step(h, z_before, current)
        psi = slayer(u - self.threshold, 0.2)
        du = np.array([self.alpha * (1 - z_before), -(1 - self.alpha) + 0 * u, (1 - self.alpha) + 0 * u])
        dw_du = self.strength * self.a * (1 - z - u * psi)
        dw = dw_du * du + np.array([0 * u, self.beta + 0 * u, 0 * u])
        return np.array([du[:2], dw[:2]]), np.array([du[2], dw[2]])

    def by_parameters(self, h, z_before, current):
        (u, _), z = self.step(h, z_before, current)
        by_alpha = h[0] * (1 - z_before) - (current - h[1])
        dw_du = self.strength * self.a * (1 - z - u * slayer(u - self.threshold, 0.2))
        driven = self.a * u * (1 - z) + self.b * z_before
        return {
            "tau_u": self.d_alpha * np.array([by_alpha, dw_du * by_alpha]),
            "tau_w": self.d_beta * np.array([0 * u, h[1] - self.coefficient * driven]),
            "a": self.strength * np.array([0 * u, u * (1 - z)]),
            "b": self.strength * np.array([0 * u, z_before]),
            "thr": np.zeros((2, *u.shape)),
        }

    def read(self, h, h_before):
        return np.array([slayer(h[0] - self.threshold, 0.2), 0 * h[0]]), 0 * h


class ALIF:
    """The states are u and a."""

    def __init__(self, data, index):
        self.alpha, self.d_alpha = decay(data[f"tau_u_{index}"])
        self.rho, self.d_rho = decay(data[f"tau_a_{index}"])
        self.base, self.beta = data["option_b_j0"], data["option_beta"]

    def step(self, h, z_before, current):
        a = self.rho * h[1] + (1 - self.rho) * z_before
        level = self.base + self.beta * a
        u = self.alpha * h[0] + (1 - self.alpha) * current - level * z_before
        return (u, a), 1.0 * (u > level)

    def derivatives(self, h, z_before, current):
        zeros = np.zeros_like(h[0])
        by_state = [[self.alpha + zeros, -self.beta * self.rho * z_before], [zeros, self.rho + zeros]]
        return np.array(by_state), np.array([1 - self.alpha + zeros, zeros])

    def by_parameters(self, h, z_before, current):
        by_rho = self.d_rho * (h[1] - z_before)
        return {
            "tau_u": self.d_alpha * np.array([h[0] - current, 0 * h[0]]),
            "tau_a": np.array([-self.beta * by_rho * z_before, by_rho]),
        }

    def read(self, h, h_before):
        psi = slayer(h[0] - self.base - self.beta * h[1], 0.2)
        return np.array([psi, -self.beta * psi]), 0 * h


class BRF:
    """The states are u, v and q."""

    def __init__(self, data, index):
        self.dt, self.threshold = data["option_dt"], data["option_thr"]
        self.omega, self.b_offset = np.abs(data[f"omega_{index}"]), np.abs(data[f"b_offset_{index}"])
        self.p_omega = (np.sqrt(1 - (self.dt * self.omega) ** 2) - 1) / self.dt

    def step(self, h, z_before, current):
        u, v, q = h
        b = self.p_omega - self.b_offset - q
        u_new = u + self.dt * (b * u - self.omega * v + current)
        v_new = v + self.dt * (self.omega * u + b * v)
        z = 1.0 * (u_new - self.threshold - q > 0)
        return (u_new, v_new, 0.9 * q + z), z

    def derivatives(self, h, z_before, current):
        u, v, q = h
        (u_new, _, _), _ = self.step(h, z_before, current)
        psi = slayer(u_new - self.threshold - q, 0.4)
        stay, turn, zeros = 1 + self.dt * (self.p_omega - self.b_offset - q), self.dt * self.omega, 0 * u
        du = np.array([stay, -turn + zeros, -self.dt * u, self.dt + zeros])
        dv = np.array([turn + zeros, stay, -self.dt * v, zeros])
        dq = psi * (du - np.array([zeros, zeros, 1 + zeros, zeros])) + np.array([zeros, zeros, 0.9 + zeros, zeros])
        return np.array([du[:3], dv[:3], dq[:3]]), np.array([du[3], dv[3], dq[3]])

    def by_parameters(self, h, z_before, current):
        u, v, q = h
        (u_new, _, _), _ = self.step(h, z_before, current)
        psi = slayer(u_new - self.threshold - q, 0.4)
        dp = -self.dt * self.omega / np.sqrt(1 - (self.dt * self.omega) ** 2)
        by_omega, by_offset = self.dt * (dp * u - v), -self.dt * u
        return {
            "omega": np.array([by_omega, self.dt * (u + dp * v), psi * by_omega]),
            "b_offset": np.array([by_offset, -self.dt * v, psi * by_offset]),
        }

    def read(self, h, h_before):
        psi = slayer(h[0] - self.threshold - h_before[2], 0.4)
        return np.array([psi, 0 * psi, 0 * psi]), np.array([0 * psi, 0 * psi, -psi])


NEURONS = {"AdLIF": AdLIF, "ALIF": ALIF, "BRF": BRF}


def hypr(data, *, published=True):
    """Eligibilities E = A E + D x of weights, and likewise of parameters, with every path through a stored spike cut.

    In the published code, spikes that depend on an old state are read as if they depended on the new one; a recurrent layer
    is linearized at the current with its own spikes of the same step, and these are what its recurrent weights are said to
    have read. If not `published`, spikes depend on the old state and recurrent inputs are one step late in the gradient too.
    """
    recurrent, found = bool(data["recurrent"]), Stack()
    b = len(data["labels"])
    layers = [NEURONS[str(data["neuron"])](data, index) for index in range(2)]
    n_states = 3 if str(data["neuron"]) == "BRF" else 2
    alpha, d_alpha = decay(data["tau_u_2"])
    n = data["kernel_0"].shape[1]
    h = [np.zeros((n_states, b, n)) for _ in layers]
    z = [np.zeros((b, n)) for _ in layers]
    logits = np.zeros((b, len(alpha)))
    read_out, by_tau = [0, 0], 0
    sizes = {"kernel": None, "bias": 1} | ({"recurrent": n} if recurrent else {})
    traces = [
        {key: np.zeros((n_states, b, size or data[f"kernel_{i}"].shape[0], n)) for key, size in sizes.items()}
        for i in range(2)
    ]
    for index, neuron in enumerate(layers):
        names = neuron.by_parameters(h[index], z[index], z[index])
        traces[index] |= {key: np.zeros((n_states, b, 1, n)) for key in names}
    for x in data["inputs"].astype(float):
        local = []
        for index, neuron in enumerate(layers):
            current = x @ data[f"kernel_{index}"] + data[f"bias_{index}"]
            feedback = data.get(f"recurrent_{index}", np.zeros((n, n)))
            old, before = h[index], z[index]
            states, z[index] = neuron.step(old, before, current + before @ feedback)
            h[index] = np.array(states)
            recurrent_input = z[index] if published else before
            by_state, by_current = neuron.derivatives(old, before, current + recurrent_input @ feedback)
            by_new, by_old = neuron.read(h[index], old)
            if published:
                by_new, by_old = by_new + by_old, 0 * by_old
            sources, eligibilities = {"kernel": x, "bias": np.ones((b, 1)), "recurrent": recurrent_input}, {}
            parameters = neuron.by_parameters(old, before, current + recurrent_input @ feedback)
            for key, e in traces[index].items():
                if key in parameters:
                    direct = parameters[key][:, :, None]
                else:
                    direct = by_current[:, :, None] * sources[key][None, :, :, None]
                traces[index][key] = np.einsum("stbn,tbin->sbin", by_state, e) + direct
                read = np.einsum("sbn,sbin->bin", by_new, traces[index][key]) + np.einsum("sbn,sbin->bin", by_old, e)
                eligibilities[key] = read
            found.keep(**{f"membrane_{index}": h[index][0], f"outputs_{index}": z[index]})
            local.append((eligibilities, (by_new * by_current).sum(0)))
            x = z[index]
        current = x @ data["kernel_2"] + data["bias_2"]
        by_tau = alpha * by_tau + d_alpha * (logits - current)
        logits = alpha * logits + (1 - alpha) * current
        read_out = [
            alpha * read_out[0] + (1 - alpha) * x[:, :, None],
            alpha * read_out[1] + (1 - alpha) * np.ones((b, 1)),
        ]
        found.keep(outputs=logits)
        delta = (softmax(logits) - one_hot(data, logits.shape[1])) / b
        found.add(kernel_2=np.einsum("bn,bin->in", delta, read_out[0]), bias_2=(delta * read_out[1]).sum(0))
        found.add(tau_u_2=(delta * by_tau).sum(0))
        delta = (delta * (1 - alpha)) @ data["kernel_2"].T
        for index in (1, 0):
            eligibilities, psi = local[index]
            found.keep(**{f"signal_{index}": delta})
            for key, e in eligibilities.items():
                gradient = np.einsum("bn,bin->in", delta, e)
                found.add(**{f"{key}_{index}": gradient if key in ("kernel", "recurrent") else gradient[0]})
            delta = (delta * psi) @ data[f"kernel_{index}"].T
    return found.arrays()
