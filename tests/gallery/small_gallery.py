"""A gallery of three figures, with a claim of every verdict, a check, and texts that try to break out of a page."""

import json
from pathlib import Path
from typing import NamedTuple

import yaml
from matplotlib.figure import Figure

from experiments.pipeline.results import Product, write_record
from gallery.__main__ import write
from gallery.content import read_content
from gallery.looks import DATA

HOSTILE = "A <b>bold</b> & 'quoted' \"claim\" | with ]]> and </script><script>document.title = 'broken'</script>."
LONG = "an_identifier_without_any_place_to_break_" * 3
TABLES = {
    "speed": (
        "task,rule,mean,low,high,values\n"
        "first,bptt,2.0,1.75,2.25,1.9 2 2.1\nfirst,otpe,1.0,0.78,1.22,0.9 1.05 1.05\nsecond,bptt,2.0,2.0,2.0,2 2 2\n"
    ),
    "alone": "rule,mean\nbptt,1\n",  # in no claims.yaml
    "memory": "rule,bytes\nbptt,4096\notpe,1024\n",
    "agreement": (
        "rule,layer,cosine,cosine_low,cosine_high,cosine_values\n"
        f"ostl,1,0.9,0.88,0.92,0.89 0.9 0.91\nostl,2,1.0,1.0,1.0,1 1 1\n{LONG},1,0.5,,,0.5\n"
    ),
}


def claim(name, left, relation, right, **more):
    about = {"id": name, "kind": "finding", "sentence": name, "source": "ours"}
    return about | {"left": left, "relation": relation, "right": right} | more


def figure(stem, title, claims):
    about = {"shows": f"What {title} shows, {LONG}", "alt": f"Curves of {title}", "published": "arXiv 2404.05807"}
    return {"stem": stem, "title": title, "claims": claims} | about


OTPE, BPTT = {"task": "first", "rule": "otpe"}, {"task": "first", "rule": "bptt"}
SECOND = {"task": "second", "rule": "bptt"}
SPEED = [
    claim("faster", OTPE, "below", {"rule": "bptt"}),
    claim("much_faster", OTPE, "below", 1.1, sentence=HOSTILE),
    claim("as_published", SECOND, "near", 2.1, margin=0.2, why="a fifth"),
]
MEMORY = [
    claim("on_paper", {"rule": "bptt", "column": "bytes"}, "above", 1, scale="paper"),
    claim("counted", {"rule": "otpe", "column": "bytes"}, "equal", 1024, kind="check"),
]
AGREEMENT = [
    claim("perfect", {"rule": "ostl", "layer": 1, "column": "cosine"}, "above", 0.95, source="doi 10.1000/182")
]
CLAIMS = {
    "cost": [figure("speed", "Speed of all rules", SPEED), figure("memory", "Memory of all rules", MEMORY)],
    "similarity": [figure("agreement", "Agreement with BPTT", AGREEMENT)],
}


class SmallGallery(NamedTuple):
    """Its files; `page`, `text` and `replication` are where they are to be written."""

    claims: list[Path]
    results: list[Path]
    figures: list[Path]
    page: Path
    text: Path
    replication: Path


def write_small_gallery(folder):
    claims, results, figures = [], [], []
    for experiment, content in CLAIMS.items():
        text = yaml.safe_dump({"figures": content})
        claims.append(written(folder / "experiments" / experiment / "claims.yaml", text))
        for task in ("first", "second"):
            path = written(folder / "results/quick" / experiment / f"{task}.json", json.dumps(result(task)))
            results += certified([path])
    for stem, table in TABLES.items():
        drawing = Figure(figsize=(7, 3))
        drawing.subplots().plot([0, 1], [0, 1])
        pictures = [folder / "figures/quick" / f"{stem}.{form}" for form in ("png", "svg")]
        figures.append(written(folder / "figures/quick" / f"{stem}.csv", table))
        for path in pictures:
            drawing.savefig(path, dpi=200)
        figures += pictures
        certified(figures[-3:])
    pages = [folder / "figures" / name for name in ("index.html", "RESULTS.md", "REPLICATION.md")]
    return SmallGallery(claims, results, figures, *pages)


def build(small, scale="quick", looks=DATA):
    """Write the page and the texts of a gallery, and return it."""
    results = {name: [path for path in small.results if path.parent.name == name] for name in CLAIMS}
    product, is_complete = Product("the page", tuple(small[3:]), {}, ()), scale == "quick"
    content = read_content(scale, small.claims, results, small.figures, is_complete=is_complete, looks=looks)
    write(product, content)
    return small


def result(task):
    config = {"scale": "quick", "task": task, "first_seed": 7, "seeds": 3, "optimizer": {"name": "sgd", "rate": 0.01}}
    return {"config": config, "seed": 7, "seeds": [{}, {}, {}], "versions": {"python": "3.11.7", "jax": "0.10.2"}}


def certified(files, **changes):
    """The files, with a record."""
    made = {"commit": "0123456789abcdef0123456789abcdef01234567", "date": "2026-01-02T03:04:05+00:00", "device": "cpu"}
    made |= {"machine": "Linux x86_64 Some Processor", "wall_seconds": 40.0} | changes
    write_record(Product("", tuple(files), {}, ()), {"made_from": "", "inputs": {}}, **made)
    return files


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
