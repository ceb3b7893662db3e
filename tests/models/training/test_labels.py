"""Which class an image has."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gankern.models.training.data import open_data
from gankern.models.training.labels import folder_classes, label_array

Image = pytest.importorskip("PIL.Image", reason="image files need Pillow")


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Folders of one image of a wild animal, two cats and one dog."""
    for k, file in enumerate(["wild/a.png", "cat/b.png", "cat/a.png", "dog/x.png"]):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8), k).save(tmp_path / file)
    return tmp_path


def test_the_class_is_the_rank_of_the_folders_name(animals: Path) -> None:
    data = open_data(str(animals), cond=True)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 1, 2]
    assert data.describe() == "4 images, 8x8 grey, 3 classes by folder: cat, dog, wild"
    assert open_data(str(animals)).describe() == "4 images, 8x8 grey"


def test_dataset_json_goes_before_folders_also_where_it_says_that_there_are_no_labels(animals: Path) -> None:
    labels: Any = [["wild/a.png", 1], ["cat/b.png", 0], ["cat/a.png", 0], ["dog/x.png", 1]]
    (animals / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert open_data(str(animals), cond=True).describe() == "4 images, 8x8 grey, 2 classes"
    (animals / "dataset.json").write_text(json.dumps({"labels": None}))
    with pytest.raises(ValueError, match="has no labels"):
        open_data(str(animals), cond=True)


@pytest.mark.parametrize("files", [["a.png", "b/c.png"], ["a/b.png", "a/c.png"], ["a.png"]])
def test_images_beside_folders_or_in_a_single_one_have_no_class(files: list[str]) -> None:
    assert folder_classes(files) == []


@pytest.mark.parametrize(
    "labels",
    [
        [0, 2**20],
        [0, 2**70],
        [True, False],
        [[0.0], [float("nan")]],
        [[0.0], [1e300]],
        [[[1.0]], [[2.0]]],
        [{}, {}],
        [None, 1],
    ],
)
def test_labels_that_no_network_takes_are_refused(labels: list[Any]) -> None:
    with pytest.raises(ValueError, match="some file"):
        label_array(labels, "some file")


def test_integers_are_classes_and_lists_are_vectors() -> None:
    assert label_array([3, 0], "x").dtype == np.int64
    assert label_array([[3], [0]], "x").dtype == np.float32
