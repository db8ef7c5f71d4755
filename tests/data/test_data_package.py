"""The package as a whole: its README, and what importing it brings along."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "packages" / "slax-data" / "README.md"


def test_example_in_the_readme_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    exec(compile(example, str(README), "exec"), {})


def test_import_brings_no_sibling_and_no_optional_library():
    code = "import slax_data, sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"slax_neurons", "slax_rules", "slax_viz", "flax", "sklearn", "beartype", "matplotlib"} & set(modules)
