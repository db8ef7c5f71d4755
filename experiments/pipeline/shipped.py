"""The results of the full scale as archives, one per experiment, which come with the repository: shipped/NAME.tar.xz.

An archive has the same bytes whenever it is packed from the same files. Each result comes with its record, so that it is stale
by the same law as any other.
"""

import hashlib
import io
import lzma
import tarfile
from pathlib import Path

from experiments.pipeline.job import experiment_names, jobs_of, scales_of
from experiments.pipeline.plan import stored
from experiments.pipeline.results import RESULTS, Product, atomic_write, result_product, state_of, whole_record

SCALE = "full"
FOLDER = Path("shipped")


def products_of(name: str) -> list[Product]:
    """The results of all jobs of an experiment at the scale."""
    scales = scales_of(name)
    jobs = jobs_of(name, SCALE, scales[SCALE]) if SCALE in scales else {}
    return [result_product(name, SCALE, jobs, job) for job in jobs]


def archive(name: str) -> Path | None:
    """The archive of an experiment: in shipped/, or else in the store, where its pointer refers to; None if there is none."""
    path = FOLDER / f"{name}.tar.xz"
    if path.is_file():
        return path
    file = stored(path.with_name(f"{path.name}.dvc"))
    found = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() if file else ""
    if file and found != file.parent.name + file.name:
        raise SystemExit(f"{file} is damaged: its md5 is {found}. Restore it: `git checkout {file}`.")
    return file


def pack(name: str) -> None:
    """Write the intact results of the present settings to an archive, and say what is left out or older than the sources."""
    products = products_of(name)
    states = [(product, state_of(product)) for product in products]
    whole = [product for product, state in states if state.is_used("keep")]
    for product, state in states:
        if state.kind != "current":
            kept = "Packed, though not current" if state.is_used("keep") else "Left out"
            print(f"{kept}: {product.label}: {state.why}")
    output = FOLDER / f"{name}.tar.xz"
    if not whole:
        raise SystemExit(f"There are no results for {output}: `snakemake results --config scale={SCALE}` makes them.")
    with atomic_write(output) as aside, tarfile.open(aside, "w:xz", format=tarfile.USTAR_FORMAT, preset=9) as tar:
        for path in sorted(path for product in whole for path in (*product.files, product.record)):
            member = tarfile.TarInfo(name_of(path))
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                tar.addfile(member, file)
    print(f"{output}: {len(whole)} of {len(products)} jobs, {output.stat().st_size / 1e6:.1f} MB.")


def unpack() -> int:
    """Unpack the results that are missing or damaged, of which there is an archive, and return the number of their jobs."""
    number = 0
    for name in experiment_names():
        lacking = [product for product in products_of(name) if state_of(product).kind in ("missing", "damaged")]
        file = archive(name) if lacking else None
        contents = members(file) if file else {}
        for product in lacking:
            record = whole_record(contents.get(name_of(product.record), b""))
            if record is None or not contents.keys() >= {*map(name_of, product.files)}:
                continue
            for path in (*product.files, product.record):
                with atomic_write(path) as aside:
                    aside.write_bytes(contents[name_of(path)])
            number += 1
    return number


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
