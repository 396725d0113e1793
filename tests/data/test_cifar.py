"""CIFAR is read from its makers' folders, normalised, and shown at every step."""

import numpy as np
import pytest

from tet_deploy.data import load
from tet_deploy.data.cifar import CIFAR
from tet_deploy.errors import DataError

RNG = np.random.default_rng(0)


def write_cifar10(root):
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    written = {}
    for name in (*(f"data_batch_{index}.bin" for index in range(1, 6)), "test_batch.bin"):
        images = RNG.integers(0, 256, (4, 3, 32, 32)).astype(np.uint8)
        labels = RNG.integers(0, 10, 4)
        records = zip(labels.tolist(), images, strict=True)
        (folder / name).write_bytes(b"".join(bytes([label]) + image.tobytes() for label, image in records))
        written[name] = images, labels
    return written


def normalised(images, name="cifar10"):
    about = CIFAR[name].normalisation
    mean, deviation = (np.array(values)[:, None, None] for values in (about.mean, about.deviation))
    return (images / 255 - mean) / deviation


def test_batches_follow_one_another(tmp_path):
    """The five training files in their order, then the test file; each image normalised, at every step, encoded once."""
    written = write_cifar10(tmp_path)
    data = load("cifar10", steps=6, root=tmp_path, partial=True)
    assert (data.shape, data.steps, data.encoding, data.classes) == ((3, 32, 32), 6, "analog", 10)
    images, labels = (np.concatenate(parts) for parts in zip(*list(written.values())[:5], strict=True))
    for source, pixels, classes in ((data.train, images, labels), (data.test, *written["test_batch.bin"])):
        assert source.static
        np.testing.assert_array_equal(source.labels, classes)
        frames = source.frames()
        assert frames.strides[0] == 0
        np.testing.assert_allclose(frames[5], normalised(pixels), atol=1e-5)  # float32 against float64


def test_the_crop_is_padded_with_black(tmp_path):
    """Zeros are added before normalisation: each training frame is a normalised window of the black-padded image."""
    written = write_cifar10(tmp_path)
    data = load("cifar10", steps=1, root=tmp_path, partial=True, augmentation={"crop_padding": 4}, seed=3)
    padded = normalised(np.pad(written["data_batch_1.bin"][0][1], ((0, 0), (4, 4), (4, 4))))
    windows = [padded[:, top : top + 32, left : left + 32] for top in range(9) for left in range(9)]
    for epoch in range(5):
        frame = data.train.at_epoch(epoch)[1][0][0]
        assert min(np.abs(window - frame).max() for window in windows) < 1e-5  # float32 against float64


def test_cifar100_is_read_by_its_fine_labels(tmp_path):
    """Two label bytes; one file a part."""
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    for name, count in (("train.bin", 100), ("test.bin", 3)):
        (folder / name).write_bytes(b"".join(bytes([label % 20, label]) + bytes(3072) for label in range(count)))
    data = load("cifar100", steps=2, root=tmp_path, partial=True)
    assert (data.classes, len(data.train), data.test.labels.tolist()) == (100, 100, [0, 1, 2])


def test_the_hash_is_the_labels(tmp_path):
    """Other labels make another hash; the seed does not."""
    write_cifar10(tmp_path)
    first = load("cifar10", steps=1, root=tmp_path, partial=True)
    assert load("cifar10", steps=1, root=tmp_path, partial=True, seed=1).split_hash == first.split_hash
    batch = tmp_path / "cifar-10-batches-bin/test_batch.bin"
    batch.write_bytes(bytes([(batch.read_bytes()[0] + 1) % 10]) + batch.read_bytes()[1:])
    assert load("cifar10", steps=1, root=tmp_path, partial=True).split_hash != first.split_hash


@pytest.mark.parametrize("name", CIFAR)
def test_a_missing_set_says_where_to_get_it_and_where_to_put_it(tmp_path, name):
    """The page and the folder stand in the error."""
    with pytest.raises(DataError) as caught:
        load(name, steps=1, root=tmp_path)
    for part in ("cs.toronto.edu", str(tmp_path / CIFAR[name].binary_folder), "TET_DEPLOY_DATA"):
        assert part in str(caught.value)


def test_an_incomplete_set_is_refused_unless_asked_for(tmp_path):
    """A missing file is named, and so are too few images."""
    write_cifar10(tmp_path)
    with pytest.raises(DataError, match=r"needs 50000 images \(train\).*holds 20"):
        load("cifar10", steps=1, root=tmp_path)
    (tmp_path / "cifar-10-batches-bin/data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"found no .*data_batch_3\.bin"):
        load("cifar10", steps=1, root=tmp_path)
    assert len(load("cifar10", steps=1, root=tmp_path, partial=True).train) == 16
