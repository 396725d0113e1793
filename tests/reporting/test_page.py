import csv
import dataclasses
import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from tet_deploy._version import __version__
from tet_deploy.chips.resources import map_resources
from tet_deploy.counting import estimate
from tet_deploy.errors import ArtifactError, DataError, MissingDependencyError
from tet_deploy.exporters.lava_latency import schedule
from tet_deploy.intervals import wilson
from tet_deploy.ir.certificates import certificate_rows
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Readout
from tet_deploy.reporting import ReportData, SampleView, check_report_path, firing_rates, membranes, write_report
from tet_deploy.reporting.called import REFERENCE
from tet_deploy.reporting.page import render_page
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_quantized_network
from tet_deploy.validation import thresholds

HOSTILE = "<script>alert('$x_1$ & \"y\"')</script>"
SECTIONS = {  # what to pass, and what the page then holds
    "accuracy": "Accuracy per stage",
    "confusion": "Confusion matrix of 3 classes: 3 of 15 decided wrongly",
    "accuracy_by_step": 'aria-label="Accuracy by step',
    "firing_rates": 'aria-label="Firing rates',
    "chain": "Links of the chain",
    "membranes": "Membrane potentials in thresholds: lif ",
    "mismatches": "Agreement between runtimes",
    "energy": 'aria-label="Energies by table 45nm-fp32: ',
    "training": "Training over 3 epochs: loss 2.5 to 0.5, accuracy 87.50 % at the end",
    "views": 'aria-label="One sample over 3 steps',
    "graph": "Nodes of the network",
    "resources": "Limits of Loihi 1",
    "no_chip": "It can go to no chip as it is: node",
    "seconds": "Seconds per stage",
    "provenance": 'aria-label="Provenance"',
}


def network(name="lif", channels=2):
    rng = np.random.default_rng(0)
    return chain(
        [
            Input(name="input", shape=(channels, 6, 6)),
            Conv(name="conv", weight=rng.normal(size=(4, channels, 3, 3)).astype(np.float32), padding=(1, 1)),
            LIF(name=name),
            Flatten(name="flatten"),
            Linear(name="fc", weight=rng.normal(size=(3, 144)).astype(np.float32)),
            Readout(name="readout"),
        ]
    )


def full_data(name="lif", channels=2):
    graph = network(name, channels)
    frames = np.random.default_rng(1).normal(size=(3, 5, channels, 6, 6)).astype(np.float32)
    recording = ReferenceRuntime(graph).run(frames)
    return ReportData(
        title=f"A title with {name}",
        provenance={"data": "digits", "digest": graph.digest()},
        accuracy={"trained": 0.975, "lava": 0.97},
        accuracy_counts={"trained": 360, "lava": 100},
        confusion=np.array([[5, 1, 0], [0, 0, 0], [2, 0, 7]]),
        accuracy_by_step={"sdt": [0.5, 0.8, 0.9], "tet": [0.8, 0.9, 0.97]},
        firing_rates=firing_rates(estimate(graph, recording, frames)),
        chain=[
            {"first": "trained", "second": "folded", "samples": 5, "spikes": 99, "differing": 0, "decisions": 0}
            | {"readout": 0.0, "equal": True, "fault": False},
            {"first": "folded", "second": "int8", "samples": 5, "spikes": 99, "differing": 17, "decisions": 1}
            | {"readout": 0.125, "equal": False, "fault": False}
            | {"accuracy": [0.8, 0.6], "accuracy_difference": [-0.5, 0.25]},
        ],
        membranes=membranes(recording, thresholds(graph)),
        mismatches={
            "onnx_int8": {"spikes": 0, "potentials": 0, "readout": 0, "compared": 1234567},
            "lava": {"spikes": 1, "potentials": 2, "readout": 0, "compared": 1000},
        },
        divergences={"lava": f"first divergence: node {name!r}"},
        energy=estimate(graph, recording, frames),
        energy_accuracy_by_step=[0.8, 0.9, 0.97],
        views=[SampleView.of(recording, frames, 2, label=1), SampleView.of(recording, frames, 4, number=4)],
        training=[{"loss": 2.5, "accuracy": 0.25}, {"loss": 1.25}, {"loss": 0.5, "accuracy": 0.875}],
        graph=graph,
        resources=map_resources(random_quantized_network(np.random.default_rng(2)), "loihi1"),
        no_chip="node 'lif': has no Lava process.",
        seconds={"train": 12.3},
    )


class Tags(HTMLParser):
    """Collects start tags with their attributes, and ids."""

    def __init__(self, page):
        super().__init__()
        self.tags = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_the_page_is_one_file_that_asks_the_network_for_nothing():
    """No address of another host, no import, no script but its own; images are embedded."""
    page = render_page(full_data())
    parsed = Tags(page)
    links = [attrs[key] for _, attrs in parsed.tags for key in ("src", "href", "xlink:href") if attrs.get(key)]
    assert links and all(link.startswith(("data:image/", "#")) for link in links)
    assert not re.search(r"https?://|@import|url\((?!#)", page)
    assert {"link", "iframe"}.isdisjoint(tag for tag, _ in parsed.tags)
    assert [attrs for tag, attrs in parsed.tags if tag == "script"] == [{}]
    assert any(attrs.get("name") == "viewport" for tag, attrs in parsed.tags if tag == "meta")


def test_every_figure_has_a_text_and_ids_do_not_clash():
    """Each SVG is an image with a label, and no id occurs twice on the page."""
    tags = Tags(render_page(full_data())).tags
    figures = [attrs for tag, attrs in tags if tag == "svg"]
    assert len(figures) == 11 and all(attrs["role"] == "img" and attrs["aria-label"] for attrs in figures)
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", SECTIONS)
def test_only_given_sections_are_shown(name):
    """A page with one section shows that one and none of the others."""
    page = render_page(ReportData(title="t", **{name: getattr(full_data(), name)}))
    assert [other for other, text in SECTIONS.items() if text in page] == [name]


def test_the_whole_page_shows_every_section():
    """Given everything, all sections are there, with verdicts and the curve of accuracy over energy."""
    page = render_page(full_data())
    assert [name for name, text in SECTIONS.items() if text not in page] == ["no_chip"]  # the network does go there
    assert page.count("✓ PASS") == 1 and page.count("✗ FAIL") == 1
    assert 'aria-label="Accuracy over energy' in page
    assert "Horowitz" in page and "conv (numbers)" in page


def test_a_quantized_network_shows_ranges_and_what_quantization_did():
    """Certificates, with latencies, as `inspect` prints them, and the table of calibration where the file knows one."""
    graph = random_quantized_network(np.random.default_rng(2))
    data = ReportData(title="t", graph=graph, latency=schedule(graph).latency)
    page = render_page(data)
    for row in certificate_rows(graph):
        assert f"{row['least_sum']:,} to {row['greatest_sum']:,}" in page
    assert data.to_dict()["certificates"] == certificate_rows(graph)
    entry = {"lif": {"scale": 12.5, "clipped_weights": 0.25}}
    known = dataclasses.replace(graph, metadata={"quantization": json.dumps(entry)})
    assert "25.00%" in render_page(ReportData(title="t", graph=known)) and "25.00%" not in page
    assert "Ranges and quantization" not in render_page(ReportData(title="t", graph=network()))


def test_the_exact_numbers_of_the_page_are_those_of_the_json():
    """Under the pointer and for sorting lies the number that the file for machines holds."""
    data = full_data()
    page, plain = render_page(data), data.to_dict()
    found = {float(attrs["data-value"]) for _, attrs in Tags(page).tags if "data-value" in attrs}
    expected = [*plain["accuracy"].values(), *plain["seconds"].values()]
    expected += [low for low, _ in plain["accuracy_intervals"].values()]
    expected += [number for counts in plain["mismatches"].values() for number in counts.values()]
    expected += [link[key] for link in plain["chain"] for key in ("differing", "decisions", "readout")]
    expected += [row["parameters"] for row in plain["graph"]]
    assert set(expected) <= found
    means = [float(number) for number in plain["energy"]["energy_pj"].values()]
    assert all(any(mean == pytest.approx(other, rel=1e-9) for other in found) for mean in means)


def test_the_chain_says_what_each_link_changed():
    """Equal where every value is; otherwise spikes, decisions and the interval of the accuracy's difference."""
    page = render_page(full_data())
    assert page.count("✓ equal") == 1 and "-20.00 (-50.00 to +25.00)" in page
    faulty = {**full_data().chain[0], "equal": False, "fault": True}
    assert "✗ FAIL" in render_page(ReportData(title="t", chain=[faulty]))


def test_accuracies_have_their_interval():
    """Wilson's, of as many samples as the stage was measured on; none where their number is not known."""
    page = render_page(full_data())
    assert "95.3 % to 98.7 % with 95 % confidence" in page  # 351 of 360
    assert full_data().to_dict()["accuracy_intervals"]["lava"] == list(wilson(97, 100))
    assert "95 %" not in render_page(ReportData(title="t", accuracy={"trained": 0.9}))


def test_the_confusion_matrix_shows_each_pair_that_occurred():
    """With its count under the pointer, and the most frequent in words; a class without samples breaks nothing."""
    page = render_page(full_data())
    assert len(re.findall(r"class \d decided as \d:", page)) == 4
    assert "class 2 decided as 0: 2 of 9" in page and "Most often: 2 as 0: 2 of 9 (22.2 %); 0 as 1: 1 of 6 (16.7 %)." in page
    assert "Columns: the decision. Most" in page
    right = np.diag([3, 4])
    page = render_page(ReportData(title="t", confusion=right, confusion_of="int8_reference"))
    assert "Columns: the decision (int8, reference runtime). None" in page
    assert "None was taken for another." in render_page(ReportData(title="t", confusion=right))
    assert "1 as 0" in render_page(ReportData(title="t", confusion=np.array([[1000, 0], [100, 0]])))


@pytest.mark.parametrize("classes", [1, 30, 300])
def test_confusion_of_any_number_of_classes_is_drawn(classes):
    """Up to hundreds of classes; only what occurred takes room."""
    found = np.zeros((classes, classes), dtype=np.int64)
    found[0, -1] = 3
    assert render_page(ReportData(title="t", confusion=found)).count(" decided as ") == 1


def test_a_reader_is_told_what_the_reference_is():
    """By its name in figures and tiles, and in a sentence; where another runtime is first, that one is named."""
    data = full_data()
    page = render_page(ReportData(title="t", accuracy={"reference": 0.5}, accuracy_by_step={"reference": [0.25, 0.5]}))
    assert "Accuracy, reference runtime" in page and "reference runtime: 50.0 %" in page and REFERENCE in page
    assert f"those of the reference runtime, over every recorded neuron, step and sample. {REFERENCE}" in render_page(data)
    page = render_page(ReportData(title="t", reference="onnx", mismatches=data.mismatches))
    assert "those of the ONNX Runtime, over" in page and REFERENCE not in page


def test_a_link_that_changed_no_spike_says_so():
    """Where potentials alone differ, by a rounding, nothing in its row does."""
    link = full_data().chain[0] | {"equal": False}
    assert "same spikes" in render_page(ReportData(title="t", chain=[link]))
    assert "same spikes" not in render_page(ReportData(title="t", chain=[link | {"readout": 0.5}]))


def test_samples_that_are_all_the_same_are_named_once():
    """Beside each accuracy only where they differ."""
    column = "<th>Of</th>"
    data = ReportData(title="t", accuracy={"a": 0.5, "b": 0.5}, samples="all 10 samples")
    assert column not in render_page(data) and "Of all 10 samples." in render_page(data)
    page = render_page(dataclasses.replace(data, accuracy_of={"b": "the first 5"}))
    assert column in page and "<td>the first 5</td>" in page and "<td>all 10 samples</td>" in page


def test_comparing_nothing_is_no_pass():
    """A runtime of which no value was compared fails."""
    counts = {"spikes": 0, "potentials": 0, "readout": 0, "compared": 0}
    page = render_page(ReportData(title="t", mismatches={"lava": counts}))
    assert "PASS" not in page and "FAIL: nothing compared" in page


@pytest.mark.parametrize(("name", "written"), [("a.b", '<span class="whole">a.<wbr>b</span>'), ("a." * 11, "a.<wbr>" * 11)])
def test_names_break_behind_their_dots(name, written):
    """Short ones stay on a line of a wide page."""
    assert f'<th scope="row">{written}</th>' in render_page(full_data(name))


def test_names_are_escaped_everywhere():
    """What is called like a script tag is shown as text in tables, captions and figures."""
    counts = {"spikes": 1, "potentials": 0, "readout": 0, "compared": 9}
    named = {
        "provenance": {HOSTILE: HOSTILE},
        "accuracy": {HOSTILE: 0.9},
        "accuracy_by_step": {HOSTILE: [0.5, 0.9]},
        "firing_rates": {HOSTILE: 0.1},
        "mismatches": {HOSTILE: counts},
        "divergences": {HOSTILE: HOSTILE},
        "seconds": {HOSTILE: 1.0},
    }
    page = render_page(dataclasses.replace(full_data(), title=HOSTILE, **named))
    assert page.count("<script") == 1 and "alert(" not in page[page.index("<script") :]
    assert "&lt;script&gt;" in page
    assert [attrs for tag, attrs in Tags(page).tags if tag == "script"] == [{}]


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_frames_of_any_number_of_channels_are_drawn(channels):
    """Images, event frames, colours and anything else become pictures, one a step."""
    sample = full_data(channels=channels).views[0]
    assert render_page(ReportData(title="t", views=[sample])).count("<image") >= 3


def test_flat_frames_and_still_networks_are_drawn():
    """A sample without rows and columns, without spikes and with equal readouts has a picture too."""
    nothing = SampleView(
        frames=np.zeros((2, 7), dtype=np.float32), spikes={"lif": np.zeros((2, 5), dtype=np.uint8)}, readout=np.zeros((2, 3))
    )
    assert "One sample over 2 steps, decided as class 0: lif 0 spikes" in render_page(ReportData(title="t", views=[nothing]))


def test_files_hold_the_numbers(tmp_path):
    """JSON and CSV lie beside the page and hold what it shows; nothing temporary stays."""
    data = full_data()
    path = write_report(data, tmp_path / "report.html")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["report.csv", "report.html", "report.json"]
    plain = json.loads((tmp_path / "report.json").read_text())
    assert path.read_text(encoding="utf-8") == render_page(data)  # the same data gives the same page
    assert plain["accuracy"] == {"trained": 0.975, "lava": 0.97}
    assert plain["mismatches"]["lava"]["potentials"] == 2
    assert plain["energy"]["energy_pj"]["ann"] == data.energy.mean("ann")
    assert [row["node"] for row in plain["graph"]] == [node.name for node in data.graph]
    with (tmp_path / "report.csv").open() as file:
        assert [row["layer"] for row in csv.DictReader(file)] == ["conv", "lif", "fc"]


def test_sections_left_out_are_left_out_of_the_json(tmp_path):
    """JSON names only what was given, and without an energy report there is no CSV."""
    write_report(ReportData(title="t", accuracy={"trained": 1.0}), tmp_path / "r.html")
    assert json.loads((tmp_path / "r.json").read_text()) == {
        "tet_deploy": __version__,
        "title": "t",
        "accuracy": {"trained": 1.0},
    }
    assert not (tmp_path / "report.csv").exists()


def test_bad_input(tmp_path):
    """A folder that does not exist and a curve of the wrong length are refused, and nothing is written."""
    with pytest.raises(ArtifactError, match="cannot be written"):
        write_report(full_data(), tmp_path / "nowhere" / "report.html")
    data = full_data()
    with pytest.raises(DataError, match="one accuracy for each of the 3 counted steps; got 2"):
        write_report(ReportData(title="t", energy=data.energy, energy_accuracy_by_step=[0.1, 0.2]), tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("library", ["matplotlib", "jinja2"])
def test_missing_library_names_the_extra(library, monkeypatch, tmp_path):
    """Without matplotlib or jinja2 the error says what to install, before anything is run and where a page is drawn."""
    data = full_data()
    monkeypatch.setitem(sys.modules, library, None)
    for work in (lambda: render_page(data), lambda: check_report_path(tmp_path / "report.html")):
        with pytest.raises(MissingDependencyError, match=rf"{library}.*tet-deploy\[report\]"):
            work()
