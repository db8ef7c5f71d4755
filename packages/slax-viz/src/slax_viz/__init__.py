"""Numbers and pictures about gradients and activity: arrays in, numbers first, then axes."""

from slax_viz.bars import plot_cosine_similarity as plot_cosine_similarity
from slax_viz.membrane import plot_membrane as plot_membrane
from slax_viz.similarity import Cosine as Cosine
from slax_viz.similarity import cosine_similarity as cosine_similarity
from slax_viz.similarity import global_cosine_similarity as global_cosine_similarity
from slax_viz.statistics import Interval as Interval
from slax_viz.statistics import mean_interval as mean_interval
from slax_viz.style import PNG_METADATA as PNG_METADATA
from slax_viz.style import SVG_METADATA as SVG_METADATA
from slax_viz.style import style as style

__version__ = "0.1.0"
