"""Reading of YAML files, in which a key that is given twice is an error: PyYAML alone would take the last one silently.

So is a number that is not finite, which no setting may be.
"""

import math
from pathlib import Path
from typing import Any

import yaml


def read_yaml(path: str | Path) -> Any:
    """The content of a YAML file.

    Raises:
        yaml.YAMLError: the file is not YAML, a mapping in it has a key twice, or a number is not finite. The message has the
            file and, for keys, the lines.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
        _check_finite(content)
        return content
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise yaml.YAMLError(f"{path} is not valid YAML: {error}") from None


def _check_finite(value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise yaml.YAMLError(f"it has the number {value}, expected finite numbers.")
    if isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            _check_finite(part)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # in C, where PyYAML has it: it takes a tenth of the time
    def __init__(self, stream: Any):
        super().__init__(stream)
        self._flat: dict[int, yaml.MappingNode] = {}

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put the keys of `<<` into a mapping, whose own keys are looked at before: they may be given there, too."""
        if id(node) not in self._flat:
            self._flat[id(node)] = node
            seen: dict[tuple[str, str], yaml.Node] = {}
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    first = seen.setdefault((key.tag, key.value), key)
                    if first is not key:
                        lines = " and ".join(str(mark.line + 1) for mark in (first.start_mark, key.start_mark))
                        raise yaml.YAMLError(
                            f"the key {key.value!r} is given twice, in lines {lines}: keep one of them."
                        )
        super().flatten_mapping(node)
