"""One sample as the network saw it: its frames, who fired at which step, and how the decision grew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tet_deploy.reporting.data import SampleView
from tet_deploy.reporting.figures import INK, QUIET, plain_label, render, short
from tet_deploy.wording import number_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec

_LARGEST_RASTER = 150  # neurons drawn per population
_MOST_FRAMES = 10
_SPIKE = (59, 120, 214)
_ON, _OFF = (222, 120, 40), (59, 120, 214)  # brightening and darkening events
_CLASS = (31, 150, 118)


def sample_plot(sample: SampleView, name: str = "sample") -> str:
    """Frames on top, spikes of each population below (a column per step, a row per neuron), mean readout at the bottom."""
    steps = len(sample.frames)
    drawn = {population: _thinned(spikes.reshape(steps, -1)) for population, spikes in sample.spikes.items()}
    heights = [0.9, *(0.35 + 0.9 * np.sqrt(len(rows) / _LARGEST_RASTER) for rows in drawn.values()), 0.9]
    pictured = np.linspace(0, steps - 1, min(steps, _MOST_FRAMES)).round().astype(int)
    pictures = sample.frames.ndim == 4
    low, largest = float(sample.frames.min()), max(float(np.abs(sample.frames).max()), 1e-12)

    def draw(figure: Figure) -> None:
        grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
        top = grid[0].subgridspec(1, len(pictured))
        for column, step in enumerate(pictured):
            frame, ax = sample.frames[step], figure.add_subplot(top[0, column])
            image = frame_image(frame, largest) if pictures else frame[:, None]
            ax.imshow(image, cmap="gray", vmin=low, vmax=largest, aspect="equal" if pictures else "auto")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(True)
            ax.set_title(str(step + 1), fontsize=9, color=QUIET)
        for row, (population, spikes) in enumerate(drawn.items(), start=1):
            total = sample.spikes[population][0].size
            shown = number_of("neuron", total) if len(spikes) == total else f"{len(spikes)} of {total} neurons"
            _raster(figure, grid[row], f"{plain_label(short(population, 40))}: {shown}", _tinted(spikes, _SPIKE))
        readout = sample.mean_readout.T
        share = (readout - readout.min()) / max(float(np.ptp(readout)), 1e-12)
        ax = _raster(figure, grid[len(heights) - 1], "mean readout so far, a row per class", _tinted(share, _CLASS))
        ax.scatter(range(steps), readout.argmax(axis=0), s=14, color=INK)
        ax.set_xlabel("time step")
        ax.set_xticks(pictured, [str(step + 1) for step in pictured])
        ax.tick_params(axis="x", length=0, labelbottom=True)

    fired = ", ".join(
        f"{population} {number_of('spike', int(spikes.sum(dtype=np.int64)), '')}"
        for population, spikes in sample.spikes.items()
    )
    alt = f"One sample over {number_of('step', steps)}, decided as class {sample.decision}: {fired}"
    return render(name, alt, draw, height=0.4 + 0.85 * sum(heights))


def _raster(figure: Figure, place: SubplotSpec, title: str, image: np.ndarray) -> Axes:
    ax = figure.add_subplot(place)
    ax.imshow(image, aspect="auto", interpolation="nearest")
    ax.set_title(title, loc="left", fontsize=9)
    ax.set(yticks=[])
    ax.set_xticks(np.arange(image.shape[1] + 1) - 0.5, [])
    ax.grid(visible=True, axis="x")
    ax.tick_params(length=0, labelbottom=False)
    ax.spines[:].set_visible(True)
    return ax


def _thinned(spikes: np.ndarray) -> np.ndarray:
    """[neurons, T], at most so many rows, evenly chosen."""
    chosen = np.linspace(0, spikes.shape[1] - 1, min(spikes.shape[1], _LARGEST_RASTER)).round().astype(int)
    return spikes[:, chosen].T


def _tinted(strength: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """uint8 [..., 4]: the colour, as opaque as the strength in [0, 1]."""
    image = np.empty((*strength.shape, 4), dtype=np.uint8)
    image[..., :3] = color
    image[..., 3] = np.rint(255 * strength)
    return image


def frame_image(frame: np.ndarray, largest: float) -> np.ndarray:
    """A frame [C, H, W] as a picture: two channels as darkening and brightening events, three as colours, else grey."""
    strength = np.abs(frame) / largest
    if len(frame) == 2:
        off, on = _tinted(strength[0], _OFF).astype(float), _tinted(strength[1], _ON).astype(float)
        picked = np.where((strength[1] >= strength[0])[..., None], on, off)
        return picked.astype(np.uint8)
    if len(frame) == 3:
        low, high = float(frame.min()), float(frame.max())
        return np.asarray((frame.transpose(1, 2, 0) - low) / max(high - low, 1e-12))
    return np.asarray(frame.mean(axis=0))
