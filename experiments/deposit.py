"""Deposit the shipped results where they get a DOI, and fetch them by it.

    python -m experiments.deposit write                                     # deposit/: what Zenodo's API takes
    ZENODO_TOKEN=... python -m experiments.deposit upload https://zenodo.org/api      # a draft, which a person publishes
    python -m experiments.deposit fetch 10.5281/zenodo.NUMBER               # or the URL of a record, into shipped/

`deposit/` has an archive per experiment; `deposition.json`, whose metadata follow from CITATION.cff; and `md5sums`, for
`md5sum -c`. What is fetched has to have the md5 of its pointer in shipped/: it is what this commit was made with.
"""

import hashlib
import json
import os
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from experiments.common.command_line import parser_of
from experiments.common.job import experiment_names
from experiments.common.result_files import atomic_write, write_json
from experiments.common.yaml_files import read_yaml
from experiments.shipped import archive, path_of

FOLDER, TOKEN = Path("deposit"), "ZENODO_TOKEN"
RECORDS = {
    "10.5281/zenodo.": "https://zenodo.org/api/records/",
    "10.5072/zenodo.": "https://sandbox.zenodo.org/api/records/",
}
TIMEOUT = 60  # seconds without an answer


def main() -> None:
    parser = parser_of("experiments.deposit", __doc__)
    parts = parser.add_subparsers(dest="what", required=True)
    parts.add_parser("write").set_defaults(run=lambda _: write())
    parts.add_parser("upload").set_defaults(run=lambda options: upload(options.where))
    parts.add_parser("fetch").set_defaults(run=lambda options: fetch(options.where))
    for name, what in {"upload": "the URL of an API", "fetch": "a DOI, or the URL of a record"}.items():
        parts.choices[name].add_argument("where", help=what)
    options = parser.parse_args()
    options.run(options)


def write(folder: Path = FOLDER) -> None:
    """Write what `upload` sends."""
    files = {path_of(name).name: file for name in experiment_names() if (file := archive(name))}
    if not files:
        raise SystemExit(
            "Got no archives of results, expected some in shipped/ or data/store/. `make pack` writes them."
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, file in files.items():
        shutil.copyfile(file, folder / name)
    (folder / "md5sums").write_text("".join(f"{md5_of(folder / name)}  {name}\n" for name in files), encoding="utf-8")
    write_json(folder / "deposition.json", {"metadata": metadata(read_yaml(Path("CITATION.cff")))})
    print(f"{folder}/: {len(files)} archives, {sum((folder / name).stat().st_size for name in files) / 1e6:.1f} MB.")


def metadata(citation: dict[str, Any]) -> dict[str, Any]:
    """What Zenodo wants to know about a deposition, from a CITATION.cff."""
    related = [
        {"identifier": identifier, "relation": "references", "resource_type": "publication-article"}
        for work in citation["references"]
        for identifier in [work["doi"] if "doi" in work else work["identifiers"][0]["value"]]
    ]
    return {
        "upload_type": "dataset",
        "title": f"Results of {citation['title']}",
        "creators": [creator(author) for author in citation["authors"]],
        "description": "The results of all experiments at the scale full, one archive for each experiment: numbers, arrays, and "
        "for each result a record with its checksums, settings, sources' digest, commit and machine. "
        "The repository draws all figures from them.",
        "access_right": "open",
        "license": citation["license"].lower(),
        "publication_date": str(citation["date-released"]),
        "version": str(citation["version"]),
        "keywords": citation.get("keywords", []),
        "related_identifiers": related,
    }


def creator(author: dict[str, str]) -> dict[str, str]:
    """An author in Zenodo's terms."""
    name = author.get("name") or f"{author['family-names']}, {author['given-names']}"
    orcid = {"orcid": author["orcid"].rpartition("/")[2]} if "orcid" in author else {}
    return {"name": name, **{key: author[key] for key in ("affiliation",) if key in author}, **orcid}


def upload(api: str, folder: Path = FOLDER) -> None:
    """Send all files to a new draft, and compare the checksums that come back."""
    if not os.environ.get(TOKEN):
        raise SystemExit(
            f"Got no token, expected one in the environment variable {TOKEN}. Zenodo's settings give you one."
        )
    lines = (line.split() for line in (folder / "md5sums").read_text(encoding="utf-8").splitlines())
    draft = ask(f"{api}/deposit/depositions", (folder / "deposition.json").read_bytes(), "POST", "application/json")
    for md5, name in lines:
        found = ask(f"{draft['links']['bucket']}/{name}", (folder / name).read_bytes(), "PUT")["checksum"]
        if found.removeprefix("md5:") != md5:
            raise SystemExit(
                f"{name} arrived with the checksum {found}, expected md5:{md5}. Delete the draft, and try again."
            )
    print(f"A draft is at {draft['links']['html']}. Publish it there: this cannot be undone.")


def ask(url: str, content: bytes, method: str, kind: str = "application/octet-stream") -> Any:
    """The answer of the API, as JSON."""
    headers = {"Authorization": f"Bearer {os.environ[TOKEN]}", "Content-Type": kind}
    return json.loads(answer(urllib.request.Request(url, content, headers, method=method)))


def answer(request: urllib.request.Request | str, most: int = -1) -> bytes:
    """The content of an answer, of which no more than some bytes are read."""
    url = request if isinstance(request, str) else request.full_url
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as got:
            content: bytes = got.read(most)
            return content
    except urllib.error.HTTPError as error:
        with error:
            raise SystemExit(f"{url} answers: {error}. {error.read(500).decode(errors='replace')}") from None
    except OSError as error:
        raise SystemExit(f"{url} cannot be reached: {error}") from None


def fetch(where: str) -> None:
    """Download the archives that shipped/ has pointers of, where they are not there yet."""
    pointed = {
        path_of(name): read_yaml(pointer)["outs"][0]
        for name in experiment_names()
        if (pointer := path_of(name).with_name(f"{path_of(name).name}.dvc")).is_file()
    }
    lacking = {path: of for path, of in pointed.items() if not (path.is_file() and md5_of(path) == of["md5"])}
    record = json.loads(answer(address(where)))
    urls = {file["key"]: file["links"]["self"] for file in record["files"]}
    for path, of in lacking.items():
        if path.name not in urls:
            raise SystemExit(f"{where} has no {path.name}, expected one. Take the DOI that belongs to this commit.")
        content = answer(urls[path.name], of["size"] + 1)
        if (found := hashlib.md5(content, usedforsecurity=False).hexdigest()) != of["md5"]:
            raise SystemExit(
                f"{path.name} at {where} has the md5 {found}, expected {of['md5']}: it was damaged on its way, or belongs to "
                "another commit. Nothing of it is kept."
            )
        with atomic_write(path) as aside:
            aside.write_bytes(content)
    print(f"{len(lacking)} of {len(pointed)} archives were fetched into {path_of('x').parent}/; the others were there.")


def address(where: str) -> str:
    """The URL of a record that has a DOI, or of one that is given as a URL."""
    if where.startswith(("http://", "https://")) and "doi.org/" not in where:
        return where
    match = re.search(r"(10\.\d+/zenodo\.)(\d+)$", where)
    if match is None or match[1] not in RECORDS:
        raise SystemExit(
            f"Got {where!r}, expected a DOI of Zenodo, such as 10.5281/zenodo.123, or the URL of a record."
        )
    return RECORDS[match[1]] + match[2]


def md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


if __name__ == "__main__":
    main()
