"""Keys that are given twice are refused."""

import re

import pytest
import yaml

from experiments.common.yaml_files import read_yaml


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3\n", "'a' is given twice, in lines 1 and 3"),
        ("a: [\n", "is not valid YAML"),
        ("a: {b: {c: -.inf}}\n", "it has the number -inf"),
    ],
)
def test_key_given_twice_is_refused_with_file_and_lines(tmp_path, text, told):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(yaml.YAMLError, match=rf"^{re.escape(str(path))} (.|\n)*{told}"):
        read_yaml(path)


def test_merged_mapping_may_be_overridden(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("base: &base {x: 1, y: 2}\nmore: {<<: *base, x: 3}\n1: a\n'1': b\n")
    assert read_yaml(path) == {"base": {"x": 1, "y": 2}, "more": {"x": 3, "y": 2}, 1: "a", "1": "b"}
