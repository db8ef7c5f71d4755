"""Write what gets a DOI, and fetch it by its DOI: the shipped results.

    python -m experiments.deposit write                          # deposit/: what a person uploads, see docs/data.md
    python -m experiments.deposit fetch 10.5281/zenodo.NUMBER    # or the URL of a record; into shipped/

deposit/ has an archive for each experiment, `deposition.json` with metadata from CITATION.cff as Zenodo's API takes it, and
`md5sums`. An archive that is fetched has to have the md5 of its pointer in shipped/, so it belongs to this commit.
"""

import hashlib
import json
import re
import shutil
import urllib.request
from pathlib import Path
from typing import Any

from experiments.common.command_line import parser_of
from experiments.common.job import experiment_names
from experiments.common.result_files import atomic_write, write_json
from experiments.common.yaml_files import read_yaml
from experiments.shipped import FOLDER, archive, path_of

DEPOSIT = Path("deposit")
RECORDS = {"5281": "https://zenodo.org/api/records/", "5072": "https://sandbox.zenodo.org/api/records/"}


def main() -> None:
    parser = parser_of("experiments.deposit", __doc__)
    parser.add_argument("what", choices=("write", "fetch"))
    parser.add_argument("where", nargs="?", default="", help="a DOI, or the URL of a record")
    options = parser.parse_args()
    write() if options.what == "write" else fetch(options.where)


def write() -> None:
    """Write archives, metadata and checksums."""
    files = {path_of(name).name: file for name in experiment_names() if (file := archive(name))}
    if not files:
        raise SystemExit(f"Got no archives, expected some in {FOLDER}/ or in the store. `make pack` writes them.")
    shutil.rmtree(DEPOSIT, ignore_errors=True)
    DEPOSIT.mkdir()
    for name, file in files.items():
        shutil.copyfile(file, DEPOSIT / name)
    sums = "".join(f"{md5_of(file.read_bytes())}  {name}\n" for name, file in files.items())
    (DEPOSIT / "md5sums").write_text(sums, encoding="utf-8")
    write_json(DEPOSIT / "deposition.json", {"metadata": metadata(read_yaml("CITATION.cff"))})
    print(f"{DEPOSIT}/: {len(files)} archives.")


def metadata(citation: dict[str, Any]) -> dict[str, Any]:
    """What Zenodo asks about a deposition, from a CITATION.cff."""
    works = [work.get("doi") or work["identifiers"][0]["value"] for work in citation["references"]]
    creators = []
    for author in citation["authors"]:
        name = author.get("name") or f"{author['family-names']}, {author['given-names']}"
        orcid = {"orcid": author["orcid"].rpartition("/")[2]} if "orcid" in author else {}
        creators.append({"name": name, **orcid})
    return {
        "upload_type": "dataset",
        "title": f"Results of {citation['title']}",
        "creators": creators,
        "description": "Numbers and arrays of all experiments, one archive for each. A record beside each result has its "
        "checksums, settings, commit and machine. The repository draws its figures from them.",
        "access_right": "open",
        "license": citation["license"].lower(),
        "publication_date": str(citation["date-released"]),
        "version": str(citation["version"]),
        "keywords": citation["keywords"],
        "related_identifiers": [{"identifier": work, "relation": "references"} for work in works],
    }


def fetch(where: str) -> None:
    """Download the archives that have a pointer in shipped/, and are not there."""
    pointers = {path_of(name): path_of(name).with_suffix(".xz.dvc") for name in experiment_names()}
    pointed = {path: read_yaml(pointer)["outs"][0]["md5"] for path, pointer in pointers.items() if pointer.is_file()}
    doi = re.search(r"10\.(5281|5072)/zenodo\.(\d+)$", where)
    record = json.loads(answer(RECORDS[doi[1]] + doi[2] if doi else where))
    urls = {file["key"]: file["links"]["self"] for file in record["files"]}
    for path, expected in pointed.items():
        if path.is_file() and md5_of(path.read_bytes()) == expected:
            continue
        if path.name not in urls:
            raise SystemExit(f"{where} has no {path.name}, expected it. Take the DOI that belongs to this commit.")
        content = answer(urls[path.name])
        if (found := md5_of(content)) != expected:
            told = "It was damaged on its way, or belongs to another commit, and is not kept."
            raise SystemExit(f"{path.name} at {where} has the md5 {found}, expected {expected}. {told}")
        with atomic_write(path) as aside:
            aside.write_bytes(content)
    print(f"{FOLDER}/: {len(pointed)} archives.")


def answer(url: str) -> bytes:
    """The content of an answer."""
    try:
        with urllib.request.urlopen(url, timeout=60) as got:
            content: bytes = got.read()
            return content
    except (OSError, ValueError) as error:
        raise SystemExit(f"{url} cannot be had: {error}. Give a DOI of Zenodo, or the URL of a record.") from None


def md5_of(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


if __name__ == "__main__":
    main()
