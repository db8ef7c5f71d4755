"""MNIST and Fashion-MNIST in full: 70,000 images of 28 x 28 pixels each, from idx files, as sequences or as spikes."""

import gzip
import hashlib
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32, PRNGKeyArray, UInt8

from slax_data.checks import check_choice, check_size
from slax_data.encoding.encoders import ENCODERS
from slax_data.loading import time_first
from slax_data.sets.images import check_image_code, encoded, encoded_task
from slax_data.storage.whole_files import NOT_GZIP, data_folder, download
from slax_data.task import Task, splits_of


class IdxSet(NamedTuple):
    """Where the files of a set are, packed by gzip, and the sha256 of each file after unpacking."""

    url: str
    sha256: dict[str, str]


IDX_SETS = {
    "mnist": IdxSet("https://ossci-datasets.s3.amazonaws.com/mnist", {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }),
    "fashion_mnist": IdxSet("https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion", {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    }),
}  # fmt: skip
N_CLASSES, N_PIXELS = 10, 784
# The permutation that most papers on permuted sequential MNIST use, where they name one.
ORDER = np.random.RandomState(92916).permutation(N_PIXELS)


def idx_images(
    name: str, path: str | Path | None = None, *, split: str = "train", with_validation: bool = False
) -> tuple[UInt8[np.ndarray, "D 784"], Int32[np.ndarray, " D"]]:
    """Read the images of one split of MNIST or Fashion-MNIST, in the split of their authors.

    There are 60,000 training and 10,000 test images, from the four files that the authors published. They may be packed
    (.gz) or not. The sha256 of the content of each is checked.

    Args:
        name: "mnist", handwritten digits, or "fashion_mnist", articles of clothing.
        path: the folder of the files, by default that of `download_mnist`.
        split: "train", "test" or, with `with_validation`, "validation".
        with_validation: whether the last sixth of the training images, 10,000, is the split "validation" instead, to choose
            settings by.

    Returns:
        Pixels [D, 784], row by row, 0 to 255, and labels [D], in 0..9.

    Raises:
        FileNotFoundError: no such file; the error says where to get it.
        ValueError: an unknown name or split, or a file that is truncated, damaged, renamed or of another set.

    References:
        Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition", 1998,
        doi:10.1109/5.726791; usually given as CC BY-SA 3.0. H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image
        dataset for benchmarking machine learning algorithms", 2017, arXiv:1708.07747; MIT license, Zalando SE.

    Example:
        After `download_mnist()`, `pixels, labels = idx_images("mnist")` has 60,000 images. Without the files:
        >>> from slax_data import idx_images
        >>> idx_images("mnist", "no/such/folder", split="test")
        Traceback (most recent call last):
            ...
        FileNotFoundError: There is no ...t10k-images-idx3-ubyte, packed (.gz) or not. Get it with slax_data.download_mnist(...
    """
    check_choice("data set", name, IDX_SETS)
    check_choice("split", split, splits_of(with_validation))
    folder, part = _folder(name, path), "t10k" if split == "test" else "train"
    images, digits = (_content(folder, name, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, N_PIXELS)
    labels = np.frombuffer(digits, np.uint8, offset=8).astype(np.int32)
    if not with_validation or split == "test":
        return pixels, labels
    n_train = len(labels) * 5 // 6
    rows = slice(n_train) if split == "train" else slice(n_train, None)
    return pixels[rows], labels[rows]


def download_mnist(name: str = "mnist", path: str | Path | None = None) -> Path:
    """Download the four files of MNIST (11 MB) or Fashion-MNIST (30 MB), unless they already exist, and verify them.

    MNIST comes from the mirror that PyTorch keeps, Fashion-MNIST from its authors. The files are unpacked, 55 MB; one that is
    in the folder as the site has it, packed (.gz), is unpacked there, and not downloaded.

    Args:
        name: "mnist" or "fashion_mnist".
        path: the folder to write them to, by default a folder of that name in `data_folder()`.

    Returns:
        The folder.

    Raises:
        ConnectionError: the site cannot be reached.
        ValueError: an unknown name, or a file other than the expected one.

    Example:
        `download_mnist()` fetches the files once. A file that is already there is verified:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from slax_data import download_mnist
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     size = Path(folder, "train-images-idx3-ubyte").write_bytes(b"a part of the images")
        ...     download_mnist(path=folder)
        Traceback (most recent call last):
            ...
        ValueError: ...train-images-idx3-ubyte has the wrong checksum: its sha256 is ...
    """
    check_choice("data set", name, IDX_SETS)
    folder = _folder(name, path)
    for file, sha256 in IDX_SETS[name].sha256.items():
        packed = (folder / f"{file}.gz").absolute()
        url = packed.as_uri() if packed.exists() else f"{IDX_SETS[name].url}/{file}.gz"
        download(url, folder / file, sha256=sha256, unpack=True)
    return folder


def mnist_task(
    key: PRNGKeyArray,
    *,
    n_steps: int = 28,
    code: str = "pixels",
    path: str | Path | None = None,
    with_validation: bool = False,
) -> Task:
    """MNIST as a `Task`: each image a sequence of its pixels, or spikes of one unit per pixel.

    In memory, a pixel is a byte; batches are made of it as they are drawn.

    Args:
        key: random key for the spikes of an entire split, in a code that draws them; the other codes do not use it.
        n_steps: T. It divides 784 in the first two codes: 28 are the rows of the image, 784 its pixels one by one.
        code: "pixels", 784 / T intensities in [0, 1] at a time, from left to right and from top to bottom; "permuted", the
            same with the pixels in one random order, that of NumPy's `RandomState(92916).permutation(784)`, which is common
            in papers; or a name in `ENCODERS`, such as "latency", for spikes of 784 units.
        path, with_validation: see `idx_images`.

    Raises:
        FileNotFoundError, ValueError: as `idx_images` does, or for an unknown code or number of steps.

    Example:
        After `download_mnist()`, this is permuted sequential MNIST. Without the files, the error says where to get them:
        >>> import jax
        >>> from slax_data import mnist_task
        >>> mnist_task(jax.random.key(0), n_steps=784, code="permuted", path="no/such/folder")
        Traceback (most recent call last):
            ...
        FileNotFoundError: There is no ...train-images-idx3-ubyte, packed (.gz) or not. Get it with slax_data.download_mnist(...
    """
    return _task("mnist", key, n_steps, code, path=path, with_validation=with_validation)


def fashion_mnist_task(
    key: PRNGKeyArray,
    *,
    n_steps: int = 28,
    code: str = "pixels",
    path: str | Path | None = None,
    with_validation: bool = False,
) -> Task:
    """Fashion-MNIST as a `Task`, articles of clothing in the form of `mnist_task`, which has the arguments.

    Raises:
        FileNotFoundError, ValueError: as `mnist_task` does.

    Example:
        After `download_mnist("fashion_mnist")`, this is a row of pixels at each step. Without the files:
        >>> import jax
        >>> from slax_data import fashion_mnist_task
        >>> fashion_mnist_task(jax.random.key(0), path="no/such/folder")
        Traceback (most recent call last):
            ...
        FileNotFoundError: There is no ...train-images-idx3-ubyte, packed (.gz) or not. Get it with slax_data.download_mnist(...
    """
    return _task("fashion_mnist", key, n_steps, code, path=path, with_validation=with_validation)


def _task(name: str, key: PRNGKeyArray, n_steps: int, code: str, **options: Any) -> Task:
    check_choice("code", code, ["pixels", "permuted", *ENCODERS])
    check_size("n_steps", n_steps)
    if code in ENCODERS:
        check_image_code(code, n_steps)
    elif N_PIXELS % n_steps:
        raise ValueError(f"n_steps got {n_steps}, expected a divisor of the {N_PIXELS} pixels: 28 for a row in each.")
    images = {}
    for split in splits_of(options["with_validation"]):
        pixels, labels = idx_images(name, split=split, **options)
        with jax.ensure_compile_time_eval():  # so that a task can be made inside a traced program
            images[split] = jnp.asarray(pixels), jnp.asarray(labels)
    sizes = {"n_units": N_PIXELS if code in ENCODERS else N_PIXELS // n_steps, "n_classes": N_CLASSES}
    return encoded_task(key, images, partial(_inputs, code, n_steps), n_steps=n_steps, **sizes)


def _inputs(code: str, n_steps: int, key: PRNGKeyArray, pixels: UInt8[Array, "B 784"]) -> Float32[Array, "T B N"]:
    intensities = pixels.astype(jnp.float32) / 255
    if code in ENCODERS:
        return encoded(code, n_steps, key, intensities)
    if code == "permuted":
        intensities = intensities[:, ORDER]
    return time_first(intensities.reshape(len(pixels), n_steps, -1))


def _folder(name: str, path: str | Path | None) -> Path:
    return Path(path).expanduser() if path else data_folder() / name


def _content(folder: Path, name: str, file: str) -> bytes:
    """The content of a file, unpacked, if it is that of the set."""
    expected = IDX_SETS[name].sha256[file]
    remedy = f"Get it with slax_data.download_mnist({name!r}), or from {IDX_SETS[name].url}/{file}.gz"
    found = next((one for one in (folder / file, folder / f"{file}.gz") if one.exists()), None)
    if found is None:
        raise FileNotFoundError(f"There is no {folder / file}, packed (.gz) or not. {remedy}, or give its path=.")
    content = found.read_bytes()
    try:
        content = gzip.decompress(content) if found.suffix == ".gz" else content
    except NOT_GZIP as error:
        raise ValueError(f"Got {found}, expected a whole file packed by gzip: {error}. {remedy}.") from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != expected:
        raise ValueError(f"Got {found} with the sha256 {sha256}, expected {expected}: damaged, or another. {remedy}.")
    return content
