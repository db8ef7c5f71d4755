"""The runs of a `sweep` in files, which a later call reads in place of training them again.

A file has the losses of a run, and the arrays of model and rule after each number of batches at which it is evaluated. It has
no scores, so another call may have another metric and other held-out samples.
"""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from slax_rules.train.archives import (
    described,
    differences,
    filled,
    prepare_folder,
    read_about,
    read_arrays,
    readable,
    with_arrays,
    write_archive,
)
from slax_rules.train.batches import epoch_batches
from slax_rules.train.checkpoints import describe_batch, describe_run, digest_of
from slax_rules.train.runs import Run
from slax_rules.train.sweep_training import Objects, Training, of_network

LOSSES = "losses"  # the member of a file

Identity = dict[str, dict[str, Any]]
Key = tuple[str, Mapping[str, Any], int]  # the rule, the point and the seed of a run


@dataclasses.dataclass(frozen=True)
class SavedTraining(Training):
    """A training that writes each run into a file of a folder, and reads the runs that are there.

    Args:
        folder: the folder, as an absolute path.
        runs: the runs that were read, by file.
    """

    folder: Path
    runs: dict[Path, Run] = dataclasses.field(default_factory=dict)

    def read(self, points: Iterable[Mapping[str, Any]], seeds: Iterable[int]) -> None:
        """Read all runs of these points and seeds, so that another sweep is refused before anything is trained.

        Raises:
            OSError: a folder that cannot be written to.
            TypeError: a setting that has no name of its own.
            ValueError: the run of another sweep, or a file that is damaged.
        """
        prepare_folder("The runs of sweep", self.folder)
        streams: dict[int, tuple[int, Any]] = {}
        for run in itertools.product(self.rules, points, seeds):
            if (path := self.path(*run)).exists():
                streams[run[2]] = streams.get(run[2]) or self.stream(run[2])
                self.runs[path] = self.restored(path, run, *streams[run[2]])

    def run(self, rule: str, point: Mapping[str, Any], seed: int) -> Run:
        """The run of a rule, a point and a seed, which is trained and written unless it was read."""
        path = self.path(rule, point, seed)
        if path in self.runs:
            return self.runs[path]
        objects = self.start(rule, point, seed)
        run, last = self.train(objects, rule, point, seed)
        self.write(path, run, self.identity(objects, rule, len(run.losses), last))
        return run

    def path(self, rule: str, point: Mapping[str, Any], seed: int) -> Path:
        """The file of a run, named by its rule, point and seed, and by a digest of them."""
        try:
            name = json.dumps([rule, dict(point), seed], sort_keys=True, default=_plain)
        except TypeError:
            raise TypeError(
                f"sweep got the point {dict(point)}, expected numbers, strings and tuples of them as settings of runs that are "
                "saved in a directory: give them names, which make_model maps to what they stand for."
            ) from None
        text = re.sub(r"\W+", "-", name).strip("-")[:80]
        return self.folder / f"{text}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}.npz"

    def stream(self, seed: int) -> tuple[int, Any]:
        """The number of batches of a seed, and the last one."""
        count, last = 0, None
        for batch in epoch_batches(self.batches)(seed):
            count, last = count + 1, batch
        return count, last

    def identity(self, objects: Objects, rule: str, count: int, last: Any) -> Identity:
        """What a run that is read has to agree with: what `describe_run` finds, the weights at the start, the arrays of the
        optimizer, the number of batches and the last one, unless they come from a loader, which may have another order."""
        is_loader = not (callable(self.batches) or isinstance(self.batches, list | tuple))
        settings: dict[str, Any] = {
            "update": self.update,
            "window": self.windows[rule],
            "evaluate_at": sorted({*self.evaluate_at}),
            "batches": count,
            "last batch": None if is_loader else describe_batch(last),
            "weights at the start": digest_of(filled(nnx.state(objects[:2])).values()),
            **described(filled({"optimizer": nnx.state(objects[2])})),
        }
        return describe_run(*objects[:2], **settings)

    def restored(self, path: Path, run: Key, count: int, last: Any) -> Run:
        """The run in a file, of a seed with so many batches."""
        rule, point, seed = run
        objects = self.start(rule, point, seed)
        steps, mine = sorted({*self.evaluate_at, count}), self.identity(objects, rule, count, last)
        trees = dict.fromkeys(map(str, steps), of_network(nnx.state(objects)))
        damaged = f"The run {path} is damaged", "Delete the file, and it is trained again."
        with readable(*damaged):
            about, expected = read_about(path), described(filled(trees))
            settings, arrays = about["types"] | about["settings"], about["arrays"]
            expected[LOSSES] = arrays[LOSSES]
        differing = differences(settings, mine["types"] | mine["settings"]) or differences(arrays, expected)
        if differing:
            raise ValueError(
                f"The directory {self.folder} has a run of this rule, rate, setting and seed from another sweep: {differing}. "
                "Make model, rule, optimizer and batches as they were, use another directory, or delete this one."
            )
        with readable(*damaged):
            found = read_arrays(path, arrays)
            states = with_arrays(trees, found)
        kept = {step: states[str(step)] for step in steps}
        return Run.of(rule, point, seed, found[LOSSES], nnx.graphdef(objects[:2]), kept)

    def write(self, path: Path, run: Run, mine: Identity) -> None:
        """Write a run that was trained, and remove what an earlier one left that was killed while it wrote.

        Raises:
            OSError: it could not be written.
        """
        for left_over in self.folder.glob(f".{path.name}.*.part"):
            left_over.unlink()
        trees = {str(step): nnx.state(run.network(step)) for step in run.steps}
        write_archive(path, "A run of sweep", mine, {LOSSES: run.losses, **filled(trees)})


def _plain(value: Any) -> Any:
    """A number of NumPy as one of Python."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError
