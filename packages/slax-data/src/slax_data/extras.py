"""Libraries that read some of the data sets, and that only an extra of this package installs."""

import importlib
from typing import Any


def import_extra(module: str, *, extra: str) -> Any:
    """Import a module.

    Raises:
        ImportError: its library, or one that this needs, is missing; the error names it, and the extra that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        library, missing = (name.partition(".")[0] for name in (module, error.name or module))
        needed = "" if missing == library else f", and {library} needs it"
        raise ImportError(
            f"{missing} is not installed{needed}. Install it, or slax-data with its extra {extra!r}."
        ) from error
