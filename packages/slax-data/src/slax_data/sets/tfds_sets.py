"""Image and sound sets from TensorFlow Datasets as a task. Only sets with an Audio feature need TensorFlow."""

from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32, PRNGKeyArray, Shaped

from slax_data.audio.hearing import encode_batch, make_cochlea
from slax_data.audio.sounds import Sound
from slax_data.checks import check_choice, check_labels, check_size
from slax_data.sets.images import ROW_CODES, Images, image_task
from slax_data.storage.packed import SpikeTrains, cached_sets
from slax_data.storage.whole_files import resolve_folder
from slax_data.task import SPLITS, Task, stored_task

CODES = (*ROW_CODES, "cochlea")
FORMAT = "array_record"


class Examples(NamedTuple):
    """The examples of one split.

    Args:
        inputs: D images [H, W, C] or sounds [L], integers or floats, as they are stored.
        labels: classes, [D].
        n_classes: number of classes in the set.
        rate: samples per second of sounds, None for images.
    """

    inputs: list[Shaped[np.ndarray, "..."]]
    labels: Int32[np.ndarray, " D"]
    n_classes: int
    rate: int | None


class StoredSet(NamedTuple):
    """An available data set whose examples have not been read yet.

    Args:
        name: name as requested.
        builder: builder of TensorFlow Datasets.
        inputs_name, labels_name: names of the features.
        n_classes, rate: see `Examples`.
    """

    name: str
    builder: Any
    inputs_name: str
    labels_name: str
    n_classes: int
    rate: int | None


def tfds_examples(
    name: str,
    *,
    split: str = "train",
    path: str | Path | None = None,
    download: bool = False,
    rate: int | None = None,
) -> Examples:
    """Read a TensorFlow Datasets set in which each example has an image or a sound, and a class.

    Args:
        name: name of the set, such as "mnist" or "speech_commands:0.0.3".
        split: split of the set, such as "train", "validation" or "train[:10%]".
        path: folder of the sets, by default the one used by TensorFlow Datasets: TFDS_DATA_DIR, or else ~/tensorflow_datasets.
        download: True to download and prepare the set if it is missing. Preparing some sets needs TensorFlow; reading needs
            it only for sets with an Audio feature.
        rate: samples per second of sounds, where the set does not state it.

    Raises:
        ImportError: tensorflow_datasets is missing.
        FileNotFoundError: the set is missing, and `download` is False.
        ValueError: an unknown set or split, a set with other features or another file format, or a split without labels.

    Example:
        With `download=True`, the set is fetched and prepared if it is missing. By default, nothing is downloaded:
        >>> import tempfile
        >>> from slax_data import tfds_examples
        >>> with tempfile.TemporaryDirectory() as empty:
        ...     try:
        ...         examples = tfds_examples("mnist", split="train[:10%]", path=empty)
        ...     except (ImportError, FileNotFoundError):
        ...         print("tensorflow_datasets is not installed, or the set is not there")
        tensorflow_datasets is not installed, or the set is not there
    """
    return _examples(_stored_set(name, path, download, rate), split)


def tfds_task(
    key: PRNGKeyArray,
    *,
    name: str = "mnist",
    n_steps: int = 50,
    code: str = "latency",
    path: str | Path | None = None,
    train: str = "train",
    test: str = "test",
    download: bool = False,
    rate: int | None = None,
    duration: float = 1.0,
    n_channels: int = 70,
    cache: str | Path | None = None,
) -> Task:
    """A set from TensorFlow Datasets as a `Task`.

    All images must have the same size; their pixels are divided by the largest number of their type, and each channel of a
    pixel is a unit. Sounds are encoded by a cochlea up to 3,600 Hz, or to 0.45 of their rate if that is less, and their spikes
    are kept in a file whose name identifies what they depend on.

    Args:
        key: random key for the spikes of an entire split, in the rate code; the other codes do not use it.
        name, path, download, rate: see `tfds_examples`.
        n_steps: time steps T; at least 2 for the latency code, the height of the images for rows.
        code: a name in `ENCODERS`, or "rows", for images (see `image_task`); "cochlea" for sounds (see `encode_audio`).
        train, test: the splits of the set for training and testing, such as "train[:90%]".
        duration: seconds of each sound that are encoded.
        n_channels: number of neurons of the cochlea.
        cache: folder for the spikes of sounds, by default `data_folder()`.

    Raises:
        ImportError, FileNotFoundError, ValueError: the errors of `tfds_examples`; a code for the other kind of set, images of
            different sizes, sounds with several channels, or the errors of `image_task` and `encode_audio`.

    Example:
        Where tensorflow_datasets is installed, `tfds_task(key, name="mnist", code="rows", n_steps=28, download=True)`
        has 28 units. Options are checked before the set is looked up:
        >>> import jax
        >>> from slax_data import tfds_task
        >>> tfds_task(jax.random.key(0), name="mnist", code="delta")
        Traceback (most recent call last):
            ...
        ValueError: code got 'delta', expected one of: 'cochlea', 'latency', 'phase', 'poisson', 'rate', 'rows'.
    """
    check_choice("code", code, CODES)
    check_size("n_steps", n_steps)
    stored = _stored_set(name, path, download, rate)
    chosen = dict(zip(SPLITS, (train, test), strict=True))
    if stored.rate is None:
        check_choice(f"code of the images {name!r}", code, ROW_CODES)
        examples = {split: _examples(stored, its) for split, its in chosen.items()}
        images = {split: _images(one, name) for split, one in examples.items()}
        height = len(examples["train"].inputs[0])
        return image_task(key, images, n_classes=stored.n_classes, n_steps=n_steps, code=code, height=height)
    check_choice(f"code of the sounds {name!r}", code, ["cochlea"])
    options: dict[str, Any] = {
        "n_steps": n_steps,
        "duration": duration,
        "cochlea": make_cochlea(stored.rate, n_channels),
    }

    def encoded() -> dict[str, SpikeTrains]:
        examples = {split: _examples(stored, its) for split, its in chosen.items()}
        return {split: encode_batch(_sounds(one, name), one.labels, **options) for split, one in examples.items()}

    depends_on = [sorted(options.items()), chosen, stored.rate, *_stamp(stored.builder)]
    return stored_task(
        cached_sets(resolve_folder(cache), f"tfds_{stored.builder.name}", depends_on, encoded),
        n_classes=stored.n_classes,
        padding="silence",
    )


def _stored_set(name: str, path: str | Path | None, download: bool, rate: int | None) -> StoredSet:
    builder = _builder(name, path, download)
    inputs_name, labels_name = _supervised_keys(builder, name)
    features = builder.info.features
    labels_feature = features[labels_name]
    is_image = type(features[inputs_name]).__name__ == "Image"
    own_rate = getattr(features[inputs_name], "sample_rate", None)
    if rate and own_rate and rate != own_rate:
        raise ValueError(f"rate got {rate} Hz, but the sounds of {name!r} have {own_rate} Hz. Leave it out.")
    rate = None if is_image else own_rate or rate
    if not (is_image or rate) or not hasattr(labels_feature, "num_classes"):
        raise ValueError(
            f"The set {name!r} must have images, or sounds of a known rate, and classes, got {features[inputs_name]} and "
            f"{labels_feature}."
        )
    return StoredSet(name, builder, inputs_name, labels_name, labels_feature.num_classes, rate)


def _examples(stored: StoredSet, split: str) -> Examples:
    try:
        examples = list(stored.builder.as_data_source(split=split))
    except NotImplementedError as error:
        raise ValueError(
            f"The set {stored.name!r} exists in another file format. Prepare it with file_format={FORMAT!r} in another "
            "folder."
        ) from error
    labels = np.array([example[stored.labels_name] for example in examples], np.int32)
    check_labels(labels, n_classes=stored.n_classes)
    inputs = [np.asarray(example[stored.inputs_name]) for example in examples]
    return Examples(inputs, labels, stored.n_classes, stored.rate)


def _stamp(builder: Any) -> list[Any]:
    """Values that change with the set: its name and version, its folder, and the names, sizes and times of its files."""
    files = sorted((file.name, file.stat()) for file in builder.data_path.iterdir())
    return [builder.info.full_name, str(builder.data_path), [(name, it.length, it.mtime) for name, it in files]]


def _builder(name: str, path: str | Path | None, download: bool) -> Any:
    try:
        import PIL  # noqa: F401 - it decodes the images where TensorFlow is missing
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            "tensorflow_datasets or pillow is not installed. Install them: pip install 'slax-data[tfds]' (TensorFlow is not "
            "needed)."
        ) from error
    try:
        builder = tfds.builder(name, data_dir=path)
    except ImportError as error:
        raise ImportError(
            f"The set {name!r} needs more than tensorflow_datasets: {error}. Install that, too."
        ) from error
    if download:
        builder.download_and_prepare(file_format=FORMAT)
    if not builder.is_prepared():
        raise FileNotFoundError(
            f"The set {name!r} is not in {builder.data_dir}, and nothing is downloaded unless asked for. Give download=True, "
            f"or prepare it: tfds.builder({name!r}).download_and_prepare(file_format={FORMAT!r})."
        )
    return builder


def _supervised_keys(builder: Any, name: str) -> tuple[str, str]:
    keys = builder.info.supervised_keys
    if not keys or len(keys) != 2 or not all(isinstance(one, str) for one in keys):
        raise ValueError(f"The set {name!r} must name its input and its label, got supervised_keys={keys}.")
    return keys


def _images(examples: Examples, name: str) -> Images:
    shapes = {image.shape for image in examples.inputs}
    if len(shapes) != 1:
        raise ValueError(
            f"The images of {name!r} must be of one size, got {len(shapes)} sizes, as {sorted(shapes)[:3]}."
        )
    pixels = np.stack(examples.inputs).reshape(len(examples.inputs), -1)
    largest = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1
    return jnp.asarray(pixels / np.float32(largest), jnp.float32), jnp.asarray(examples.labels)


def _sounds(examples: Examples, name: str) -> list[Sound]:
    if deep := {sound.ndim for sound in examples.inputs} - {1}:
        raise ValueError(f"The sounds of {name!r} must have one channel, [L], got arrays with {sorted(deep)} axes.")
    # A cochlea scales each sound to the same loudness, so the number of bits per sample does not matter.
    sounds = [np.asarray(sound) for sound in examples.inputs]
    scaled = [x.astype(np.float32) / (32768 if np.issubdtype(x.dtype, np.integer) else 1) for x in sounds]
    return [Sound(sound, examples.rate or 0) for sound in scaled]
