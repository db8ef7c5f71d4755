"""Errors for options that a neuron does not have: the option given, the options accepted, and the name of the option here."""

import functools
import inspect
import reprlib
from collections.abc import Callable
from typing import Any

TIME_CONSTANT = "Give a time constant as a decay per step: {neuron}(decay=time_constant(tau, dt=...))."
THRESHOLD = "The threshold is called `threshold` here."
HINTS = {
    "tau": TIME_CONSTANT,
    "tau_mem": TIME_CONSTANT,
    "beta": "The membrane's decay per step, elsewhere beta, is called `decay` here: {neuron}(decay=...).",
    "alpha": "A membrane's decay per step is called `decay` here, the decay of a synaptic current `synapse_decay`, as in "
    "CuBaLIF(synapse_decay=..., decay=...); the sharpness of a surrogate is an option of the surrogate: spike_fn=arctan(2.0).",
    "v_th": THRESHOLD,
    "v_threshold": THRESHOLD,
}


def explain_options(init: Callable[..., None]) -> Callable[..., None]:
    """Wrap a constructor so that it explains all unknown options, where Python's own error would name only one argument."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def explaining(self: Any, *args: Any, **options: Any) -> None:
        try:
            signature.bind(self, *args, **options)
        except TypeError:
            explanation = _explanation(type(self), args, options)
            if explanation:
                raise TypeError(explanation) from None
        init(self, *args, **options)  # any error that is not explained is raised by Python

    return explaining


def _explanation(neuron: type, args: tuple, options: dict[str, Any]) -> str:
    """Name the options that the class does not accept and the arguments that it takes by name only, if there are any."""
    taken = _taken(neuron)
    by_position = [option for option, kind in taken.items() if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    unknown = [option for option in options if option not in taken]
    got = [reprlib.repr(value) for value in args[len(by_position) :]]
    got += [f"{option}={reprlib.repr(options[option])}" for option in unknown]
    if not got:
        return ""
    expected = ", ".join(option if option in by_position else f"{option}=..." for option in taken)
    name, with_decay = neuron.__name__, neuron.__name__ if "decay" in taken else "LIF"
    hints = dict.fromkeys(HINTS[option].format(neuron=with_decay) for option in unknown if option in HINTS)
    return " ".join([f"{name} got {', '.join(got)}, expected {name}({expected}).", *hints])


def _taken(neuron: type) -> dict[str, Any]:
    """The options of a class with their kinds, including options that it passes on to its bases."""
    taken: dict[str, Any] = {}
    for kind in neuron.__mro__:
        if "__init__" not in vars(kind):
            continue
        _, *parameters = inspect.signature(kind.__init__).parameters.values()
        taken |= {
            parameter.name: parameter.kind
            for parameter in parameters
            if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        }
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
            break
    return taken
