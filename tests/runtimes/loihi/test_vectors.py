"""A bundle proves by its golden vectors that it gives the integers that it gave where it was exported."""

import json
import subprocess
import sys

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy import testing
from tet_deploy.errors import ArtifactError, DataError
from tet_deploy.links.vectors import opened_vectors
from tet_deploy.vectors import golden_vectors


def quantized(seed=5, **options):
    return testing.random_quantized_network(np.random.default_rng(seed), **options)


@pytest.fixture
def bundle(tmp_path):
    return td.export(quantized(encoding="events", layers=2), tmp_path / "net.lava", to="lava", vectors=3)


def run_check(bundle, *words, python=sys.executable):
    done = subprocess.run([python, "-E", bundle / "run.py", "--check", *words], capture_output=True, text=True)
    return done.returncode, done.stdout.strip(), done.stderr


def recorded(bundle):
    """What the numpy engine gives for the vectors, as a recording that may be changed."""
    frames, recording = bundle.parent / "frames.npy", bundle.parent / "recording.npz"
    with np.load(bundle / "vectors.npz") as arrays:
        np.save(frames, arrays["frames"])
    subprocess.run([sys.executable, "-E", bundle / "run.py", frames, recording, "--engine", "numpy"], check=True)
    with np.load(recording) as arrays:
        return dict(arrays)


def test_a_bundle_proves_itself_where_it_arrives(bundle, lava_python):
    """`run.py --check` on numpy, on Lava and on Lava's own models: 0 values differ, exit code 0, one line."""
    for words, python in ((["--engine", "numpy"], sys.executable), ([], lava_python.path), (["--stock"], lava_python.path)):
        code, said, errors = run_check(bundle, *words, python=python)
        assert code == 0, errors
        assert said.startswith("0 of ") and "values differ: 3 samples of 4 steps, engine" in said
        assert said.endswith("inputs: random, event counts of mean 0.4, seed 0; 2 of 2 populations fire")
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("spikes/layer1.lif", "first: spike of 'layer1.lif', sample 1, step 2, position ("),
        ("potentials/layer0.lif", "first: potential of 'layer0.lif', sample 1, step 2, position ("),
        ("readout", "first: readout, sample 1, step 2, position (1,): expected "),
    ],
)
def test_the_first_value_that_differs_is_named(bundle, name, words):
    """One value of a recording made elsewhere is changed: which one, what was expected, what was found; exit code 1."""
    arrays = recorded(bundle)
    index = (2, 1, *(1 for _ in arrays[name].shape[2:-1]), 1)
    before = int(arrays[name][index])
    arrays[name][index] = 1 - before if name.startswith("spikes") else before + 7
    arrays["readout"][3] += 1  # later
    np.savez(bundle.parent / "chip.npz", **arrays)
    code, said, _ = run_check(bundle, bundle.parent / "chip.npz")
    assert code == 1
    first, last = said.splitlines()
    assert first.startswith(words)
    assert first.endswith(f"expected {before}, found {int(arrays[name][index])}")
    assert f"{1 + arrays['readout'][3].size:,} of " in last and "values differ" in last


def test_a_recording_from_elsewhere_may_hold_less(bundle):
    """Spikes alone, as a chip gives them, in any type of number; what is missing is named."""
    arrays = {name: array.astype(bool) for name, array in recorded(bundle).items() if name.startswith("spikes/")}
    np.savez(bundle.parent / "chip.npz", **arrays)
    code, said, _ = run_check(bundle, bundle.parent / "chip.npz")
    absent, last = said.splitlines()
    assert code == 0 and last.startswith("0 of ")
    assert absent == "not recorded, so not compared: potentials/layer0.lif, potentials/layer1.lif, readout"


def test_a_recording_that_does_not_fit_is_refused(bundle):
    """Other shapes, names and types of file, each in a line."""
    chip, arrays = bundle.parent / "chip.npz", recorded(bundle)
    bad = {
        "'readout' must be numbers": {**arrays, "readout": arrays["readout"][:3]},
        "'spikes/other': no population": {**arrays, "spikes/other": arrays["readout"]},
        "holds no readout, spikes or potentials": {"clock": arrays["clock"]},
        "it must hold numbers": {"readout": arrays["readout"].astype(str)},
    }
    for complaint, content in bad.items():
        np.savez(chip, **content)
        code, said, errors = run_check(bundle, chip)
        assert (code, said) == (70, "") and errors.startswith("error: ") and complaint in errors, errors
        assert len(errors.splitlines()) == 1
    np.savez_compressed(chip, **arrays)
    assert "Write it with numpy.savez, which does not compress." in run_check(bundle, chip)[2]


def test_a_bundle_without_vectors_says_so(tmp_path):
    """And a file that merely lies there is not taken for them."""
    path = td.export(quantized(), tmp_path / "net.lava", to="lava")
    (path / "vectors.npz").write_bytes(golden_vectors(quantized(), 1))
    said = "was exported without vectors. Export the network again with `tet-deploy export --vectors 4`."
    assert said in run_check(path, "--engine", "numpy")[2]
    with pytest.raises(ArtifactError, match="was exported without vectors"):
        opened_vectors(path, runtime="lava-numpy").run()
    assert opened_vectors(path, path / "vectors.npz", runtime="lava-numpy").run().comparison.differ == 0  # named, it is


def test_exporting_again_without_takes_them_away(bundle):
    """They belong to the bundle, as its other files do."""
    td.export(quantized(), bundle, to="lava")
    assert not (bundle / "vectors.npz").exists()
    assert "--check" not in (bundle / "README.md").read_text()


def test_vectors_are_under_the_checksum(bundle):
    """A bit that flipped is noticed before anything runs."""
    content = bytearray((bundle / "vectors.npz").read_bytes())
    content[-300] ^= 1
    (bundle / "vectors.npz").write_bytes(content)
    assert "vectors.npz: is not the file that was exported" in run_check(bundle, "--engine", "numpy")[2]
    with pytest.raises(ArtifactError, match="is not the file that was exported"):
        opened_vectors(bundle, runtime="lava-numpy").run()


@pytest.mark.parametrize("words", ["--engine numpy x.npy y.npz", "r.npz --stock", "r.npz --engine numpy"])
def test_what_check_would_ignore_is_refused(bundle, words):
    """Frames beside --check, and how to run beside a recording."""
    code, said, errors = run_check(bundle, *words.split())
    assert code == 2 and "--check" in errors.splitlines()[-1] and not said


def about(**changes):
    def change(arrays):
        known = json.loads(arrays["about"].tobytes())
        arrays["about"] = np.frombuffer(json.dumps({**known, **changes}).encode(), np.uint8)

    return change


def put(name, value):
    def change(arrays):
        arrays[name] = value(arrays[name]) if callable(value) else value

    return change


DAMAGE = {
    "another network": (about(digest="0" * 64), "is of the network 000000000000"),
    "no digest": (about(digest=7), "about does not say digest"),
    "lines": (about(inputs="a\nb"), "about does not say inputs"),
    "a long text": (about(inputs="x" * 10_000), "about does not say inputs"),
    "a new format": (about(format=2), "their format is 2; needs 1"),
    "no format": (about(format=True), "does not say a format"),
    "no JSON": (put("about", np.frombuffer(b"{", np.uint8)), "damaged ones"),
    "nested JSON": (put("about", np.frombuffer(b"[" * 60_000, np.uint8)), "damaged ones"),
    "much JSON": (put("about", np.zeros(2**17, np.uint8)), "about must be a text"),
    "no text": (put("about", np.zeros(4)), "about must be a text"),
    "no about": (lambda arrays: arrays.pop("about"), "it lacks about"),
    "no frames": (lambda arrays: arrays.pop("frames"), "it lacks frames"),
    "no sample": (put("frames", lambda array: array[:, :0]), "frames must be float32"),
    "wide frames": (put("frames", lambda array: array.astype(np.float64)), "frames must be float32"),
    "a missing population": (lambda arrays: arrays.pop("spikes/layer0.lif"), "of all the network's populations"),
    "one too many": (put("spikes/other", np.zeros(3, np.uint8)), "of all the network's populations") ,
    "fewer steps": (put("readout", lambda array: array[1:]), "'readout' is int64"),
    "other shapes": (put("potentials/layer0.lif", lambda array: array[..., 1:]), "'potentials/layer0.lif' is int32"),
    "spikes of 2": (put("spikes/layer0.lif", lambda array: array + 2), "'spikes/layer0.lif' must be 0 or 1"),
    "signed spikes": (put("spikes/layer0.lif", lambda array: -array.astype(np.int8)), "'spikes/layer0.lif' is int8"),
    "texts": (put("readout", lambda array: array.astype(str)), "it must hold numbers"),
    "NaN": (put("frames", lambda array: array * np.float32("nan")), "must be finite"),
    "fractions": (put("frames", lambda array: array + np.float32(0.5)), "whole numbers"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "complaint"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_vectors_are_refused(bundle, reseal, change, complaint):
    """By both sides, in a line, also where the checksums are right."""

    def damaged(path):
        with np.load(bundle / "vectors.npz") as arrays:
            arrays = dict(arrays)
        change(arrays)
        np.savez(path, **arrays)

    damaged(bundle / "vectors.npz")
    code, said, errors = run_check(reseal(bundle), "--engine", "numpy")
    assert (code, said) == (70, "") and complaint in errors, errors
    assert len(errors.splitlines()) == 1 and len(errors.replace(str(bundle), "")) < 400
    with pytest.raises((ArtifactError, DataError), match=complaint.replace(".", "[.]")):
        opened_vectors(bundle, runtime="lava-numpy").run()
