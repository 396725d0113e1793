"""Image folders are decoded by Pillow, cut and normalised as is usual for ImageNet."""

import numpy as np
import pytest

from tet_deploy.data import load
from tet_deploy.data.image_folder import IMAGENET, load_image_folder
from tet_deploy.errors import ArtifactError, DataError, DataWarning

Image = pytest.importorskip("PIL.Image", reason="decodes the images")
CLASSES = ("n01440764", "n01443537", "n02102040")


def write(root, sizes=((64, 48), (40, 80)), parts=("train", "val"), suffix=".JPEG"):
    rng = np.random.default_rng(0)
    for part in parts:
        for name in CLASSES:
            folder = root / part / name
            folder.mkdir(parents=True)
            for index, (width, height) in enumerate(sizes):
                smooth = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
                Image.fromarray(smooth).resize((width, height)).save(folder / f"{name}_{index}{suffix}", quality=95)
    return root


def denormalised(frame):
    mean, deviation = (np.array(values)[:, None, None] for values in (IMAGENET.mean, IMAGENET.deviation))
    return (frame * deviation + mean) * 255


def test_an_imagenet_folder_is_a_data_set(tmp_path):
    """Classes are folders in the order of their names; val/ is the test; frames are still images."""
    write(tmp_path / "imagenet")
    data = load("imagenet", steps=4, root=tmp_path, size=32, partial=True)
    assert (data.shape, data.steps, data.encoding, data.classes) == ((3, 32, 32), 4, "analog", 3)
    assert data.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    frames, label = data.train[5]
    assert (frames.shape, frames.strides[0], label) == ((4, 3, 32, 32), 0, 2)
    assert len(data.split_hash) == 64


def test_test_images_are_the_middle(tmp_path):
    """The shorter side becomes 256/224 of the size, and the middle is cut out."""
    write(tmp_path, suffix=".png")
    frame = load_image_folder(root=tmp_path, steps=1, size=28).test[0][0][0]
    with Image.open(tmp_path / "val" / CLASSES[0] / f"{CLASSES[0]}_0.png") as image:  # 64x48 becomes 43x32
        expected = np.asarray(image.resize((43, 32), Image.Resampling.BILINEAR)).transpose(2, 0, 1)[:, 2:30, 7:35]
    np.testing.assert_allclose(denormalised(frame), expected, atol=1e-3)  # float32


def test_training_images_are_windows(tmp_path):
    """A crop of a picture that changes from left to right and top to bottom still does, over at most its range."""
    for part in ("train", "val"):
        (tmp_path / part / "one").mkdir(parents=True)
        ramp = np.stack([*np.meshgrid(np.arange(200), np.arange(200)), np.zeros((200, 200))], axis=-1).astype(np.uint8)
        Image.fromarray(ramp).save(tmp_path / part / "one" / "0.png")
    data = load_image_folder(root=tmp_path, steps=1, size=32, augmentation={"resized_crop": True})
    areas, shapes = [], []
    for epoch in range(200):
        red, green, blue = denormalised(data.train.at_epoch(epoch)[0][0][0])
        assert np.abs(blue).max() < 0.01
        width, height = (32 / 31 * (edge.max() - edge.min()) for edge in (red, green))
        assert (np.diff(red, axis=1) > -0.01).all()
        areas.append(width * height / 200**2)
        shapes.append(width / height)
    assert 0.06 < min(areas) < 0.15  # 8 %, and what interpolation between whole grey levels takes and gives
    assert 0.85 < max(areas) <= 1.05
    assert 0.7 < min(shapes) < 0.82
    assert 1.22 < max(shapes) < 1.42


def test_a_flip_comes_on_top(tmp_path):
    """With flip alone, training images are the middle or its mirror image."""
    write(tmp_path)
    plain = load_image_folder(root=tmp_path, steps=1, size=32).train[0][0]
    flipped = load_image_folder(root=tmp_path, steps=1, size=32, augmentation={"flip": True})
    found = [flipped.train.at_epoch(epoch)[0][0] for epoch in range(20)]
    mirrored = sum(np.array_equal(one, plain[..., ::-1]) for one in found)
    assert mirrored + sum(np.array_equal(one, plain) for one in found) == 20
    assert 0 < mirrored < 20


def test_grey_and_transparent_images_become_rgb(tmp_path):
    """Every mode that Pillow decodes gives three channels."""
    write(tmp_path)
    for mode in ("L", "RGBA", "P", "CMYK"):
        suffix = "jpg" if mode == "CMYK" else "png"
        Image.new(mode, (40, 40), 3).save(tmp_path / "train" / CLASSES[0] / f"{mode}.{suffix}")
    data = load_image_folder(root=tmp_path, steps=1, size=16)
    assert all(frames.shape == (1, 3, 16, 16) for frames, _ in data.train)


def test_a_missing_set_says_where_to_get_it_and_where_to_put_it(tmp_path):
    """The page and the folder stand in the error; 1000 classes are needed unless asked otherwise."""
    with pytest.raises(DataError, match=rf"{tmp_path / 'imagenet'}.*image-net\.org"):
        load("imagenet", steps=4, root=tmp_path)
    write(tmp_path / "imagenet")
    with pytest.raises(DataError, match=r"needs 1000 classes; .*holds 3"):
        load("imagenet", steps=4, root=tmp_path)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: (root / "val").rename(root / "other"), "needs a folder val or test"),
        (lambda root: (root / "val" / CLASSES[2]).rename(root / "val" / "n0"), "class 'n0' must have images in both parts"),
        (lambda root: [path.unlink() for path in (root / "val" / CLASSES[1]).iterdir()], "holds no image"),
        (lambda root: [path.rename(root / path.name) for path in (root / "val").iterdir()], "val: holds no class"),
    ],
)
def test_folders_that_are_no_data_set_are_named(tmp_path, prepare, message):
    """A part that is missing, a class in one part only, one without images."""
    root = write(tmp_path)
    prepare(root)
    with pytest.raises(DataError, match=message):
        load_image_folder(root=root, steps=1, size=16)


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_damaged_image_is_named(tmp_path, content):
    """The file's name, when it is read."""
    write(tmp_path)
    path = tmp_path / "train" / CLASSES[0] / f"{CLASSES[0]}_0.JPEG"
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    with pytest.raises(ArtifactError, match=rf"{path.name}: cannot be read as an image"):
        load_image_folder(root=tmp_path, steps=1, size=16).train[0]


def test_files_that_are_no_images_are_counted(tmp_path):
    """A .webp beside the images is left out, and told in one line."""
    root = write(tmp_path / "own")
    (root / "train" / CLASSES[0] / "more.webp").write_bytes(b"")
    with pytest.warns(DataWarning, match=r"^own: files that are no JPEG or PNG, left out: 1, such as .*more\.webp\.$"):
        data = load_image_folder(root=root, steps=2, size=16)
    assert [repair.total for repair in data.repairs.values()] == [1]
