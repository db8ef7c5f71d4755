"""Check everything that the pipeline made against its certificates: `make verify`.

    python -m experiments.verify
    python -m experiments.verify --peers all        # after snakemake figures/all --config peers=all

It prints a line for each product that is damaged (a file differs from its certificate), out of date (made from other sources,
inputs or settings than the present ones), or without a certificate. The exit status is 1 if there is any. Intact results of a
scale whose results are shipped may be older than the sources; they are listed, and not wrong.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from experiments.common.job import CERTIFICATE, SCALES, experiment_names, jobs_of, scales_of, settings_of
from experiments.common.policy import PEERS, is_kept, with_peers
from experiments.common.products import FIGURES, RESULTS, SPIKES
from experiments.common.provenance import changes_since, damage_of, different, listed, read_certificate
from experiments.common.sources import Sources

DAMAGED, OUTDATED, BARE, OLDER = "damaged", "out of date", "without a certificate", "older than the sources, and kept"


class Finding(NamedTuple):
    """What is to be said of a product."""

    kind: str
    path: Path
    what: str


def main() -> None:
    parser = argparse.ArgumentParser(
        "experiments.verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", choices=PEERS, help="as they were asked for; default: those of each scale")
    peers = parser.parse_args().peers
    certificates = sorted(path for folder in (SPIKES, RESULTS, FIGURES) for path in folder.rglob(f"*{CERTIFICATE}"))
    found = list(findings(certificates, Sources(), peers))
    for finding in found:
        print(f"{finding.kind}: {finding.path}{finding.what and ': '}{finding.what}")
    counts = Counter(finding.kind for finding in found)
    told = ", ".join(f"{counts[kind]} {kind}" for kind in (DAMAGED, OUTDATED, BARE, OLDER) if counts[kind])
    print(f"{len(certificates)} certificates: {told or 'all files are as they were made, from the present sources'}.")
    sys.exit(1 if any(finding.kind != OLDER for finding in found) else 0)


def findings(certificates: list[Path], sources: Sources, peers: str | None) -> Iterator[Finding]:
    """What is wrong or worth a word, product by product."""
    settings = settings_by_certificate(peers)
    named: set[Path] = set(certificates)
    for path in certificates:
        content = read_certificate(path)
        if content is None:
            yield Finding(DAMAGED, path, "the certificate itself")
            continue
        named |= {path.parent / name for name in content["files"]}
        if damage := damage_of(path, content, sources):
            yield Finding(DAMAGED, path, damage)
        elif is_result(path) and path not in settings:
            yield Finding(OUTDATED, path, "no job of the present settings makes it: it can be deleted")
        elif other := different(content["made_from"]["settings"], settings.get(path, content["made_from"]["settings"])):
            yield Finding(OUTDATED, path, f"other settings: {listed(other)}")
        elif changed := changes_since(content, sources):
            kept = is_result(path) and is_kept(path.parts[1], None)
            yield Finding(
                OLDER if kept else OUTDATED,
                path,
                f"made at commit {content['commit']}; changed since: {listed(changed)}",
            )
    yield from (Finding(BARE, path, "") for path in sorted(made_files() - named))


def settings_by_certificate(peers: str | None) -> dict[Path, dict[str, Any]]:
    """The present settings of each job of all scales, by the path of its certificate."""
    return {
        RESULTS / scale / name / job.certificate: job.settings
        for name in experiment_names()
        for scale in scales_of(name)
        for job in jobs_of(name, scale, with_peers(settings_of(name, scale), peers)).values()
    }


def is_result(path: Path) -> bool:
    return path.parts[0] == RESULTS.name


def made_files() -> set[Path]:
    """All files where the pipeline writes, except for what a killed run left behind."""
    folders = [SPIKES, FIGURES, *(RESULTS / scale for scale in SCALES)]
    files = {path for folder in folders for path in folder.rglob("*") if path.is_file()}
    return {path for path in files if path.suffix != ".part"}


if __name__ == "__main__":
    main()
