"""What cells under a rule have in common, whatever the rule."""

from typing import ClassVar

from flax import nnx


class OnlineCell(nnx.RNNCellBase):
    """A cell whose carry holds the traces of a rule, so that its gradient is the same for every window.

    `default_window` is the number of steps to work on at once where none is asked for.
    """

    default_window: ClassVar[int] = 1
