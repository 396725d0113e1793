"""Why a population may differ from what it should be, and what would mend it."""

from __future__ import annotations

from tet_deploy.passes.widths import WIDEST

WEIGHT_ROUNDING = "weight rounding"
WEIGHT_CLIPPING = "clipped weights"
WEIGHTS = "other weights"
BIAS = "bias rounding"
BIAS_BEHIND = "bias behind the current"  # as a chip adds it; a float network adds it before
DECAY = "decay rounding"
THRESHOLD = "threshold rounding"
MESSAGE_CLIPPING = "clipped messages"
INPUT_ROUNDING = "rounded messages"
INPUT_SCALE = "input scale"
WRAP = "sums that wrap"
SATURATION = "potentials held at the limit"
BORDER = "pooling border"
FOLDING = "folding"
QUANTIZATION = "quantization of the first link"  # as a whole: the float link has other layers
LATENCY = "latency"
BATCH_NORM = "batch norm in train mode"
COMPARISON = "'>' and '>=' exchanged"
UNKNOWN = "unknown"

ANEW = "lower the traced network again: tet-deploy convert"
TURNED = "the first link is quantized, and the second is not; name the float one first, and the roundings are told apart"
LARGER = "calibrate on frames like these: tet-deploy quantize --calibration FRAMES"
MEND = {
    WEIGHT_ROUNDING: f"keep {{layer}} at more bits: tet-deploy quantize --bits {{layer}}={WIDEST}",
    WEIGHT_CLIPPING: "keep {layer} at more bits, or calibrate on more frames: "
    f"tet-deploy quantize --bits {{layer}}={WIDEST}",
    WEIGHTS: "its weights are others: export the network again",
    BIAS: "quantize the lowered network again; the smaller the largest bias, the finer are all",
    BIAS_BEHIND: "train without biases and batch norm before neurons with a current, or show more steps",
    DECAY: "train with a decay that 12 bit hold, a multiple of 1/4096",
    THRESHOLD: "quantize the lowered network again, on more frames: another scale rounds it less",
    MESSAGE_CLIPPING: LARGER,
    INPUT_ROUNDING: "scale the frames so that whole numbers tell them apart, or calibrate on smaller ones",
    INPUT_SCALE: "show it frames in the units of training; or quantize again, if input and weights mean different units",
    WRAP: LARGER,
    SATURATION: f"{LARGER}; or train with a decay below 1",
    BORDER: f"{ANEW}; padding, stride or kernel of {{layer}} are others",
    FOLDING: ANEW,
    QUANTIZATION: TURNED,
    LATENCY: "export the bundle again, or align the recording: its steps are shifted",
    BATCH_NORM: "call model.eval() before it runs",
    COMPARISON: "compare potential and threshold as the network's LIF.comparison says",
    UNKNOWN: "look closer: td.run(network, one_sample, probes='all')",
}
_AT_ALL_BITS = f"{{layer}} has all {WIDEST} bits; train with them: tet-deploy finetune"
_IN_FLOATS = (
    "its weights lie on the finest grid on which float32 is exact for the frames it was lowered with; "
    "smaller frames leave a finer one: td.lower(graph, frames)"
)


def mend(cause: str, layer: str, bits: int | None) -> str:
    """What to do about a cause in a population that this layer of so many bits, None for floats, feeds."""
    if cause in (WEIGHT_ROUNDING, WEIGHT_CLIPPING, BIAS) and bits is None:
        return _IN_FLOATS
    if cause == WEIGHT_ROUNDING and bits is not None and bits >= WIDEST:
        return _AT_ALL_BITS.format(layer=layer)
    return MEND[cause].format(layer=layer)
