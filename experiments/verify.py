"""Check everything that the pipeline made: `make verify`.

    python -m experiments.verify
    python -m experiments.verify --peers all        # after snakemake figures/all --config peers=all

It prints a line for each product that differs from its record or was made with other settings or from other sources or inputs
than the present ones, and for each file that no product with a record has. The exit status is 1 if there is any. Results of a
scale whose results are shipped may be older than the sources; they are counted, and not wrong.
"""

import sys

from experiments.common.command_line import parser_of
from experiments.common.job import SCALES
from experiments.common.products import FIGURES, MANIFEST, PAGE, RESULTS, SPIKES, Pipeline
from experiments.common.records import RECORD, read_record

LEFT = (".part", ".aside", ".damaged")  # what a killed run left, and what was set aside


def main() -> None:
    peers = parser_of("experiments.verify", __doc__, "--peers").parse_args().peers
    page = read_record(PAGE[0].with_name(f"{PAGE[0].stem}{RECORD}"))
    shown = page["settings"]["scale"] if page else SCALES[0]
    wrong: dict[str, str] = {}
    sound, older = {MANIFEST}, 0
    for scale in SCALES:
        pipeline = Pipeline(scale, peers=peers)
        older += len(pipeline.older)
        for product in [*pipeline.listed, *([pipeline.page] if scale == shown else [])]:
            state = pipeline.pending.get(product.label)
            if state is None:
                sound |= {product.record, *product.files}
            else:
                why = "it has no record that holds now" if state.kind == "missing" else state.why
                wrong |= {str(file): why for file in product.files if file.exists()}
        listed = MANIFEST.read_text(encoding="utf-8") if scale == shown and MANIFEST.exists() else ""
        if listed and (pipeline.pending or listed != pipeline.manifest()):
            wrong[str(MANIFEST)] = "it is not the list of what is there"
    folders = [SPIKES, FIGURES, *(RESULTS / scale for scale in SCALES)]
    files = {path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix not in LEFT}
    bare = {str(path): "no product has it: it can be deleted" for path in files - sound}
    wrong = {path: why for path, why in sorted((bare | wrong).items()) if not path.endswith(RECORD)}
    for path, why in wrong.items():
        print(f"{path}: {why}")
    told = f"{len(wrong)} files are not." if wrong else "all are as they were made, from the present sources."
    kept = f" {older} results are older than the sources, and kept." if older else ""
    print(f"{len(sound)} files are as they were made. {told}{kept}" if wrong else f"{len(sound)} files: {told}{kept}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
