"""List the checksums of spikes, results and figures: `sha256sum -c figures/all` then verifies them, on any machine.

    python -m experiments.manifest --scale quick

It stops at a product that is missing, damaged, or made from something else: such a file is never listed.
"""

from experiments.common.command_line import parser_of
from experiments.common.products import MANIFEST, Pipeline
from experiments.common.result_files import atomic_write


def main() -> None:
    options = parser_of("experiments.manifest", __doc__, "--scale", "--peers", "--outdated").parse_args()
    text = Pipeline(options.scale, peers=options.peers, outdated=options.outdated).manifest()
    with atomic_write(MANIFEST) as aside:
        aside.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
