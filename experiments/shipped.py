"""The results of the full scale as archives, one per experiment, which come with the repository: shipped/NAME.tar.xz.

    python -m experiments.shipped pack        # from results/full; `make pack` also adds the archives to DVC's store
    python -m experiments.shipped unpack      # what is missing or damaged in results/full; the pipeline does it by itself

An archive has the same bytes whenever it is packed from the same files. Each result comes with its record;
shipped/inputs.json has the checksums of what the results were made from and a clone lacks.
"""

import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from experiments.common.command_line import parser_of
from experiments.common.job import experiment_names, jobs_of, scales_of
from experiments.common.products import (
    RESULTS,
    SHIPPED_INPUTS,
    SPIKES,
    in_order,
    result_product,
    shipped_inputs,
    stored,
)
from experiments.common.records import (
    Forecast,
    Product,
    checksum,
    digest_of,
    read_record,
    record_of,
    seal_and_write,
    settle,
    state_of,
)
from experiments.common.result_files import atomic_write, write_json
from experiments.common.sources import ROOT, sha256_of

SCALE = "full"
FOLDER = Path("shipped")
ABSENT_IN_A_CLONE = (f"{SPIKES.as_posix()}/", "benchmarks/.envs/")


def main() -> None:
    parser = parser_of("experiments.shipped", __doc__)
    parser.add_argument("what", choices=("pack", "unpack"))
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments to pack; default: all")
    options = parser.parse_args()
    if options.what == "pack":
        for name in options.names or experiment_names():
            pack(products_of(name), path_of(name))
        note_inputs(product for name in experiment_names() for product in products_of(name))
    elif any(map(archive, experiment_names())):
        print(f"Unpacked from {FOLDER}/: {unpack_what_is_lacking()} jobs.")
    else:
        raise SystemExit(
            f"There is no archive in {FOLDER}/: `dvc pull` gets them, where the repository has their pointers."
        )


def products_of(name: str) -> list[Product]:
    """The results of all jobs of an experiment at the scale."""
    jobs = jobs_of(name, SCALE, scales_of(name)[SCALE])
    return [result_product(name, SCALE, jobs[key]) for key in in_order(jobs)]


def path_of(name: str) -> Path:
    """The archive of an experiment, where it is packed."""
    return FOLDER / f"{name}.tar.xz"


def archive(name: str) -> Path | None:
    """The archive of an experiment: in shipped/, or else in the store, where its pointer refers to; None if there is none."""
    path = path_of(name)
    if path.is_file():
        return path
    file = stored(path.with_name(f"{path.name}.dvc"))
    found = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() if file else ""
    if file and found != file.parent.name + file.name:
        raise SystemExit(f"{file} is damaged: its md5 is {found}. Restore it: `git checkout {file}`.")
    return file


def pack(products: Iterable[Product], output: Path) -> None:
    """Write the intact results of the present settings to an archive, and tell what is left out or older than the sources."""
    states = [(product, state_of(product)) for product in products]
    whole = [product for product, state in states if state.is_used(keep=True)]
    for product, state in states:
        if state.kind != "current":
            told = "Packed, though not current" if state.is_used(keep=True) else "Left out"
            print(f"{told}: {product.label}: {state.why}")
    if not whole:
        raise SystemExit(
            f"Got no results to pack into {output}: `snakemake results --config scale={SCALE}` makes them."
        )
    with atomic_write(output) as aside, tarfile.open(aside, "w:xz", format=tarfile.USTAR_FORMAT, preset=9) as tar:
        for path in sorted(path for product in whole for path in (*product.files, product.record)):
            member = tarfile.TarInfo(name_of(path))
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                tar.addfile(member, file)
    print(f"{output}: {len(whole)} of {len(states)} jobs, {output.stat().st_size / 1e6:.1f} MB.")


def note_inputs(products: Iterable[Product]) -> None:
    """Write shipped/inputs.json: the checksums of what the current results were made from, and a clone lacks.

    What was noted before stays if it is absent now, and if a result is made from it.
    """
    found: dict[str, dict[str, str | None]] = {}
    names: set[str] = set()
    for product in products:
        names |= {*product.others, *product.inputs}
        if state_of(product).kind == "current":
            found |= {name: {"sha256": sha256_of(ROOT / name), "made_from": None} for name in product.others}
            for name, path in product.inputs.items():
                record = read_record(record_of(path)) or {}
                found[name] = {"sha256": checksum(path), "made_from": record.get("made_from")}
    noted = {name: of for name, of in found.items() if of["sha256"] and name.startswith(ABSENT_IN_A_CLONE)}
    write_json(SHIPPED_INPUTS, {name: of for name, of in (shipped_inputs() | noted).items() if name in names})


def unpack_what_is_lacking() -> int:
    """Unpack the results that are missing or damaged, of which there is an archive, and return the number of their jobs."""
    files = {name: file for name in experiment_names() if (file := archive(name))}
    return sum(len(unpack(products_of(name), file)) for name, file in files.items())


def unpack(products: Iterable[Product], file: Path) -> list[Product]:
    """Unpack the results that are missing or damaged, and return those that were in the archive."""
    lacking = [product for product in products if settle(product, keep=True).kind in ("missing", "damaged")]
    contents = members(file) if lacking else {}
    found = [product for product in lacking if contents.keys() >= {*map(name_of, (*product.files, product.record))}]
    for product in found:
        for path in product.files:
            with atomic_write(path) as aside:
                aside.write_bytes(contents[name_of(path)])
        seal_and_write(product.record, read_shipped(contents[name_of(product.record)]))
    return found


def settings_of_lacking() -> dict[str, dict[str, Any]]:
    """The settings of the results that `unpack_what_is_lacking` would unpack, by label. Nothing is written."""
    found = {}
    for name in experiment_names():
        lacking = [
            product for product in products_of(name) if Forecast({})(product, True).kind in ("missing", "damaged")
        ]
        file = archive(name) if lacking else None
        contents = members(file) if file else {}
        records = {product.label: contents.get(name_of(product.record)) for product in lacking}
        found |= {label: read_shipped(record)["settings"] for label, record in records.items() if record}
    return found


def read_shipped(content: bytes) -> dict[str, Any]:
    """The content of a record in the archive."""
    record: dict[str, Any] = json.loads(content)
    if record.pop("sha256_of_the_rest") != digest_of(record):
        raise SystemExit("A record in the archive of shipped results is damaged, and they are not unpacked.")
    return record


def name_of(path: Path) -> str:
    """The name in the archive of a file of the scale."""
    return path.relative_to(RESULTS / SCALE).as_posix()


def members(file: Path) -> dict[str, bytes]:
    """The contents of the plain files of an archive by name. Nothing is written, whatever the names are.

    Raises:
        SystemExit: the archive is damaged.
    """
    try:
        content = lzma.decompress(file.read_bytes())  # as a whole, with its checksum
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            return {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}
    except (lzma.LZMAError, tarfile.TarError) as error:
        raise SystemExit(f"{file} is damaged, and is not unpacked: {error}") from None


if __name__ == "__main__":
    main()
