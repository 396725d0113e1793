"""The conventions that energies are quoted under: their names, the words they are shown with, the choices behind them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from tet_deploy.errors import ArgumentError

ENERGIES = {
    "event": "multiplications for non-zero inputs only, additions for spikes: an event-driven chip",
    "dense_in": "every element of the network's input multiplied, zeros too, additions for spikes",
    "rate": "the literature's formula: mean firing rate x multiply-accumulates with the padded border",
    "full": "the default plus biases, skip connections, leak multiplications (a leaky readout's too) and comparisons",
    "ann": "the same layers without spikes: one dense pass, same number format, border included",
}
VARIANTS = {  # the default under one other convention; a report has those that its network makes differ
    "cached": "the default, with the layer that sees a static image computed once and its result added at every step",
    "ones_added": "the default, with an input of 1 added and not multiplied: a binary frame needs no multiplication",
    "sums_added": "the default, with a sum of k spikes as k additions at each synapse and not as one multiplication",
    "pools_multiplied": "the default, with averages over spikes formed by additions and then multiplied, not folded",
    "zeros_left_out": "the default, without the synapses whose weight is 0",
}
MEANINGS = ENERGIES | VARIANTS
WORDS = {
    "event": "spiking, zero inputs skipped",
    "dense_in": "spiking, all inputs multiplied",
    "rate": "spiking, mean-rate formula",
    "full": "spiking, with biases and neurons",
    "ann": "not spiking, one dense pass",
    "cached": "first layer computed once",
    "ones_added": "inputs of 1 added",
    "sums_added": "sums of spikes added",
    "pools_multiplied": "averages multiplied",
    "zeros_left_out": "zero weights left out",
}
PARTS = ("multiply-accumulates", "additions", "bias and skip additions", "neurons")
CHOICES = {
    "input": ("dense", "event"),
    "pool": ("fold", "mac"),
    "zero_weights": ("counted", "left out"),
    "ones": ("multiplied", "added"),
    "sums": ("multiplied", "added"),
    "still": ("every step", "once"),
}
_VARIED = {
    "cached": ("still", "once"),
    "ones_added": ("ones", "added"),
    "sums_added": ("sums", "added"),
    "pools_multiplied": ("pool", "mac"),
    "zeros_left_out": ("zero_weights", "left out"),
}


def default_energy(input_policy: str) -> str:
    """Name of the energy to quote where the network's input is counted so."""
    return "dense_in" if input_policy == "dense" else "event"


@dataclass(frozen=True, kw_only=True)
class Policies:
    """Conventions that change the numbers, of all energies but `ann` and `rate`.

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
    ones
        'multiplied', or 'added': where a layer sees no spikes, an input of exactly 1 costs additions.
    sums
        'multiplied', or 'added': a sum of k spikes, which is what SEW's skip connections send, costs k additions a synapse.
    still
        'every step', or 'once': what sees a still image is computed in step 1, and its result added at every step.
    """

    input: str
    pool: str = "fold"
    zero_weights: str = "counted"
    ones: str = "multiplied"
    sums: str = "multiplied"
    still: str = "every step"

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ArgumentError(f"energy policy {name!r}: must be {' or '.join(map(repr, allowed))}; got {value!r}.")

    def of(self, name: str) -> Policies:
        """Those that the energy of that name is counted under."""
        if name in ("event", "dense_in"):
            return dataclasses.replace(self, input="event" if name == "event" else "dense")
        return dataclasses.replace(self, **dict([_VARIED[name]])) if name in _VARIED else self

    def varied_by(self, name: str) -> bool:
        """Whether one of `VARIANTS` is another convention than these."""
        return self.of(name) != self

    @property
    def unusual(self) -> str:
        """In words, those that are not what they are by default; of the input, the name of the default energy tells."""
        usual = Policies(input=self.input)
        chosen = {name: value for name, value in vars(self).items() if value != getattr(usual, name)}
        return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in chosen.items())
