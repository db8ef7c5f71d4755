"""Reading of YAML files, in which a key that is given twice is an error: PyYAML alone would take the last one silently."""

from pathlib import Path
from typing import Any

import yaml


def read_yaml(path: str | Path) -> Any:
    """The content of a YAML file.

    Raises:
        yaml.YAMLError: the file is not YAML, or a mapping in it has a key twice. The message has the file and the lines.
    """
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise yaml.YAMLError(f"{path} is not valid YAML: {error}") from None


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: dict[tuple[str, str], yaml.Node] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                first = seen.setdefault((key.tag, key.value), key)
                if first is not key:
                    lines = " and ".join(str(mark.line + 1) for mark in (first.start_mark, key.start_mark))
                    raise yaml.YAMLError(f"the key {key.value!r} is given twice, in lines {lines}: keep one of them.")
        return node
