"""Statistics and figures of gradients and activity: functions take arrays, and return numbers or axes.

matplotlib is imported only when something is drawn, not for numbers alone.
"""

from importlib.metadata import distributions as _distributions
from types import ModuleType as _ModuleType

from slax_viz.activity import FiringRates as FiringRates
from slax_viz.activity import firing_rates as firing_rates
from slax_viz.activity import plot_raster as plot_raster
from slax_viz.agreement import plot_agreement as plot_agreement
from slax_viz.bars import plot_cosine_similarity as plot_cosine_similarity
from slax_viz.figure_style import PNG_METADATA as PNG_METADATA
from slax_viz.figure_style import SVG_METADATA as SVG_METADATA
from slax_viz.figure_style import style as style
from slax_viz.landscape import barrier as barrier
from slax_viz.landscape import grid_around as grid_around
from slax_viz.landscape import interpolation as interpolation
from slax_viz.landscape import losses_at as losses_at
from slax_viz.landscape import surface as surface
from slax_viz.landscape_plots import plot_landscape as plot_landscape
from slax_viz.membrane import plot_membrane as plot_membrane
from slax_viz.membrane import plot_membranes as plot_membranes
from slax_viz.noise import GradientNoise as GradientNoise
from slax_viz.noise import gradient_noise as gradient_noise
from slax_viz.planes import Plane as Plane
from slax_viz.planes import pca_plane as pca_plane
from slax_viz.planes import random_plane as random_plane
from slax_viz.statistics import Interval as Interval
from slax_viz.statistics import mean_interval as mean_interval

__version__ = next((found.version for found in _distributions(name="slax-viz")), "not installed")
__all__ = [name for name, value in globals().items() if name[0] != "_" and not isinstance(value, _ModuleType)]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
