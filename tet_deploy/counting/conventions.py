"""The conventions that energies are quoted under: their names, and the choices that change the numbers."""

from __future__ import annotations

from dataclasses import dataclass

from tet_deploy.errors import ArgumentError

ENERGIES = {
    "event": "multiplications for non-zero inputs only, additions for spikes: an event-driven chip",
    "dense_in": "every element of the network's input multiplied, zeros too, additions for spikes",
    "rate": "the literature's formula: mean firing rate x multiply-accumulates with the padded border",
    "full": "the default plus biases, skip connections, leak multiplications (a leaky readout's too) and comparisons",
    "ann": "the same layers without spikes: one dense pass, same number format, border included",
}
CACHED = "the default, with the layer that sees a static image computed once and its result added at every step"
PARTS = ("multiply-accumulates", "additions", "bias and skip additions", "neurons")


@dataclass(frozen=True, kw_only=True)
class Policies:
    """Conventions that change the numbers.

    Attributes
    ----------
    input
        'dense' (every pixel is multiplied) or 'event' (non-zero ones): which of the energies is the default.
    pool
        'fold': averages over spikes are part of the next layer's weights, as `td.lower` leaves them, so they cost
        additions; one for each window that a spike lies in, which is what the folded layer does where windows tile.
        'mac': averages are formed and multiplied.
    zero_weights
        'counted' or 'left out'. The dense pass of `ann` and the formula of `rate` always count them.
    """

    input: str
    pool: str = "fold"
    zero_weights: str = "counted"

    def __post_init__(self) -> None:
        choices = {"input": ("dense", "event"), "pool": ("fold", "mac"), "zero_weights": ("counted", "left out")}
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ArgumentError(f"energy policy {name!r}: must be {' or '.join(map(repr, allowed))}; got {value!r}.")
