"""The version of all packages, which is in pyproject.toml alone: write it into the packages, CITATION.cff and the template.

python -m release.version
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(ROOT.glob("packages/*"))
TEMPLATE = ROOT / "templates/slax-my-rule/pyproject.toml"


def version_of(folder: Path = ROOT) -> str:
    """The version in a pyproject.toml."""
    found: str = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return found


def with_version(text: str, version: str) -> str:
    """A pyproject.toml or CITATION.cff with another version, also where it asks for a package of ours."""
    text = re.sub(r'^(version = )"[^"]*"', rf'\1"{version}"', text, flags=re.MULTILINE)
    text = re.sub(r"^(version: ).*$", rf"\g<1>{version}", text, flags=re.MULTILINE)
    return re.sub(r'("slax-[^"]+==)[^"]*"', rf'\g<1>{version}"', text)


def asking_for(text: str, version: str) -> str:
    """A pyproject.toml of others that asks for a package of ours from the series of this version on, 0.3 for 0.3.1."""
    return re.sub(r'("slax-\w+)[<>=][^"]*"', rf'\g<1>>={version.rpartition(".")[0]}"', text)


def main() -> None:
    version = version_of()
    for file in (*(package / "pyproject.toml" for package in PACKAGES), ROOT / "CITATION.cff"):
        file.write_text(with_version(file.read_text(encoding="utf-8"), version), encoding="utf-8")
    TEMPLATE.write_text(asking_for(TEMPLATE.read_text(encoding="utf-8"), version), encoding="utf-8")
    print(f"All packages have the version {version}.")


if __name__ == "__main__":
    main()
