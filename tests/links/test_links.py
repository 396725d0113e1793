"""Any two links can be compared; what must be equal is proved, what is lossy is measured."""

import dataclasses
import json

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.contracts import Recording
from tet_deploy.errors import ArgumentError, ArtifactError, DataError
from tet_deploy.links import Deviation, open_link
from tet_deploy.links.deviation import BINS_PER_OCTAVE
from tet_deploy.links.link import of_graph
from tet_deploy.links.measure import deviation
from tet_deploy.links.recording_file import fingerprints, load_recording, save_recording
from tet_deploy.validation import Divergence

FOLDED_WITHIN = 1e-4  # float32 rounding of folded weights, in units of the readout


def test_the_traced_network_is_the_model_spike_for_spike(model, networks, frames):
    """No spike, no decision differs, and the readout by float32 rounding only."""
    found = td.compare(model, networks["traced"], frames)
    assert (found.differing, found.decisions) == (0, 0)
    assert found.readout.largest < FOLDED_WITHIN
    assert {*found.nodes} == {"2", "6", "7.lif", "8"}
    assert found.spikes == frames.shape[0] * frames.shape[1] * (6 * 64 + 6 * 16 + 6 * 16 + 6 * 4)
    assert not found.equality_expected


def test_folding_and_snapping_are_measured(model, networks, frames):
    """Populations and readout of a folded and of a snapped network are compared with the model's by name."""
    for form in ("folded", "snapped"):
        found = td.compare(model, networks[form], frames)
        assert found.readout.largest < FOLDED_WITHIN
        assert len(found.nodes) == 4
        assert 0 < found.total.membrane.largest < FOLDED_WITHIN


def test_lossy_numbers_equal_those_of_a_slow_loop(networks, frames):
    """Spikes, membrane error in thresholds, readout, distances, decisions and accuracy of int4, one value after another."""
    snapped, int4 = networks["snapped"], networks["int4"]
    labels = np.arange(frames.shape[1]) % 5
    found = td.compare(snapped, int4, frames, labels)
    one, other = td.run(snapped, frames), td.run(int4, frames)
    assert found.differing > 20
    for name, node in found.nodes.items():
        scale, threshold, mantissa = int4[name].quantization.scale, snapped[name].threshold, int4[name].threshold
        differing, errors, distances = 0, [], []
        for place in np.ndindex(*one.spikes[name].shape):
            v, w = float(one.potentials[name][place]), int(other.potentials[name][place]) / (64 * scale)
            fired, fired_too = one.spikes[name][place], other.spikes[name][place]
            if fired == fired_too:
                errors.append((w - v) / threshold)
            else:
                differing += 1
                distances.append((mantissa / scale - w if fired else threshold - v) / threshold)
        assert (node.spikes, node.differing) == (one.spikes[name].size, differing)
        assert node.membrane.count == len(errors)
        assert node.membrane.largest == pytest.approx(max(map(abs, errors)), rel=1e-12)  # one division's rounding
        assert node.membrane.rms == pytest.approx(float(np.sqrt(np.mean(np.square(errors)))), rel=1e-5)  # squares: 20 bits
        if distances:
            exact = float(np.quantile(distances, 0.5, method="inverted_cdf"))
            assert exact <= node.quantile(0.5) <= exact * 2 ** (1 / BINS_PER_OCTAVE) * (1 + 1e-9) or exact < 1e-12
    errors = other.readout / (64 * int4["readout"].quantization.scale) - one.readout
    assert found.readout.largest == pytest.approx(np.abs(errors).max(), rel=1e-12)  # as above
    assert found.decisions == np.count_nonzero(one.decisions != other.decisions)
    assert found.accuracy.first == np.mean(one.decisions == labels)
    assert found.accuracy.second == np.mean(other.decisions == labels)
    first = found.first_spike
    place = (first.step, first.sample, *first.neuron)
    assert one.spikes[first.node][place] != other.spikes[first.node][place]
    assert not any((one.spikes[name] != other.spikes[name])[: first.step].any() for name in found.nodes)


def test_deviations_add_up_exactly(networks, frames):
    """Two parts added in either order, also through JSON, are the whole, in every bit."""
    snapped, int4 = networks["snapped"], networks["int4"]
    labels = np.arange(frames.shape[1]) % 5
    whole = td.compare(snapped, int4, frames, labels)
    parts = [td.compare(snapped, int4, frames[:, a:b], labels[a:b]) for a, b in ((0, 5), (5, 12))]
    moved = parts[1].first_spike and dataclasses.replace(parts[1].first_spike, sample=parts[1].first_spike.sample + 5)
    parts[1] = dataclasses.replace(parts[1], first_spike=moved)
    read = [Deviation.from_state(json.loads(json.dumps(part.to_state()))) for part in parts]
    assert parts[0] + parts[1] == parts[1] + parts[0] == read[0] + read[1] == whole


EQUAL = {
    "file and object": ("int8.safetensors", "int8"),
    "network and ONNX": ("int8.safetensors", "int8.onnx"),
    "ONNX and network on ONNX": ("int8.onnx", "int8.safetensors:onnx"),
    "readout alone": ("plain.onnx", "int8.safetensors"),
    "float on both": ("float.safetensors", "float.safetensors:onnx"),
}


def opened(what, folder, networks):
    return networks[what] if what in networks else str(folder / what)


@pytest.mark.parametrize("a, b", EQUAL.values(), ids=EQUAL.keys())
def test_links_of_one_network_are_equal(a, b, folder, networks, frames):
    """The same integers, or floats on their grid, agree in every value, and must."""
    found = td.compare(opened(a, folder, networks), opened(b, folder, networks), frames)
    assert found.equal
    assert found.equality_expected


def test_a_bundle_equals_its_network(folder, networks, frames, lava_python):
    """Real Lava gives the integers of the reference, and beside the float network is compared in its units."""
    assert td.compare(networks["int8"], folder / "bundle", frames[:, :2]).equal
    direct = td.compare(networks["snapped"], networks["int8"], frames[:, :2])
    over_lava = td.compare(networks["snapped"], folder / "bundle", frames[:, :2])
    untold = {name: dataclasses.replace(node, explained=0) for name, node in direct.nodes.items()}
    assert over_lava.nodes == untold  # a bundle does not tell its weights
    assert over_lava.readout == direct.readout


@pytest.fixture
def recorded(tmp_path, networks, frames):
    """A recording of the integers, in a file."""
    graph = networks["int8"]
    save_recording(td.run(graph, frames), tmp_path / "rec.npz", origin=of_graph(graph).origin(), frames=fingerprints(frames))
    return tmp_path / "rec.npz"


def test_a_recording_is_a_link(recorded, networks, frames):
    """It equals the network that it is of, for all samples and for the first; its units are told."""
    assert td.compare(recorded, networks["int8"], frames).equal
    assert td.compare(networks["int8"], recorded, frames[:, :3]).samples == 3
    live, read = (td.compare(networks["snapped"], link, frames).total for link in (networks["int8"], recorded))
    assert read == dataclasses.replace(live, explained=0)  # a recording does not tell the weights


def test_of_more_frames_those_that_were_recorded_are_compared(recorded, networks, frames):
    """Frames behind the recording's last sample are left out, and the number says so."""
    more = np.concatenate([frames, frames], axis=1)
    assert td.compare(recorded, networks["int8"], more).samples == frames.shape[1]


def test_a_recording_of_other_frames_is_refused(recorded, networks, frames):
    """One changed pixel of one sample, other samples first, or another number of steps: told, with the sample."""
    changed = frames.copy()
    changed[2, 7, 0, 3, 3] += 1
    with pytest.raises(DataError, match="made of other frames: 1 of these 12 samples differ, the first is number 7"):
        td.compare(recorded, networks["int8"], changed)
    with pytest.raises(DataError, match="other frames"):
        td.compare(recorded, networks["int8"], frames[:, 1:])
    with pytest.raises(DataError, match="of 4 steps"):
        td.compare(recorded, networks["int8"], frames[:3])


def test_a_recording_keeps_its_values(recorded, networks, frames):
    """What is read is what was written."""
    stored, expected = load_recording(recorded), td.run(networks["int8"], frames)
    for name in expected.spikes:
        assert np.array_equal(stored.recording.spikes[name], expected.spikes[name])
        assert np.array_equal(stored.recording.potentials[name], expected.potentials[name])
    assert np.array_equal(stored.recording.readout, expected.readout)
    assert stored.origin.digest == networks["int8"].digest()


def test_a_planted_fault_is_no_equality(networks, frames):
    """One weight of an integer network moved: the same digest would lie, so the digests differ and the spikes tell."""
    int8 = networks["int8"]
    weight = np.array(int8["0"].weight)
    weight[0, 0, 1, 1] = -127 if weight[0, 0, 1, 1] > 0 else 127
    found = td.compare(int8, int8.replace({"0": dataclasses.replace(int8["0"], weight=weight)}), frames)
    assert not found.equal
    assert found.first_spike.node == "2"
    assert found.first_spike.neuron[0] == 0


def network_of_other_frames():
    from tet_deploy.testing import random_float_network

    return td.lower(random_float_network(np.random.default_rng(0)))


BAD = {
    "no file": (lambda f, n: str(f / "absent"), ArtifactError, "no such file"),
    "frames": (lambda f, n: str(f / "frames.npz"), ArtifactError, "must be a link of the chain"),
    "a form of an ONNX file": (lambda f, n: f"{f / 'int8.onnx'}:lava", ArgumentError, "has no forms"),
    "no such runtime": (lambda f, n: f"{f / 'int8.safetensors'}:gpu", ArgumentError, "does not run this network"),
    "floats on Lava": (lambda f, n: f"{f / 'float.safetensors'}:lava", ArgumentError, "does not run this network"),
    "a number": (lambda f, n: 3, ArgumentError, "must be a network, a torch model, or a path"),
    "a network of other frames": (lambda f, n: network_of_other_frames(), DataError, "must be of one network"),
}


@pytest.mark.parametrize("make, error, message", BAD.values(), ids=BAD.keys())
def test_what_is_no_link_is_refused(make, error, message, folder, networks, frames):
    """With what it is, and what is taken."""
    with pytest.raises(error, match=message):
        td.compare(networks["int8"], make(folder, networks), frames)


def without_units(about):
    return np.frombuffer(about.tobytes().replace(b'"units"', b'"other"'), np.uint8)


DAMAGED = {
    "version 0.1": lambda arrays: [arrays.pop(name) for name in ("about", "frames")],
    "no readout": lambda arrays: arrays.pop("readout"),
    "other samples": lambda arrays: arrays.update({"2.spikes": arrays["2.spikes"][:, 1:]}),
    "no JSON": lambda arrays: arrays.update(about=arrays["about"][:-3]),
    "no units": lambda arrays: arrays.update(about=without_units(arrays["about"])),
    "objects": lambda arrays: arrays.update(readout=np.array([None])),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_recording_is_refused(damage, recorded):
    """In a line that names the file, and never as a pickle."""
    with np.load(recorded) as archive:
        arrays = dict(archive)
    damage(arrays)
    np.savez(recorded, **arrays)
    with pytest.raises(ArtifactError, match=r"rec\.npz") as error:
        load_recording(recorded)
    assert len(str(error.value).splitlines()) == 1


def test_a_link_says_what_its_units_are(folder, networks):
    """Integers of an ONNX file and of a bundle stand for as much as those of the network; floats for themselves."""
    expected = of_graph(networks["int8"])
    for name in ("int8.onnx", "bundle"):
        assert open_link(folder / name).units == expected.units
    found = open_link(folder / "bundle").thresholds
    assert found.keys() == expected.thresholds.keys()
    for name, threshold in found.items():
        assert threshold == pytest.approx(expected.thresholds[name])
    assert set(open_link(folder / "float.safetensors").units.values()) == {1.0}


def test_two_models_are_compared(model, frames):
    """A model equals itself; frames say what it takes."""
    assert td.compare(model, model, frames).differing == 0


def test_what_was_not_recorded_is_not_compared():
    """Spikes without potentials: flips are counted, distances and membrane errors are not made up."""
    spikes = np.zeros((2, 1, 3), np.uint8)
    one = Recording(spikes={"a": spikes}, readout=np.zeros((2, 1, 2)), runtime="one")
    other = Recording(spikes={"a": spikes + 1}, readout=np.ones((2, 1, 2)), runtime="other")
    found = deviation(one, other, ({}, {}))
    assert (found.differing, found.total.membrane.count, found.total.quantile(1.0)) == (6, 0, None)
    assert found.readout.rms == found.readout.largest == 1
    assert found.first_spike == Divergence(node="a", step=0, sample=0, neuron=(0,), expected=None, found=None)


def test_integers_must_be_equal_at_any_scale(networks, frames):
    """Also where a recorded unit of a population is one of the float network's, and frames lie off its grid."""
    int8 = networks["int8"]
    coarse = dataclasses.replace(int8["6"], quantization=dataclasses.replace(int8["6"].quantization, scale=1 / 64))
    analog = dataclasses.replace(int8.input, encoding="analog")
    graph = int8.replace({"6": coarse, int8.input.name: analog})
    found = td.compare(of_graph(graph), of_graph(graph, "onnx"), frames + 0.123)
    assert found.same_network
    assert found.equality_expected
