"""The results of the full scale as one archive, which comes with the repository: shipped/full.tar.xz.

    python -m experiments.shipped pack        # from results/full; `make pack` also adds the archive to DVC's store
    python -m experiments.shipped unpack      # what is missing or damaged in results/full; the pipeline does it by itself

The archive has the same bytes whenever it is packed from the same files. Each result comes with its record.
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
from experiments.common.products import RESULTS, in_order, result_product, stored
from experiments.common.records import Forecast, Product, digest_of, seal_and_write, settle, state_of
from experiments.common.result_files import atomic_write

SCALE = "full"
ARCHIVE, POINTER = Path("shipped/full.tar.xz"), Path("shipped/full.tar.xz.dvc")
LARGEST = 1 << 30  # bytes of the unpacked archive


def main() -> None:
    parser = parser_of("experiments.shipped", __doc__)
    parser.add_argument("what", choices=("pack", "unpack"))
    if parser.parse_args().what == "pack":
        pack(products_of_scale(), ARCHIVE)
    elif archive():
        print(f"Unpacked from {archive()}: {unpack_what_is_lacking()} jobs.")
    else:
        raise SystemExit(f"There is no {ARCHIVE}: `dvc pull {POINTER}` gets it, where the repository has its pointer.")


def products_of_scale() -> list[Product]:
    """The results of all jobs of the scale."""
    jobs = {name: jobs_of(name, SCALE, scales_of(name)[SCALE]) for name in experiment_names()}
    return [result_product(name, SCALE, of[key]) for name, of in jobs.items() for key in in_order(of)]


def archive() -> Path | None:
    """The archive: the one in shipped/, or else the one in the store to which its pointer refers; None if there is none."""
    if ARCHIVE.is_file():
        return ARCHIVE
    file = stored(POINTER)
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
        raise SystemExit(f"Got no results of the {SCALE} scale to pack: `snakemake results --config scale={SCALE}`.")
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(path for product in whole for path in (*product.files, product.record)):
            member = tarfile.TarInfo(name_of(path))
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                tar.addfile(member, file)
    with atomic_write(output) as aside:
        aside.write_bytes(lzma.compress(content.getvalue(), preset=9))
    print(f"{output}: {len(whole)} of {len(states)} jobs, {output.stat().st_size / 1e6:.1f} MB.")


def unpack_what_is_lacking() -> int:
    """Unpack the results that are missing or damaged, if there is an archive, and return the number of their jobs."""
    file = archive()
    return len(unpack(products_of_scale(), file)) if file else 0


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
    file = archive()
    lacking = [product for product in products_of_scale() if Forecast({})(product, True).kind in ("missing", "damaged")]
    contents = members(file) if file and lacking else {}
    records = {product.label: contents.get(name_of(product.record)) for product in lacking}
    return {label: read_shipped(record)["settings"] for label, record in records.items() if record}


def read_shipped(content: bytes) -> dict[str, Any]:
    """The content of a record in the archive. The ones of format 1 had the digest of each source."""
    record: dict[str, Any] = json.loads(content)
    if record.pop("sha256_of_the_rest") != digest_of(record):
        raise SystemExit("A record in the archive of shipped results is damaged, and they are not unpacked.")
    if record.pop("format") == 1:
        record |= {"settings": record["made_from"]["settings"], "made_from": digest_of(record["made_from"])}
    return record


def name_of(path: Path) -> str:
    """The name in the archive of a file of the scale."""
    return path.relative_to(RESULTS / SCALE).as_posix()


def members(file: Path, largest: int = LARGEST) -> dict[str, bytes]:
    """The contents of an archive by name. Nothing is written, whatever the names are.

    Raises:
        SystemExit: the archive is damaged, larger than `largest` bytes, or has anything else than plain files.
    """
    unpacker = lzma.LZMADecompressor()
    try:
        content = unpacker.decompress(file.read_bytes(), max_length=largest)
        if not unpacker.eof:
            raise SystemExit(f"{file} is cut off, or has more than {largest} bytes, and is not unpacked.")
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            found = {}
            for member in tar:
                plain = tar.extractfile(member) if member.type == tarfile.REGTYPE and not member.issparse() else None
                if plain is None or member.name in found:
                    raise SystemExit(f"{file} is not unpacked: {member.name} is no plain file, or is there twice.")
                found[member.name] = plain.read()
            return found
    except (lzma.LZMAError, tarfile.TarError, EOFError) as error:
        raise SystemExit(f"{file} is damaged, and is not unpacked: {error}") from None


if __name__ == "__main__":
    main()
