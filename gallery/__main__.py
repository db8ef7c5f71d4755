"""Write the page and the texts of all figures of one scale: figures/index.html, RESULTS.md and REPLICATION.md.

    python -m gallery --scale quick

They are made from the results and figures that are there, with their records. What differs from its record is refused.
"""

import time

from experiments.pipeline.command_line import parser_of
from experiments.pipeline.plan import Plan
from experiments.pipeline.results import Product, begin, run_of, write_record
from gallery.content import Content, content_of
from gallery.page import page, text


def main() -> None:
    options = parser_of("python -m gallery", __doc__, "--scale", "--peers", "--outdated").parse_args()
    plan = Plan(options.scale, peers=options.peers, outdated=options.outdated)
    write(plan.page, content_of(plan))


def write(product: Product, content: Content) -> None:
    """Write the page and the two texts, and their record."""
    started = time.perf_counter()
    texts = page(content), text(content, "results"), text(content, "replication")
    made_from = begin(product)
    for path, whole in zip(product.files, texts, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(whole, encoding="utf-8")
    write_record(product, made_from, **run_of(started))


if __name__ == "__main__":
    main()
