"""Draw accuracy against memory as for `streaming`, with traces that are cut at the beginning of each sample or run on."""

from experiments.drawing import figures
from experiments.streaming import plot

prepare = plot.prepare
FIGURES = {"borders": figures.Plot(plot.COLUMNS, plot.rows, plot.draw)}
