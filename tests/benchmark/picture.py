"""The picture of tests/benchmark/scaling.py: cost against prompts, and against the length of texts."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

TITLES = {"prompts": "prompts K", "tokens": "tokens of a text"}
# no date and no drawn names in the file: equal figures give an equal picture
matplotlib.rcParams["svg.hashsalt"] = "scaling"


def draw(rows: list[dict[str, Any]], exponents: dict[str, Any], usual: dict[str, int], path: Path) -> None:
    """Draw the seconds of an example on double logarithmic axes, a line per number of ranks, to an SVG or PNG file.

    Args:
        rows: `ranks`, `prompts`, `tokens` and `seconds` each.
        exponents: by key and number of ranks.
        usual: what the other keys are while one changes.
        path: the file; its ending says which format.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for panel, key in zip(figure.subplots(1, 2), TITLES, strict=True):
        held = {name: value for name, value in usual.items() if name != key}
        shown = [row for row in rows if all(row[name] == value for name, value in held.items())]
        for ranks, marker in zip(sorted({row["ranks"] for row in shown}), "os", strict=False):
            # a point that both series hold was measured twice
            costs = {row[key]: row["seconds"] for row in shown if row["ranks"] == ranks}
            places = sorted(costs)
            label = f"{ranks} rank{'s' if ranks > 1 else ''}: exponent {exponents[key][ranks]:.2f}"
            panel.plot(places, [costs[place] for place in places], marker=marker, label=label)
        start = min(costs)
        panel.plot(places, [costs[start] * place / start for place in places], "k:", label="linear")
        panel.set(xscale="log", yscale="log", xlabel=TITLES[key], ylabel="seconds of a rank per example")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.set_xticks(places, [str(place) for place in places])
        panel.minorticks_off()
        panel.set_title(", ".join(f"{value} {name}" for name, value in held.items()), fontsize=10)
        panel.grid(alpha=0.3)
        panel.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)
