"""The products of the pipeline: which files each consists of, and what they are made from."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common.job import ARRAYS, CERTIFICATE, NUMBERS, TIMES, Job
from experiments.common.provenance import Product, older_results
from experiments.common.sources import Sources
from experiments.common.yaml_files import read_yaml

LOCK = "requirements.lock"
FORMS = (".csv", ".png", ".svg")
RESULTS, FIGURES, SPIKES = Path("results"), Path("figures"), Path("data/processed")


def certificate_of(file: Path) -> Path:
    """The certificate of a result, a figure or spikes, which is in the same folder."""
    ending = next(ending for ending in (TIMES, NUMBERS, ARRAYS, *FORMS, "") if file.name.endswith(ending))
    return file.with_name(file.name.removesuffix(ending) + CERTIFICATE)


def spikes_product(name: str, settings: Mapping[str, Any], sources: Sources, *, data: Path = SPIKES) -> Product:
    """The spikes of a set of data/config.yaml. The settings have the checksums of its raw files, except where there is none."""
    raw = [f"data/raw/{file}" for file, sha256 in settings["raw"].items() if sha256 is None]
    made_from = _ours(sources, "experiments/common/make_spikes.py", others=[LOCK, *raw])
    file = data / f"{name}{ARRAYS}"
    return Product(f"spikes {name}", certificate_of(file), (file,), settings, made_from)


def result_product(
    experiment: str, scale: str, job: Job, sources: Sources, *, results: Path = RESULTS, data: Path = SPIKES
) -> Product:
    """The files of a job.

    The command itself, experiments/run.py, and jobs.py are not what they are made from: what these do shows in the settings.
    """
    folder = results / scale / experiment
    scripts = [file for file in job.files if file.endswith(".py")]
    module = f"experiments/{experiment}/{job.module}.py"
    others = [LOCK, *(file for file in job.files if file not in scripts)]
    made_from = _ours(sources, "experiments/common/result_files.py", module, *scripts, others=others)
    made_from |= {f"results/{scale}/{experiment}/{name}{ARRAYS}": folder / f"{name}{ARRAYS}" for name in job.reads}
    made_from |= {f"data/processed/{name}{ARRAYS}": data / f"{name}{ARRAYS}" for name in [job.spikes] if name}
    files = tuple(folder / output for output in job.outputs)
    return Product(f"{experiment} {job.name}", folder / job.certificate, files, job.settings, made_from)


def figure_product(
    experiment: str,
    stem: str,
    scale: str,
    jobs: Iterable[Job],
    sources: Sources,
    *,
    results: Path = RESULTS,
    figures: Path = FIGURES,
) -> Product:
    """The table and the pictures of a figure. It is made from the certificates of results: some figures name the machine."""
    names = {job.name: f"{scale}/{experiment}/{job.certificate}" for job in jobs}
    tables = sorted(path.relative_to(sources.root).as_posix() for path in _folder(sources, experiment).glob("*.csv"))
    plot = f"experiments/{experiment}/plot.py"
    made_from = _ours(sources, "experiments/common/figures.py", plot, others=[LOCK, *tables])
    made_from |= {f"results/{name}": results / name for name in names.values()}
    files = tuple(figures / scale / f"{stem}{form}" for form in FORMS)
    return Product(f"figure {stem}", certificate_of(files[0]), files, {"scale": scale, "jobs": list(names)}, made_from)


def page_product(
    page: Path,
    text: Path,
    scale: str,
    claims: Iterable[Path],
    results: Iterable[Path],
    figures: Iterable[Path],
    sources: Sources,
) -> Product:
    """The page of all figures and the text of all claims, made from the certificates of results and figures.

    Which results are older than the sources is among the settings, since page and text say it.
    """
    results = list(results)
    gallery = sorted(path for path in sources.root.glob("gallery/*.*") if path.suffix != ".md")
    made_from = {LOCK: sources.root / LOCK} | {f"gallery/{path.name}": path for path in gallery}
    made_from |= {path.as_posix(): path for path in claims}
    made_from |= {path.as_posix(): path for path in map(certificate_of, [*results, *figures])}
    settings = {"scale": scale, "older results": older_results(map(certificate_of, results), sources)}
    return Product("page of figures", page.with_name("index" + CERTIFICATE), (page, text), settings, made_from)


def manifest_product(manifest: Path, files: Iterable[Path], sources: Sources) -> Product:
    """The list of checksums of all files, which is also made again when any of DVC's sources changes, by a comment even."""
    made_from = {path.as_posix(): path for path in files}
    settings = {"sources_of_dvc": digest_of_dvc_sources(sources)}
    return Product("manifest", manifest.with_name(manifest.name + CERTIFICATE), (manifest,), settings, made_from)


def digest_of_dvc_sources(sources: Sources) -> str:
    """The digest of every file below the source folders named in dvc.yaml, except for the files that .dvcignore leaves out."""
    stages = read_yaml(sources.root / "dvc.yaml")["stages"].values()
    made = {name for stage in stages for out in stage["outs"] for name in out}
    folders = [sources.root / name for name in sorted({name for stage in stages for name in stage["deps"]} - made)]
    files = {file for folder in folders for file in [folder, *folder.rglob("*")] if file.is_file()}
    names = {file.relative_to(sources.root).as_posix(): file for file in files if file.suffix not in (".md", ".pyc")}
    lines = [f"{name} {sources.sha256(file)}" for name, file in sorted(names.items()) if ".egg-info" not in name]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _ours(sources: Sources, *scripts: str, others: Sequence[str]) -> dict[str, Path]:
    """Scripts with all that they import, and other files of the checkout, by their paths in it."""
    return {name: sources.root / name for name in [*sources.code(*scripts), *others]}


def _folder(sources: Sources, experiment: str) -> Path:
    return sources.root / "experiments" / experiment
