"""Each tutorial, in full, ends with the picture that it shows, and the pages that train run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

ROOT = Path(__file__).parents[2]
TUTORIALS = [page for page in sorted(ROOT.glob("docs/tutorials/*.md")) if page.name != "index.md"]
# In place of reservoirpy, which is not installed here: its series, from the store.
LASER = f"""\
import numpy as np

def santafe_laser():
    with np.load({str(ROOT / "data/store/files/md5/88/2472ccba504c54b796cb6479a24f62")!r}) as file:
        return file["points"][:, None]
"""


def coarse(picture):
    """The mean color of each square of 40 x 40 pixels."""
    height, width = (length // 40 for length in picture.shape[:2])
    return picture[: height * 40, : width * 40].reshape(height, 40, width, 40, -1).mean(axis=(1, 3))


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_tutorial_ends_with_the_picture_that_it_shows(page, tmp_path):
    """Except for what other rounding changes in a training: a line that ends elsewhere, but not another picture."""
    (tmp_path / "reservoirpy").mkdir()
    (tmp_path / "reservoirpy/datasets.py").write_text(LASER)
    program = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL))
    environment = os.environ | {"MPLBACKEND": "agg", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    picture = page.with_suffix(".png")
    assert re.findall(r"!\[[^\]]+\]\((.*?)\)", page.read_text()) == [picture.name]
    assert [path.name for path in tmp_path.glob("*.png")] == [picture.name]
    saved, shown = (coarse(imread(path)) for path in (tmp_path / picture.name, picture))
    assert saved.shape == shown.shape and np.abs(saved - shown).mean() < 0.015


@pytest.mark.parametrize("name", ("rewards", "streams", "sweep", "synapses", "training"))
def test_python_of_a_page_that_trains_runs(name):
    command = [sys.executable, ROOT / "tests/pages/run_pages.py", ROOT / f"docs/{name}.md"]
    environment = os.environ | {"MPLBACKEND": "agg", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    (found,) = [line for line in run.stdout.splitlines() if line.startswith('{"page":')]
    assert '"error": null' in found, found
