"""The build backend: flit_core, whose wheel asks for the packages in the folders beside this one, if they are there.

They are in a clone, from which pip installs. They are not beside an unpacked source distribution, from which a release is
built: its wheel asks for the packages by name and version.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from flit_core import buildapi
from flit_core.buildapi import build_sdist as build_sdist

HERE = Path(__file__).parent


def from_clone(text: str) -> str:
    """A pyproject.toml that asks for the folders of a clone in place of packages by name and version."""

    def folder(match: re.Match[str]) -> str:
        beside = HERE.parent / match["name"]
        return f'"{match["name"]}{match["extra"]} @ {beside.as_uri()}"' if beside.is_dir() else match[0]

    return re.sub(r'"(?P<name>slax-\w+)(?P<extra>[^"=]*)==[^"]*"', folder, text)


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    """Build a wheel; see PEP 517."""
    target = Path(wheel_directory).absolute()
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(HERE, copy, dirs_exist_ok=True)
        project = Path(copy, "pyproject.toml")
        project.write_text(from_clone(project.read_text(encoding="utf-8")), encoding="utf-8")
        os.chdir(copy)
        try:
            return buildapi.build_wheel(str(target))
        finally:
            os.chdir(HERE)


build_editable = build_wheel  # there is no code to edit
