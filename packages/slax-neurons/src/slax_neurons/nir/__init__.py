"""Conversion of models to and from NIR, the Neuromorphic Intermediate Representation; needs `slax-neurons[nir]`.

    graph = to_nir(model, dt=1e-3, input_shape=(64,))
    model = from_nir(nir.read("model.nir"), dt=1e-3)

References:
    Pedersen et al.: Neuromorphic intermediate representation: a unified instruction set for interoperable brain-inspired
    computing, 2024, doi 10.1038/s41467-024-52259-9.
"""

from slax_neurons.nir.layers import AvgPool2d, Flatten, Scale, SumPool2d, Zeros
from slax_neurons.nir.read import from_nir
from slax_neurons.nir.write import to_nir

__all__ = ["AvgPool2d", "Flatten", "Scale", "SumPool2d", "Zeros", "from_nir", "to_nir"]
