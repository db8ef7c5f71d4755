"""Laws of the digits and of their split."""

import sys

import numpy as np
import pytest

from slax_data import check_labels, digits

sklearn_datasets = pytest.importorskip("sklearn.datasets")


@pytest.fixture(scope="module")
def original():
    return sklearn_datasets.load_digits(return_X_y=True)


@pytest.fixture(scope="module")
def splits():
    return {split: tuple(np.asarray(part) for part in digits(split=split)) for split in ("train", "test")}


def rows(intensities, labels):
    return [(*pixels, label) for pixels, label in zip((intensities * 16).astype(int).tolist(), labels, strict=True)]


def test_splits_hold_every_image_exactly_once(original, splits):
    pixels, labels = original
    train, test = (rows(*splits[split]) for split in ("train", "test"))
    assert len(set(rows(pixels / 16, labels))) == 1797  # no image comes twice in the file, so that this test can tell
    assert not set(train) & set(test)
    assert sorted(train + test) == sorted(rows(pixels / 16, labels))


def test_test_split_is_every_fifth_image_of_each_class(original, splits):
    pixels, labels = original
    for split, chosen in (("test", lambda k: k % 5 == 4), ("train", lambda k: k % 5 != 4)):
        intensities, found = splits[split]
        for label in range(10):
            of_class = pixels[labels == label]
            np.testing.assert_array_equal(intensities[found == label] * 16, of_class[chosen(np.arange(len(of_class)))])


def test_split_is_stratified(splits):
    train, test = (np.bincount(splits[split][1], minlength=10) for split in ("train", "test"))
    assert train.sum() == 1442 and test.sum() == 355
    np.testing.assert_allclose(test / (train + test), 0.2, atol=0.005)


def test_intensities_are_sixteenths_and_labels_are_digits(splits):
    for intensities, labels in splits.values():
        assert intensities.dtype == np.float32 and labels.dtype == np.int32
        np.testing.assert_array_equal(np.unique(intensities), np.arange(17) / 16)
        check_labels(labels, n_classes=10)


def test_unknown_split_is_an_error():
    with pytest.raises(ValueError, match="split got 'valid', expected one of: 'test', 'train'"):
        digits(split="valid")


def test_error_without_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'slax-data\[digits\]'"):
        digits()
