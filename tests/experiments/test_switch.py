"""The loss changes midway and nothing else does."""

import pytest

from tet_deploy.errors import ArgumentError
from tet_deploy.experiments import Setting
from tet_deploy.experiments.switch import switch


def test_before_the_switch_it_is_sdt(recipes):
    """Up to the change the run equals SDT's in every number; afterwards it differs, and its TET loss is lower."""
    outcome = switch(Setting(data=recipes["digits"], seeds=(0,), samples=96, epochs=6))
    change = outcome.values["switch_after_epoch"]
    assert (change, outcome.values["epochs"]) == (4, 6)
    curves = outcome.values["by_epoch"]
    for curve in ("accuracy", "sdt_loss", "tet_loss"):
        assert len(curves["tet"][curve]["mean"]) == 6
        assert curves["switch"][curve]["mean"][:change] == curves["sdt"][curve]["mean"][:change]
    assert curves["switch"]["tet_loss"]["mean"][-1] < curves["sdt"]["tet_loss"]["mean"][-1]
    assert all(s <= t for s, t in zip(curves["sdt"]["sdt_loss"]["mean"], curves["sdt"]["tet_loss"]["mean"], strict=True))


def test_one_epoch_cannot_be_split(recipes):
    """The error says how many are needed."""
    with pytest.raises(ArgumentError, match="at least 2 epochs"):
        switch(Setting(data=recipes["digits"], seeds=(0,), samples=24, epochs=1))
