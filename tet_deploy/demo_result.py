"""What the demo found, for people and for machines."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tet_deploy import counting, terminal
from tet_deploy.layout import Table
from tet_deploy.validation import Agreement, agreement_table
from tet_deploy.wording import number_of


@dataclass(kw_only=True)
class DemoResult:
    """What the demo found; `as_dict` is what `--json` prints."""

    data: str
    seed: int
    folder: Path
    accuracy: dict[str, float | None] = field(default_factory=dict)
    accuracy_of: dict[str, str] = field(default_factory=dict)  # which samples each accuracy is of
    accuracy_by_step: dict[str, list[float]] = field(default_factory=dict)
    agreements: dict[str, Agreement | None] = field(default_factory=dict)
    folding: Agreement | None = None  # of batch norm and pooling, against the network as it was trained
    snapping: Agreement | None = None  # of the weights too
    energy: counting.EnergyReport | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    digest: str = ""
    lava_missing: str | None = None

    @property
    def equal(self) -> bool:
        """Whether every runtime that ran agrees with the reference in every value."""
        return all(agreement is None or agreement.equal for agreement in self.agreements.values())

    def show(self) -> None:
        """Print what a person wants to know first."""
        by_step = [(name.upper(), *(f"{value:.2%}" for value in values)) for name, values in self.accuracy_by_step.items()]
        steps = range(1, len(by_step[0]))
        title = f"Accuracy after each step, {self.accuracy_of['trained']}"
        terminal.say(Table(title, ("loss", *(f"step {t}" for t in steps)), by_step))
        stages = [
            (stage, "-" if accuracy is None else f"{accuracy:.2%}", self.accuracy_of.get(stage))
            for stage, accuracy in self.accuracy.items()
        ]
        terminal.say(Table("Accuracy of the TET network at each stage", ("stage", "accuracy", "of"), stages, text=("of",)))
        terminal.say(agreement_table(self.agreements))
        assert self.energy is not None
        terminal.say(counting.energy_table(self.energy, self.accuracy_of["trained"]))
        for what, link in (("Folding", self.folding), ("Folding and snapping", self.snapping)):
            if link is not None:
                terminal.say(
                    f"{what} changed {number_of('spike', link.spikes)}, and the readout by at most "
                    f"{link.largest_readout_error:.2g}."
                )
        if self.lava_missing:
            terminal.say(f"Lava did not run: {self.lava_missing}")
        terminal.say(f"Report: {self.folder / 'report.html'}")

    def as_dict(self) -> dict[str, Any]:
        """One JSON object; `lava` is null where no Lava Python was found."""
        assert self.energy and self.folding and self.snapping
        summary = self.energy.summary()
        return {
            "data": self.data,
            "seed": self.seed,
            "accuracy": self.accuracy,
            "accuracy_of": self.accuracy_of,
            "accuracy_by_step": self.accuracy_by_step,
            "mismatches": {name: a and a.counts() for name, a in self.agreements.items()},
            "samples": {name: a and a.samples for name, a in self.agreements.items()},
            "folding": _with_error(self.folding),
            "folding_and_snapping": _with_error(self.snapping),
            "energy_table": self.energy.table.name,
            "energy_pj": summary["energy_pj"],
            "energy_pj_by_table": summary["energy_pj_by_table"],
            "counts": summary["counts"],
            "seconds": self.seconds,
            "versions": self.versions,
            "digest": self.digest,
            "lava_missing": self.lava_missing,
            "report": str(self.folder / "report.html"),
        }


def _with_error(agreement: Agreement) -> dict[str, Any]:
    return agreement.counts() | {"largest_readout_error": agreement.largest_readout_error}
