# /// script
# requires-python = ">=3.11"
# dependencies = ["tensorflow-datasets==4.9.10", "pillow==12.0.0", "slax-data"]
#
# [tool.uv.sources]
# slax-data = { path = "../../../packages/slax-data", editable = true }
# ///
"""Small sets that TensorFlow Datasets prepares in its own format are read back, as images and as sounds, without TensorFlow."""

import os
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from slax_data import latency_encode, make_task, tfds_examples
from slax_data.audio.cochlea import Cochlea, encode_audio

sys.path.insert(0, str(Path(__file__).parents[1]))
from contract import keeps_contract

tfds.disable_progress_bar()
RATE, LENGTH, T = 4000, 2000, 20
rng = np.random.default_rng(0)
PICTURES = {split: rng.integers(0, 256, (size, 6, 5, 3), np.uint8) for split, size in (("train", 9), ("test", 6))}
SOUNDS = {
    split: [
        (9000 * np.sin(np.arange(LENGTH - 100 * k) * (first + 0.2 * (k % 2)))).astype(np.int64) for k in range(size)
    ]
    for split, size, first in (("train", 8, 0.3), ("test", 4, 0.4))
}


class SmallPictures(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    LABELS = 3
    KEYS: tuple[str, str] | None = ("image", "label")
    SHAPE: tuple[int | None, ...] = (6, 5, 3)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=self.SHAPE, encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=self.LABELS),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=self.KEYS,
        )

    def _split_generators(self, _: object) -> dict[str, Iterator]:
        return {split: self._generate_examples(split) for split in PICTURES}

    def _generate_examples(self, split: str) -> Iterator:
        for number, picture in enumerate(PICTURES[split]):
            yield number, {"image": Image.fromarray(picture), "label": number % 3}


class MoreClasses(SmallPictures):
    LABELS = 5


class NoKeys(SmallPictures):
    KEYS = None


class SeveralSizes(SmallPictures):
    SHAPE = (None, None, 3)

    def _generate_examples(self, split: str) -> Iterator:
        for number, picture in enumerate(PICTURES[split]):
            yield number, {"image": Image.fromarray(picture[: 6 - number % 2]), "label": number % 3}


class SmallSounds(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def sound(self) -> tfds.features.FeatureConnector:
        return tfds.features.Tensor(shape=(None,), dtype=np.int64)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "audio": self.sound(),
            "label": tfds.features.ClassLabel(names=["low", "high"]),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("audio", "label"),
        )

    def _split_generators(self, _: object) -> dict[str, Iterator]:
        return {split: self._generate_examples(split) for split in SOUNDS}

    def _generate_examples(self, split: str) -> Iterator:
        for number, sound in enumerate(SOUNDS[split]):
            yield number, {"audio": sound, "label": number % 2}


class NeedsTensorFlow(SmallSounds):
    def sound(self) -> tfds.features.FeatureConnector:
        return tfds.features.Audio(sample_rate=RATE)


def refuses(error: type[Exception], message: str, **options: object) -> None:
    try:
        make_task("tfds", jax.random.key(0), **options)
    except error as raised:
        assert message in str(raised), raised
    else:
        raise AssertionError(f"{options} were accepted.")


def same_sets(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    """TensorFlow Datasets writes examples in an order of its own."""
    return sorted(one.tobytes() for one in found) == sorted(one.tobytes() for one in expected)


with tempfile.TemporaryDirectory() as folder:
    for builder in (SmallPictures, MoreClasses, NoKeys, SeveralSizes, SmallSounds):
        builder(data_dir=folder, file_format="array_record").download_and_prepare()

    for split, pictures in PICTURES.items():
        examples = tfds_examples("small_pictures", split=split, path=folder)
        assert (examples.n_classes, examples.rate) == (3, None) and same_sets(examples.inputs, list(pictures))
        label_of = {picture.tobytes(): number % 3 for number, picture in enumerate(pictures)}
        assert examples.labels.tolist() == [label_of[picture.tobytes()] for picture in examples.inputs]
        intensities = np.stack(examples.inputs).reshape(len(pictures), -1) / np.float32(255)
        for code, n_steps, n_units in (("latency", T, 90), ("rate", T, 90), ("rows", 6, 15)):
            options = {"name": "small_pictures", "path": folder, "code": code, "n_steps": n_steps}
            keeps_contract(partial(make_task, "tfds", **options))
            task = make_task("tfds", jax.random.key(0), **options)
            assert (task.n_units, task.n_classes, task.n_steps) == (n_units, 3, n_steps)
            spikes, labels = task.full_split(split)
            assert labels.tolist() == examples.labels.tolist() and spikes.shape == (n_steps, len(pictures), n_units)
            if code == "latency":
                assert np.array_equal(spikes, latency_encode(jax.numpy.asarray(intensities), n_steps=T))
            elif code == "rows":
                assert np.array_equal(spikes.swapaxes(0, 1).reshape(len(pictures), -1), intensities > 0.5)

    # The reading end of a file that another program prepared: the class of the set is not known there.
    tfds.core.registered._DATASET_REGISTRY.pop("small_pictures", None)
    assert same_sets(tfds_examples("small_pictures", path=folder).inputs, list(PICTURES["train"]))
    assert len(tfds_examples("small_pictures", split="train[:3]", path=folder).labels) == 3

    cache = Path(folder) / "cache"
    heard = {"name": "small_sounds", "path": folder, "code": "cochlea", "rate": RATE, "cache": cache}
    options = heard | {"n_steps": T, "duration": 0.5, "n_channels": 8}
    task = make_task("tfds", jax.random.key(0), **options)
    (kept,) = cache.iterdir()
    made = kept.stat().st_mtime_ns
    keeps_contract(partial(make_task, "tfds", **options))
    assert [*cache.iterdir()] == [kept] and kept.stat().st_mtime_ns == made
    for number, change in enumerate(({"test": "test[:3]"}, {"duration": 0.4}, {"n_channels": 7}), 2):
        make_task("tfds", jax.random.key(0), **options | change)
        assert len([*cache.iterdir()]) == number
    (one_file,) = Path(folder).glob("small_sounds/*/*train*")
    os.utime(one_file, (0, 0))
    make_task("tfds", jax.random.key(0), **options)
    assert len([*cache.iterdir()]) == number + 1
    assert (task.n_units, task.n_classes, task.n_steps) == (8, 2, T)
    cochlea = Cochlea(n_channels=8, highest=0.45 * RATE)
    for split, sounds in SOUNDS.items():
        examples = tfds_examples("small_sounds", split=split, path=folder, rate=RATE)
        assert examples.rate == RATE and same_sets(examples.inputs, sounds)
        filled = np.stack([np.pad(sound, (0, LENGTH - len(sound))) for sound in examples.inputs]) / np.float32(32768)
        spikes, labels = task.full_split(split)
        expected = encode_audio(jax.numpy.asarray(filled, "float32"), rate=RATE, n_steps=T, cochlea=cochlea)
        assert np.array_equal(spikes, expected) and expected.any() and labels.tolist() == examples.labels.tolist()

    small = {"path": folder, "name": "small_pictures"}
    refuses(ValueError, "code of the images 'small_pictures' got 'cochlea'", code="cochlea", **small)
    refuses(ValueError, "code of the sounds 'small_sounds' got 'latency'", name="small_sounds", path=folder, rate=RATE)
    refuses(ValueError, "n_steps got 7, expected 6 for the code 'rows'", code="rows", n_steps=7, **small)
    refuses(ValueError, "must have all classes 0..4, got none of [3, 4]", name="more_classes", path=folder)
    refuses(ValueError, "got supervised_keys=None", name="no_keys", path=folder)
    refuses(ValueError, "must be of one size, got 2 sizes", name="several_sizes", path=folder)
    refuses(ValueError, "sounds of a known rate", **heard | {"rate": None})
    refuses(ImportError, "tensorflow", name="needs_tensor_flow", path=folder, code="cochlea")
    refuses(ValueError, "valid", test="valid", **small)
    refuses(FileNotFoundError, "nothing is downloaded unless asked for", name="mnist", path=folder)
    refuses(ValueError, "no_such_set", name="no_such_set", path=folder)
    # A set that was prepared as TFRecord says so here.
    (info,) = Path(folder).glob("more_classes/*/dataset_info.json")
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    refuses(ValueError, "another file format", name="more_classes", path=folder)

assert "tensorflow" not in sys.modules
