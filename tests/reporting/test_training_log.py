import json
import os

import pytest

from tet_deploy.errors import ArtifactError
from tet_deploy.loss_digest import KEY, loss_digest
from tet_deploy.reporting.training_log import find_log, read_log

LINES = [{"stage": 1, "loss": 2, "learning_rate": 0.1}, {"stage": 1, "loss": 0.5, "accuracy": 0.75, "seconds": 3}]
BAD = {  # what lies there -> what is said of it
    "nothing": ("", "holds no epoch"),
    "no JSON": ("epoch 1", "line 1: is no JSON object"),
    "a list": ("[1]", "loss must be a number"),
    "no loss": ('{"stage": 1}', "loss must be a number; got None"),
    "a text": ('{"loss": "low"}', "loss must be a number"),
    "NaN": ('{"loss": NaN}', "loss must be a number"),
    "too large": ('{"loss": 1' + 400 * "0" + "}", "loss must be a number"),
    "a truth": ('{"loss": true}', "loss must be a number"),
    "half a line": ('{"loss": 1}\n{"loss', "line 2: is no JSON object"),
    "an accuracy that is none": ('{"loss": 1, "accuracy": []}', "accuracy must be a number"),
}


def test_a_log_gives_a_row_for_each_epoch(tmp_path):
    """Loss, learning rate and accuracy as they stand there; what is not there is not made up."""
    path = tmp_path / "net.log.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    assert read_log(path) == [{"loss": 2.0, "learning_rate": 0.1}, {"loss": 0.5, "accuracy": 0.75}]


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_log_is_refused(case, tmp_path):
    """With its path, its line and what was found."""
    text, said = BAD[case]
    path = tmp_path / "net.log.jsonl"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=said):
        read_log(path)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    """A missing one, a folder and one of bytes."""
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_log(tmp_path / "none.jsonl")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_log(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArtifactError, match="is no text"):
        read_log(tmp_path / "bytes")


def log(path, losses):
    path.write_text("".join(json.dumps({"stage": 1, "loss": loss}) + "\n" for loss in losses))


def test_a_log_is_found_by_its_losses(tmp_path):
    """To the last bit, whatever it is called; one of another training, or of a part of it, is not taken."""
    losses = [1 / 3, 0.1 + 0.2, 5e-324]
    log(tmp_path / "a.log.jsonl", losses[:2])
    log(tmp_path / "b.log.jsonl", [*losses[:2], 0.0])
    metadata = {KEY: loss_digest(losses)}
    assert find_log(tmp_path, metadata) is None
    log(tmp_path / "renamed.log.jsonl", losses)
    assert find_log(tmp_path, metadata) == tmp_path / "renamed.log.jsonl"
    assert find_log(tmp_path, {}) is None and find_log(tmp_path / "nowhere", metadata) is None


def test_what_is_no_log_is_no_ones(tmp_path):
    """Whatever else has such a name beside a network is passed over, a pipe without waiting for it."""
    (tmp_path / "a.log.jsonl").mkdir()
    (tmp_path / "b.log.jsonl").write_bytes(b"\xff\xfe")
    os.mkfifo(tmp_path / "c.log.jsonl")
    log(tmp_path / "d.log.jsonl", [float("nan")])
    log(tmp_path / "e.log.jsonl", [1.0])
    assert find_log(tmp_path, {KEY: loss_digest([1.0])}) == tmp_path / "e.log.jsonl"
