"""Errors of scripts for names that do not exist."""

from collections.abc import Collection


def check_known(kind: str, name: str | None, known: Collection[str], where: str = "") -> None:
    """Stop with a list of the known names of a kind, such as "task", if `name` is not one of them."""
    if name not in known:
        raise SystemExit(f"There is no {kind} {name!r}{where}, expected one of: {', '.join(known)}.")
