"""On what and how often an experiment trains."""

from __future__ import annotations

from dataclasses import dataclass

from tet_deploy.errors import ArgumentError


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all experiments take.

    Attributes
    ----------
    data
        Name of a recipe, or a TOML file; its network, data and first stage are what is trained.
    seeds
        One repetition for each.
    epochs
        Of each training; None: the recipe's.
    samples
        Use only so many training and so many test samples; None: all.

    Raises
    ------
    ArgumentError
        No seed, or fewer than one epoch or sample.
    """

    data: str
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    epochs: int | None = None
    samples: int | None = None

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ArgumentError("seeds: an experiment needs at least one; got none.")
        for name in ("epochs", "samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ArgumentError(f"{name}: must be at least 1; got {value}.")
