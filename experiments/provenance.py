"""What made what, as the records of a scale have it, in JSON: `python -m experiments.provenance --scale full`.

`release.crate` makes an RO-Crate of it. There is an entry for each product, after those that it is made from: its files with
their checksums, the files and settings that it is made from, the script, and what its record says of the run.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experiments.common.command_line import parser_of
from experiments.common.products import LOCK, Pipeline
from experiments.common.records import Product, require_used
from experiments.common.yaml_files import read_yaml

WORKFLOW = "workflow/Snakefile"
FACTS = ("machine", "device", "wall_seconds", "peak_megabytes")


def main() -> None:
    options = parser_of("experiments.provenance", __doc__, "--scale", "--peers", "--outdated").parse_args()
    pipeline = Pipeline(options.scale, peers=options.peers, outdated=options.outdated)
    how = f"Make all: `snakemake figures/all --config scale={options.scale}`."
    made = {product.record: product for product in [*pipeline.listed, pipeline.page]}
    records = {
        path: require_used(product, pipeline.keep and product.label not in pipeline.pending, how)
        for path, product in made.items()
    }
    citation = read_yaml("CITATION.cff")
    found = {
        **{key: str(citation[key]) for key in ("title", "license", "date-released")},
        "description": f"Figures and results of the scale {options.scale}, and how they were made.",
        "workflow": {"file": WORKFLOW, "lock": LOCK, "snakemake": version("snakemake")},
        "products": [entry(product, records[path], made, product in pipeline.older) for path, product in made.items()],
    }
    print(json.dumps(found))


def entry(product: Product, record: Mapping[str, Any], made: Mapping[Path, Product], older: bool) -> dict[str, Any]:
    """A product. Where it is made from a record, these are the files that the record is about."""
    inputs = [file for path in product.inputs.values() for file in (made[path].files if path in made else [path])]
    return {
        "label": product.label,
        "script": product.scripts[-1] if product.scripts else "gallery/__main__.py",
        "files": {path.as_posix(): record["files"][path.name] for path in product.files},
        "record": product.record.as_posix(),
        "inputs": [path.as_posix() for path in inputs],
        **{key: record[key] for key in ("made_from", "date", "settings", "commit", "wall_seconds")},
        "facts": {key: record[key] for key in FACTS if key in record}
        | ({"older_than_sources": "yes"} if older else {}),
    }


if __name__ == "__main__":
    main()
