"""Reports as pictures. The only importer of matplotlib, which is optional: `pip install fastfeed[plot]`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastfeed.errors import ConfigError

WIDTH_INCHES, HEIGHT_INCHES, DPI = 10.0, 4.0, 120
LABEL_MARGIN = 0.15  # room for a bar's label, as a share of the axis
BLUE, GRAY, RED = "#3b6ea5", "#9aa5b1", "#b5443b"


def require_matplotlib() -> None:
    """ConfigError where it is missing: before minutes are spent on measuring."""
    try:
        import matplotlib.figure  # noqa: F401 (whether it is there)
    except ImportError as error:
        raise ConfigError(f"--plot needs matplotlib ({error}). Install it: pip install 'fastfeed[plot]'") from error


def plot_ladder(report: Mapping[str, Any], file: Path) -> None:
    """What a sample costs in each stage, beside the rungs' rates."""
    figure, (left, right) = _panels(f"{report['url']}: {report['samples_per_s']:,.0f} samples/s")
    stages = report["stages"]
    bars = left.barh([each["stage"] for each in stages], [each["us_per_sample"] for each in stages], color=BLUE)
    left.bar_label(bars, [f"{each['share']:.0%}" for each in stages], padding=3)
    left.margins(x=LABEL_MARGIN)
    left.invert_yaxis()
    left.set_xlabel("thread time a sample, µs")
    rungs = report["ladder"]
    names = [f"{each['rung']}\n{each['threads']} thread{'s' if each['threads'] > 1 else ''}" for each in rungs]
    colours = [GRAY] * (len(rungs) - 1) + [BLUE]
    bars = right.bar(range(len(rungs)), [each["samples_per_s"] for each in rungs], color=colours)
    right.bar_label(bars, [f"{each['samples_per_s']:,.0f}" for each in rungs], padding=3)
    right.margins(y=LABEL_MARGIN)
    right.set_xticks(range(len(rungs)), names)
    right.set_ylabel("samples/s")
    right.set_title(f"bound by {report['bound_by']}", fontsize=8)
    _save(figure, file)


def plot_workload(report: Mapping[str, Any], file: Path) -> None:
    """Utilisation by the number of accelerators, beside what they were given."""
    best = {run["accelerators"]: run["au"] for run in report["runs"]}  # of a number's runs the last is the best
    counts = list(best)
    needed_per_s = report["needed_samples_per_s"]
    figure, (left, right) = _panels(
        f"{report['title']}, {report['accelerator'].upper()}: {report['accelerators_fed']} fed at AU "
        f"{report['au_min']:.0%}")
    left.plot(counts, [100 * au for au in best.values()], "o-", color=BLUE)
    left.axhline(100 * report["au_min"], color=RED, linestyle="--", label="what the rules ask for")
    left.set_ylim(0, 105)
    left.set_ylabel("accelerator utilisation, %")
    left.legend()
    right.plot(counts, [count * au * needed_per_s for count, au in best.items()], "o-", color=BLUE, label="given")
    right.plot(counts, [count * needed_per_s for count in counts], color=GRAY, linestyle="--", label="asked for")
    right.set_ylim(0)
    right.set_ylabel("samples/s")
    right.legend()
    for panel in (left, right):
        panel.set_xlabel("accelerators")
        panel.set_xticks(counts)
    _save(figure, file)


def _panels(title: str) -> tuple[Any, tuple[Any, Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    return figure, (left, right)


def _save(figure: Any, file: Path) -> None:
    try:
        figure.savefig(file, dpi=DPI, format="png")
    except FileNotFoundError as error:
        raise ConfigError(f"--plot {file}: there is no folder {file.parent}") from error
