"""Delays of inputs, which can be learned, and of outputs that an edge reads late; their carries hold the earlier steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, DTypeLike, Float

from slax_neurons.neurons.steps import rematerialize
from slax_neurons.parameter import ClosedInterval, Constant, Parameter, ParameterValue, Trainable, check_rngs


class DelayBuffer(NamedTuple):
    """The carry of a module with delayed outgoing edges, and its last outputs, the oldest first.

    Example:
        >>> from flax import nnx
        >>> from slax_neurons import LIF, Edge, connect
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF()], [Edge(1, 0, delay=5)], rngs=rngs)
        >>> empty, buffer = model.initialize_carry((2, 8))
        >>> type(buffer).__name__, buffer.carry.shape, buffer.outputs.shape
        ('DelayBuffer', (2, 16), (5, 2, 16))
    """

    carry: Any
    outputs: Float[Array, "D *B N"]


class Delay(nnx.RNNCellBase):
    """A delay for each input, in steps, which can be a fraction and is trained by default.

        y_i(t) = sum_{k=0..D} kappa(k - d_i) x_i(t - k),    0 <= d_i <= D    # x is 0 before the first step

        kappa(k - d) = max(0, 1 - |k - d|)                     # width=None: linear interpolation between steps
        kappa(k - d) = exp(-((k - d) / width)^2 / 2) / norm    # width=w: norm makes the sum over k = 0..D one

    With linear interpolation, a delay of a whole number of steps is exact, and y_i depends on two inputs only, so its
    derivative, x_i(t - n - 1) - x_i(t - n) for n <= d_i < n + 1, sees no input that is further away. At a whole number the
    derivative is the one toward longer delays, except at D. The Gaussian (DCLS) sees all of them, costs D + 1 products per
    input and step, and is never exact; it is usually made narrower in training, `delay.width[...] *= 0.95`, and replaced
    by `rounded()` in the end.

    A trained delay is clipped to [0, D] when it is used. Its gradient is the same as if it were not clipped, so that a delay
    that an optimizer moved beyond a bound comes back when its gradient changes sign. To keep the stored number within the
    bounds too, write `delay.delays.unconstrained[...] = delay.delays.value` after a step of the optimizer.

    With `groups=G` there are G delayed copies of all inputs, y = [copy 0, copy 1, ...], each with its own delays. A synapse in
    blocks after it, a `BlockDiagonal` or a Conv with `feature_group_count=G`, then has one delay per input and group of
    outputs.

    The carry is the last D inputs [D, B, ..., I], the oldest first. Inputs may have axes in space, [B, H, W, I]: there is one
    delay per channel. For a fixed delay of all outputs of a layer over an additional connection, use `Edge(..., delay=steps)`.

    Args:
        in_features: number of inputs I, the size of their last axis.
        max_delay: longest delay D in steps, >= 1.
        delays: initial delays in steps, a number, an array [I] or an array [G, I] within [0, D]: fixed, or trained as
            `Trainable` of one of these. By default they are trained, from `rngs` or from 0. `delays.value` is [G, I].
        groups: number of delayed copies G of the inputs.
        width: None for linear interpolation, or the standard deviation of the Gaussian in steps, > 0. It is not trained.
        param_dtype: dtype of the delays, of the carry and of the inputs.
        rngs: random streams; delays that are uniform in [0, D] are drawn from the stream `params`.

    Raises:
        ValueError: a longest delay below 1, a delay outside [0, D], delays of another shape, a width that is not positive, or
            both `delays` and `rngs`; when it is called, a carry of another shape or dtype.

    References:
        Hammouamri, Khalfaoui-Hassani, Masquelier: Learning delays in spiking neural networks using dilated convolutions with
        learnable spacings, 2024, arXiv 2306.17670. There a delay belongs to each synapse, the Gaussian's standard deviation is
        |sigma| + 0.27, and 1e-7 is added to its norm; kernels are Gaussian in training, and delays are rounded in tests.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_neurons import Delay, unroll
        >>> delay = Delay(3, max_delay=4, delays=[0.0, 2.0, 2.25])
        >>> pulses = jnp.zeros((5, 1, 3)).at[0].set(1.0)  # one in the first step
        >>> carry, outputs = unroll(delay, delay.initialize_carry((1, 3)), pulses)
        >>> outputs[:, 0].T.tolist()
        [[1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.75, 0.25, 0.0]]
        >>> carry.shape
        (4, 1, 3)
    """

    num_feature_axes = 1

    def __init__(
        self,
        in_features: int,
        max_delay: int,
        *,
        delays: ParameterValue | Trainable | None = None,
        groups: int = 1,
        width: float | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ):
        if not isinstance(max_delay, int | np.integer) or max_delay < 1:
            raise ValueError(f"Delay got max_delay={max_delay}, expected an integer of at least 1.")
        if width is not None and not 0 < width < np.inf:
            raise ValueError(f"Delay got width={width}, expected a number of steps > 0, or None for interpolation.")
        check_rngs("Delay", rngs)
        if delays is not None and rngs is not None:
            raise ValueError("Delay got delays and rngs, expected one of them. Give rngs if delays are to be drawn.")
        self.in_features = in_features
        self.max_delay = max_delay
        self.groups = groups
        self.param_dtype = jnp.dtype(param_dtype)
        self.width = None if width is None else Constant(jnp.asarray(width, self.param_dtype))
        initial = self._initial(Trainable(0.0) if delays is None else delays)
        self.delays = Parameter("Delay delays", initial, ClosedInterval(0.0, float(max_delay)), self.param_dtype)
        if rngs is not None:
            drawn = jax.random.uniform(rngs.params(), (self.groups, self.in_features), self.param_dtype)
            self.delays.unconstrained[...] = self.max_delay * drawn

    def _initial(self, delays: ParameterValue | Trainable) -> np.ndarray | Trainable:
        """The initial delays, one for each group and input."""
        given = np.asarray(delays.value if isinstance(delays, Trainable) else delays, np.float64)
        shape = (self.groups, self.in_features)
        each = np.broadcast_to(given, shape)
        return Trainable(each) if isinstance(delays, Trainable) else each

    @property
    def out_features(self) -> int:
        """Number of outputs: G I."""
        return self.groups * self.in_features

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None
    ) -> Float[Array, "D *B I"]:
        """No inputs yet: zeros [D, *input_shape]. `rngs` and `carry_init` are Flax's arguments and unused."""
        return jnp.zeros((self.max_delay, *input_shape), self.param_dtype)

    def __call__(
        self, carry: Float[Array, "D *B I"], inputs: Float[Array, "*B I"]
    ) -> tuple[Float[Array, "D *B I"], Float[Array, "*B N"]]:
        series = self._series(carry, inputs[None])
        return series[1:], self._delayed(self.delays.value, series)[0]

    def unroll(
        self, carry: Float[Array, "D *B I"], inputs: Float[Array, "K *B I"]
    ) -> tuple[Float[Array, "D *B I"], Float[Array, "K *B N"]]:
        """Delay all steps together; for the reverse pass, the inputs are kept, with those before them."""
        series = self._series(carry, inputs)
        outputs = rematerialize(lambda delays, series: self._delayed(delays, series))(self.delays.value, series)
        return series[inputs.shape[0] :], outputs

    def tangent(self, carry: Float[Array, "D *B I"], inputs: Float[Array, "K *B I"]) -> Float[Array, "K *B N"]:
        """The derivative dy/dd of each output of `unroll` by its own delay, which is an input of no other output."""
        series = self._series(carry, inputs)
        delays = self.delays.value
        if self.width is None:
            later, earlier = self._neighbors(delays, series)
            return self._flat(earlier - later, inputs)
        return self._flat(self._sum(jax.jvp(self._taps, (delays,), (jnp.ones_like(delays),))[1], series), inputs)

    def taps(self) -> Float[Array, "L G I"]:
        """kappa(k - d) for k = 0..D, [D + 1, G, I]. The first is the weight of an input in the output of the same step."""
        return self._taps(self.delays.value)

    def rounded(self) -> "Delay":
        """Return a copy with delays of whole steps and linear interpolation, which delays each input exactly.

        Example:
            >>> from slax_neurons import Delay
            >>> Delay(3, max_delay=4, delays=[0.0, 2.25, 3.75], width=0.5).rounded().delays.value.tolist()
            [[0.0, 2.0, 4.0]]
        """
        delays = np.round(np.asarray(self.delays.value, np.float64))
        given = Trainable(delays) if hasattr(self.delays, "unconstrained") else delays
        return Delay(self.in_features, self.max_delay, delays=given, groups=self.groups, param_dtype=self.param_dtype)

    def _series(self, carry: Array, inputs: Array) -> Array:
        """The inputs [K, B, ..., I] with the D inputs before them."""
        expected = (self.max_delay, *inputs.shape[1:])
        if carry.shape != expected or carry.dtype != inputs.dtype:
            cure = f"Make it: initialize_carry({inputs.shape[1:]}), of a Delay with param_dtype={inputs.dtype.name}."
            wrong = f"{carry.dtype}{list(carry.shape)}, expected {inputs.dtype}{list(expected)}"
            raise ValueError(f"Delay got a carry of {wrong}. {cure}")
        return jnp.concatenate([carry, inputs])

    def _delayed(self, delays: Array, series: Array) -> Array:
        """The outputs for a series [D + K, B, ..., I]."""
        if self.width is not None:
            outputs = self._sum(self._taps(delays), series)
        else:
            share = (delays - self._whole(delays))[None, None]
            later, earlier = self._neighbors(delays, series)
            outputs = (1 - share) * later + share * earlier
        return self._flat(outputs, series)

    def _whole(self, delays: Array) -> Array:
        """n of the interval n <= d <= n + 1 that a delay is in."""
        return jnp.clip(jnp.floor(delays), 0, self.max_delay - 1)

    def _neighbors(self, delays: Array, series: Array) -> tuple[Array, Array]:
        """The inputs n and n + 1 steps ago, [K, rows, G, I] each, for a series [D + K, B, ..., I].

        Each pass halves the remaining delay: it goes back by a number of steps where the delay is at least as long. A reader
        of the derivative's structure, as SnAp, sees that each output depends on its own input alone.
        """
        x = series.reshape(series.shape[0], -1, 1, self.in_features)
        left = self._whole(delays).astype(jnp.int32)[None, None]
        longest = self.max_delay - 1
        while longest:
            steps = -(-longest // 2)
            x = jnp.where(left >= steps, x[:-steps], x[steps:])
            left = jnp.where(left >= steps, left - steps, left)
            longest -= steps
        x = jnp.broadcast_to(x, (*x.shape[:2], self.groups, self.in_features))
        return x[1:], x[:-1]

    def _taps(self, delays: Array) -> Array:
        steps = jnp.arange(self.max_delay + 1, dtype=delays.dtype)[:, None, None]
        if self.width is not None:
            return jax.nn.softmax(-jnp.square((steps - delays[None]) / self.width[...]) / 2, axis=0)
        whole = self._whole(delays)[None]
        share = delays[None] - whole
        return jnp.where(steps == whole, 1 - share, 0) + jnp.where(steps == whole + 1, share, 0)

    def _sum(self, taps: Array, series: Array) -> Array:
        """sum_k taps_k x(t - k), [K, rows, G, I], for a series [D + K, B, ..., I]."""
        x = series.reshape(series.shape[0], -1, 1, self.in_features)
        steps = series.shape[0] - self.max_delay

        def add(total: Array, at: tuple[Array, Array]) -> tuple[Array, None]:
            tap, start = at
            return total + tap[None, None] * jax.lax.dynamic_slice_in_dim(x, start, steps), None

        nothing = jnp.zeros((steps, x.shape[1], self.groups, self.in_features), series.dtype)
        starts = jnp.arange(self.max_delay, -1, -1)
        return jax.lax.scan(rematerialize(add), nothing, (taps, starts))[0]

    def _flat(self, outputs: Array, like: Array) -> Array:
        """[K, rows, G, I] as [K, B, ..., G I], with the axes between as they are in `like`."""
        return outputs.reshape(outputs.shape[0], *like.shape[1:-1], self.out_features)
