"""Libraries that read some of the data sets, and that only an extra of this package installs."""

import importlib
from typing import Any


def import_extra(module: str, *, extra: str) -> Any:
    """Import a module.

    Raises:
        ImportError: its library is missing; the error names the extra that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        raise ImportError(f"{library} is not installed. Install it, or slax-data with its extra {extra!r}.") from error
