"""Begin an experiment of your own: a folder of four files that train a task under three rules and draw their accuracies.

    python -m experiments.new my_question
    python -m experiments.run my_question --scale tiny          # half a minute
    python -m experiments.plot my_question --scale tiny         # figures/tiny/my_question.png
    snakemake figures/all --config scale=tiny                   # with all others

Then change what the files say: `config.yaml` has the settings, `jobs.py` says which results there are, `run.py` computes one of
them, and `plot.py` draws.
"""

import keyword
import re

from experiments.pipeline.command_line import parser_of
from experiments.pipeline.job import EXPERIMENTS, FILES, ROOT

TEMPLATE = ROOT / "templates" / "experiment"


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("experiments.new", __doc__)
    parser.add_argument("name", metavar="NAME", help="lower-case letters, digits and underscores")
    name = parser.parse_args(arguments).name
    folder = EXPERIMENTS / name
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise SystemExit(
            f"Got the name {name!r}, expected lower-case letters, digits and underscores: it names a module."
        )
    if folder.exists() or folder.with_suffix(".py").exists() or keyword.iskeyword(name):
        raise SystemExit(f"There is an experiments/{name} already, or it is a word of Python. Take another name.")
    folder.mkdir()
    for file in FILES:
        (folder / file).write_text(
            (TEMPLATE / file).read_text(encoding="utf-8").replace("NAME", name), encoding="utf-8"
        )
    print(f"experiments/{name} has {', '.join(FILES)}. Next: python -m experiments.run {name} --scale tiny")


if __name__ == "__main__":
    main()
