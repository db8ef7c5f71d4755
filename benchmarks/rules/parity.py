"""Compare the direction of each contender's gradient with the textbook rules on a small net, and print a Markdown table.

    python -m benchmarks.rules.parity > results/benchmarks/rules_parity.md

Cells are cosines to the gradient of each rule, one per layer, starting with the first; the last column is the norm of each
layer's gradient relative to BPTT.
"""

import argparse

import numpy as np
from tqdm import tqdm

from benchmarks.side_by_side.contenders import BenchmarkError, Contender, contenders
from benchmarks.side_by_side.process import Process
from benchmarks.side_by_side.tables import markdown
from benchmarks.side_by_side.workload import uniform

REFERENCES = ["textbook:bptt", "textbook:ostl", "textbook:ottt", "textbook:sltt"]
NET = uniform(128, 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", nargs="+", default=[], help="names such as jaxpike, all its variants, or slax:ostl")
    chosen = contenders("rules", parser.parse_args().peers)
    references = {contender.name: gradient(contender) for contender in contenders("rules", REFERENCES)}
    rows, errors = [], []
    for contender in tqdm(chosen):
        try:
            layers = gradient(contender)
            cells = [per_layer(cosine, layers, references[name]) for name in REFERENCES]
            rows.append([contender.name, *cells, per_layer(size, layers, references["textbook:bptt"])])
        except BenchmarkError as failure:
            rows.append([contender.name, *["failed"] * len(REFERENCES), ""])
            errors.append(f"{contender.name} failed: `{failure}`")
    header = ["", *(name.removeprefix("textbook:") for name in REFERENCES), "norm / that of bptt"]
    print("\n\n".join([markdown(header, rows), *errors]))


def gradient(contender: Contender) -> list[np.ndarray]:
    process = Process(contender, NET)
    process.wait_until_ready()
    process.first_step()
    layers = process.gradient()
    process.close()
    return [np.asarray(layer) for layer in layers]


def per_layer(measure, layers, others) -> str:
    return " ".join(f"{measure(layer, other):.3f}" for layer, other in zip(layers, others, strict=True))


def cosine(layer, other) -> float:
    return layer @ other / (np.linalg.norm(layer) * np.linalg.norm(other))


def size(layer, other) -> float:
    return np.linalg.norm(layer) / np.linalg.norm(other)


if __name__ == "__main__":
    main()
