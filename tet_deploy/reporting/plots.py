"""The plots of a report, each an inline SVG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tet_deploy.counting.conventions import WORDS
from tet_deploy.counting.model import EnergyReport
from tet_deploy.counting.synapses import FED_BY
from tet_deploy.counting.traffic import NEURON_KINDS
from tet_deploy.reporting.called import called
from tet_deploy.reporting.figures import INK, LINE, QUIET, SERIES, hover, plain_label, render, short
from tet_deploy.reporting.units import energy_text, energy_unit, percent, significant
from tet_deploy.wording import number_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_METHODS = {"tet": 0, "sdt": 1}  # their colours in the figures of experiments too
_FAR = 3  # a dense pass dearer than this many whole runs would squeeze the curve
_MOST_EPOCHS = 2000  # that a curve is drawn through
_LEAST_SPAN = 4  # points of accuracy that an axis shows at least
_LOG_FROM = 50  # ratio of largest to smallest bar from which a linear axis hides the small ones


def accuracy_by_step(series: Mapping[str, Sequence[float]]) -> str:
    """Accuracy over the number of steps, one line per training method."""

    def draw(figure: Figure) -> None:
        ax = figure.add_subplot()
        for index, (name, values) in enumerate(series.items()):
            steps = np.arange(1, len(values) + 1)
            color = SERIES[_METHODS.get(name.lower(), index) % len(SERIES)]
            label = f"{plain_label(called(name))}: {percent(values[-1])}"
            ax.plot(steps, 100 * np.asarray(values), "-", color=color, label=label)
            told = (f"{name}, step {step}: {100 * value} %" for step, value in zip(steps, values, strict=True))
            _points(ax, steps, 100 * np.asarray(values), color, told)
        ax.legend(loc="best", title="after the last step")
        _whole_steps(ax, max(len(values) for values in series.values()))
        _accuracies(ax)

    ends = (f"{name} {percent(values[0])} after step 1, {percent(values[-1])} at the end" for name, values in series.items())
    return render("accuracy-by-step", f"Accuracy by step: {'; '.join(ends)}", draw, height=3.1)


def training_curves(epochs: Sequence[Mapping[str, float]]) -> str:
    """Loss by epoch, and above it the held-out accuracy, if it was measured after more than one."""
    loss = [epoch["loss"] for epoch in epochs]
    measured = [(number, 100 * epoch["accuracy"]) for number, epoch in enumerate(epochs, start=1) if "accuracy" in epoch]
    curve = len(measured) > 1
    every = -(-len(loss) // _MOST_EPOCHS)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(2 if curve else 1, 1, sharex=True, squeeze=False)[:, 0]
        _curve(axes[-1], [*enumerate(loss, start=1)], SERIES[1], "epoch {}: loss {}")
        axes[-1].set_ylabel("loss")
        axes[-1].set_xlabel("epoch" if every == 1 else f"epoch, one of {every:,} drawn")
        axes[-1].xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        if len(loss) == 1:
            axes[-1].set_xlim(0, 2)
        if curve:
            _curve(axes[0], measured, SERIES[0], "epoch {}: {} %")
            _accuracies(axes[0])

    alt = f"Training over {number_of('epoch', len(epochs))}: loss {loss[0]:.4g} to {loss[-1]:.4g}"
    alt += f", accuracy {measured[-1][1]:.2f} % at the end" if measured else ""
    return render("training", alt, draw, height=4.2 if curve else 2.6)


def firing_rates(rates: Mapping[str, float]) -> str:
    """Spikes per neuron and step, one bar per population."""

    def draw(figure: Figure) -> None:
        ax = _bars(figure, [short(name, 34) for name in rates])
        values = 100 * np.array(list(rates.values()))
        hover(
            ax.barh(range(len(rates)), values, color=SERIES[0], height=0.62),
            (f"{name}: {100 * rate} %" for name, rate in rates.items()),
        )
        _print_values(ax, values, [f"{value:.1f} %" for value in values])
        ax.set_xlabel("spikes per neuron and step (%)", loc="right")

    alt = "Firing rates: " + ", ".join(f"{name} {percent(rate)}" for name, rate in rates.items())
    return render("firing-rates", alt, draw, height=0.75 + 0.33 * len(rates))


def energy_by_layer(report: EnergyReport) -> str:
    """The default energy of each synaptic layer, multiplications and additions stacked."""
    parts = {name: value.sum(axis=1) for name, value in report.parts(report.default).items()}
    rows = [row for row, kind in enumerate(report.traffic.kinds) if kind not in (*NEURON_KINDS, "add")]
    layers = [f"{report.traffic.layers[row]} ({FED_BY[report.traffic.kinds[row]]})" for row in rows]
    totals = np.array([sum(value[row] for value in parts.values()) for row in rows])
    size, unit = energy_unit(totals.max(initial=0))

    def draw(figure: Figure) -> None:
        ax = _bars(figure, [short(layer, 40) for layer in layers])
        left = np.zeros(len(rows))
        for color, (name, value) in zip((SERIES[1], SERIES[0]), list(parts.items())[:2], strict=True):
            bars = ax.barh(range(len(rows)), value[rows] / size, left=left, color=color, height=0.62, label=name)
            hover(bars, (f"{layer}, {name}: {value[row]} pJ" for layer, row in zip(layers, rows, strict=True)))
            left = left + value[rows] / size
        _print_values(ax, left, [significant(total / size) for total in totals])
        ax.set_xlabel(f"energy per inference ({unit})", loc="right")
        figure.legend(loc="outside upper right", ncols=2)

    height = 1.1 + 0.33 * len(rows)
    return render("energy-by-layer", f"Energy by layer: {_listed(layers, totals)}", draw, height)


def named_energies(report: EnergyReport, number: int = 0) -> str:
    """All named energies side by side, with their spread over samples; `number` is that of its table on the page."""
    means = np.array([report.mean(name) for name in report.names])
    spreads = np.array([report.std(name) for name in report.names])
    size, unit = energy_unit(means.max())
    positive = means[means > 0]
    logarithmic = len(positive) > 0 and positive.max() / positive.min() > _LOG_FROM

    def draw(figure: Figure) -> None:
        ax = _bars(figure, [f"{WORDS[name]} (default)" if name == report.default else WORDS[name] for name in report.names])
        colors = [SERIES[0] if name == report.default else SERIES[2] for name in report.names]
        bars, whiskers = means / size, spreads / size
        several = report.samples > 1  # one sample does not deviate from itself
        error = whiskers if several else None
        drawn = ax.barh(range(len(means)), bars, xerr=error, color=colors, ecolor=QUIET, height=0.62, log=logarithmic)
        deviations = [f" ± {spread}" if several else "" for spread in spreads]
        told = zip(report.names, means, deviations, strict=True)
        hover(drawn, (f"{WORDS[name]}: {mean}{deviation} pJ" for name, mean, deviation in told))
        _print_values(ax, bars + whiskers, [significant(mean / size) for mean in means], logarithmic)
        scale = ", logarithmic" if logarithmic else ""
        ax.set_xlabel(f"energy per inference ({unit}){scale}", loc="right")

    alt = f"Energies by table {report.table.name}: {_listed([WORDS[name] for name in report.names], means)}"
    return render(f"named-energies-{number}", alt, draw, height=0.75 + 0.36 * len(means))


def accuracy_over_energy(report: EnergyReport, accuracy: Sequence[float]) -> str:
    """Accuracy over the energy spent when the run stops after 1..T steps."""
    spent = report.by_step(report.default)
    size, unit = energy_unit(spent.max())

    def draw(figure: Figure) -> None:
        ax = figure.add_subplot()
        ax.plot(spent / size, 100 * np.asarray(accuracy), "-", color=SERIES[0])
        told = (f"{100 * share} % at {energy} pJ" for share, energy in zip(accuracy, spent, strict=True))
        _points(ax, spent / size, 100 * np.asarray(accuracy), SERIES[0], told)
        for step, (x, y) in enumerate(zip(spent / size, accuracy, strict=True), start=1):
            ax.annotate(str(step), (x, 100 * y), xytext=(-3, 5), textcoords="offset points", ha="right", color=INK)
        if "ann" in report.names and report.mean("ann") < _FAR * spent.max():
            dense = report.mean("ann") / size
            ax.axvline(dense, color=SERIES[1], linestyle="--")
            ax.text(dense, 0.04, f"{WORDS['ann']}  ", transform=ax.get_xaxis_transform(), ha="right")
        ax.set_xlim(left=0)
        ax.margins(y=0.18)
        ax.set_xlabel(f"energy per inference ({unit})")
        _accuracies(ax)

    points = (f"{percent(share)} at {energy_text(energy)}" for share, energy in zip(accuracy, spent, strict=True))
    return render("accuracy-over-energy", f"Accuracy over energy, step by step: {'; '.join(points)}", draw, height=3.1)


def _listed(names: Sequence[str], energies: np.ndarray) -> str:
    return ", ".join(f"{name} {energy_text(energy)}" for name, energy in zip(names, energies, strict=True))


def _bars(figure: Figure, labels: Sequence[str]) -> Axes:
    """Axes for horizontal bars, the first label on top."""
    ax = figure.add_subplot()
    ax.set_yticks(range(len(labels)), [plain_label(label) for label in labels])
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.spines["left"].set_visible(False)
    ax.margins(x=0.22)
    return ax


def _print_values(ax: Axes, ends: np.ndarray, texts: Sequence[str], logarithmic: bool = False) -> None:
    """Write each bar's value behind its end."""
    for row, (end, text) in enumerate(zip(ends, texts, strict=True)):
        ax.annotate(text, (end, row), xytext=(4, 0), textcoords="offset points", va="center", color=INK)
    if not logarithmic:
        ax.set_xlim(0, 1.25 * max(float(np.max(ends, initial=0)), 1e-9))


def _curve(ax: Axes, points: Sequence[tuple[int, float]], color: str, told: str) -> None:
    """A line through values by epoch, of very many through some; about a hundred of them tell their number."""
    drawn = [*points[:: -(-len(points) // _MOST_EPOCHS)], points[-1]]
    ax.plot(*zip(*drawn, strict=True), "-", color=color)
    marked = points[:: -(-len(points) // 100)]
    x, y = np.array(marked).T
    _points(ax, x, y, color, (told.format(*point) for point in marked))


def _points(ax: Axes, x: np.ndarray, y: np.ndarray, color: str, texts: Iterable[str]) -> None:
    """Points, each of which tells a text under the pointer."""
    hover([ax.plot(*point, "o", color=color, markersize=4.5)[0] for point in zip(x, y, strict=True)], texts)


def _accuracies(ax: Axes) -> None:
    """The axis of accuracies: no tick below 0 or above 100 %, and small differences look small."""
    low, high = ax.get_ylim()
    room = max(0.0, _LEAST_SPAN - (high - low)) / 2
    ax.set_ylim(low - room, high + room)
    ax.set_yticks([tick for tick in ax.get_yticks() if max(low - room, 0) <= tick <= min(high + room, 100)])
    ax.set_ylabel("accuracy (%)")


def _whole_steps(ax: Axes, steps: int) -> None:
    ax.set_xticks(range(1, steps + 1, max(steps // 12, 1)))
    ax.set_xlabel("time steps")
    ax.grid(visible=True, color=LINE)
