"""The runs of a `sweep` in files, which a later call reads in place of training them again.

A file has the losses of a run, and the arrays of model and rule after each number of batches at which it is evaluated. It has
no scores, so another call may have another metric and other held-out samples.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import operator
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

from slax_rules.loop import trained_together
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
from slax_rules.train.batches import Sampler, epoch_batches
from slax_rules.train.checkpoints import describe_batch, describe_choice, describe_run, digest_of
from slax_rules.train.runs import Run
from slax_rules.train.sweep_training import Objects, Training, of_network

LOSSES = "losses"  # the member of a file
UPDATES = "norms of the optimizer's first updates"  # the setting that is compared with a tolerance
HOUR = 3600  # in seconds; no process takes as long to write a file

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
        """Read all runs of these points and seeds; the directory of another sweep is refused before anything is trained.

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
        """The run of a rule, a point and a seed, which is trained and written unless it was read, or another process wrote it
        since then."""
        path = self.path(rule, point, seed)
        if path in self.runs:
            return self.runs[path]
        if path.exists():
            return self.restored(path, (rule, point, seed), *self.stream(seed))
        objects = self.start(rule, point, seed)
        run, last = self.train(objects, rule, point, seed)
        self.write(path, run, self.identity(objects, rule, len(run.losses), last))
        return run

    def path(self, rule: str, point: Mapping[str, Any], seed: int) -> Path:
        """The file of a run, named by its rule, point and seed, and by a digest of them."""
        try:
            name = json.dumps([rule, dict(point), seed], sort_keys=True, default=operator.methodcaller("item"))
        except (TypeError, ValueError, AttributeError):
            raise TypeError(f"sweep got the point {dict(point)}, expected numbers and strings, to save it.") from None
        text = re.sub(r"\W+", "-", name).strip("-")[:80]
        return self.folder / f"{text}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}.npz"

    def stream(self, seed: int) -> tuple[int, Any]:
        """The number of batches of a seed, and the last one; of a sampler, no other is drawn."""
        if isinstance(self.batches, Sampler):
            return self.batches.steps, self.batches.batch(seed, self.batches.steps - 1)
        count, last = 0, None
        for batch in epoch_batches(self.batches)(seed):
            count, last = count + 1, batch
        return count, last

    def identity(self, objects: Objects, rule: str, count: int, last: Any) -> Identity:
        """What a run that is read has to agree with: what `describe_run` finds, the loss by name, the weights at the start, the
        arrays and first updates of the optimizer, the number of batches and the last one, unless they come from a loader, which
        may have another order."""
        is_loader = not (callable(self.batches) or isinstance(self.batches, list | tuple))
        settings: dict[str, Any] = {
            "update": self.update,
            "window": self.windows[rule],
            "loss": describe_choice(self.loss_fn),
            "evaluate_at": [step for step in self.evaluate_at if step != count],
            "batches": count,
            "last batch": None if is_loader else describe_batch(last),
            "weights at the start": digest_of(filled(nnx.state(objects[:2])).values()),
            UPDATES: first_updates(objects),
            **described(filled({"optimizer": nnx.state(objects[2])})),
        }
        return describe_run(*objects[:2], **settings)

    def restored(self, path: Path, run: Key, count: int, last: Any) -> Run:
        """The run that a file holds; `count` and `last` are the number of batches of its seed and the last one."""
        rule, point, seed = run
        objects = self.start(rule, point, seed)
        steps, mine = sorted({*self.evaluate_at, count}), self.identity(objects, rule, count, last)
        trees = dict.fromkeys(map(str, steps), of_network(nnx.state(objects)))
        damaged = f"The run {path} is damaged", "Delete the file, and it is trained again."
        with readable(*damaged):
            about, expected = read_about(path), described(filled(trees))
            settings, arrays = about["types"] | about["settings"], about["arrays"]
            expected[LOSSES] = arrays[LOSSES]
            if np.isclose(settings.get(UPDATES, -1.0), mine["settings"][UPDATES], rtol=1e-5, equal_nan=True).all():
                settings[UPDATES] = mine["settings"][UPDATES]
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
        """Write a run that was trained, and remove what an earlier process left that was killed while it wrote.

        Raises:
            OSError: it could not be written, and no other process wrote it.
        """
        for part in self.folder.glob(f".{path.name}.*.part"):
            with suppress(FileNotFoundError):  # if another process finished or removed it
                if time.time() - part.stat().st_mtime > HOUR:
                    part.unlink()
        trees = {str(step): nnx.state(run.network(step)) for step in run.steps}
        try:
            write_archive(path, "A run of sweep", mine, {LOSSES: run.losses, **filled(trees)})
        except OSError:
            if not path.exists():
                raise


def first_updates(objects: Objects) -> list[float]:
    """The norms of the first two updates of an optimizer, at a rate of 1, for weights w at the start and the gradients w / 100
    and -100 w: a small one shows weight decay, and a large one clipping.

    They differ between transformations whose states have the same arrays, such as adam and adamw, or two decays of adam.
    """
    model, rule, optimizer = objects
    weights = nnx.as_pure(nnx.state(trained_together(model, rule), nnx.Param))
    return [float(norm) for norm in _norms_of_updates(optimizer.tx, weights)]


@functools.partial(jax.jit, static_argnums=0)
def _norms_of_updates(transformation: optax.GradientTransformation, weights: Any) -> list[Array]:
    state, norms = transformation.init(weights), []
    for scale in (0.01, -100.0):
        gradient = jax.tree.map(lambda weight, scale=scale: scale * weight, weights)
        updates, state = transformation.update(gradient, state, weights)
        norms.append(optax.tree.norm(updates))
    return norms
