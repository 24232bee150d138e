#!/usr/bin/env python3
"""Draws the results of a run.

usage: plots.py RESULTS.json FOLDER        draws the figures of a run again
"""

import json
import math
import statistics
import sys
from pathlib import Path

import matplotlib

import ratios

matplotlib.use("svg")

from matplotlib import pyplot  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator  # noqa: E402

# One colour a system in all figures, told apart by the colour-blind too (Okabe and Ito), and one mark.
STYLES = {
    "s3vector": ("#0072B2", "o"), "pgvector": ("#D55E00", "s"), "vchordrq": ("#009E73", "D"),
    "diskann": ("#CC79A7", "v"), "faiss": ("#666666", "^"), "no index": ("#BBBBBB", "x"),
}
GREY = "#555555"
# Paths, not text: the same on every machine. No time stamp and no random names: equal results, equal files.
pyplot.rcParams.update({
    "svg.fonttype": "path", "svg.hashsalt": "s3vector", "font.size": 10, "axes.titlesize": 11,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY, "axes.labelcolor": GREY,
    "xtick.color": GREY, "ytick.color": GREY, "axes.grid": True, "grid.color": "#E5E5E5", "grid.linewidth": 0.7,
    "axes.axisbelow": True, "legend.frameon": False, "figure.facecolor": "white", "lines.linewidth": 1.8,
})
METADATA = {"Creator": None, "Date": None}


def style(system):
    colour, mark = STYLES[system]
    return {"color": colour, "marker": mark, "markersize": 4.5, "label": system}


def thousands(value, _):
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def rate_axis(axes):
    """A logarithmic axis with few, plain numbers."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    ticks = [part * 10**power for power in range(0, 7) for part in (1, 2, 5)]
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axes.yaxis.set_major_formatter(FuncFormatter(thousands))
    axes.yaxis.set_minor_locator(NullLocator())


def panels(count, width=4.6, height=3.6):
    figure, axes = pyplot.subplots(1, count, figsize=(width * count, height), squeeze=False, layout="constrained")
    return figure, axes[0]


def recall_figure(results):
    """Recall against queries a second, with the lowest and highest repeat of each point."""
    sets = results["sets"].values()
    figure, axes = panels(len(sets))
    for panel, measured in zip(axes, sets):
        for system, values in measured["systems"].items():
            points = values["points"]
            recalls = [point["recall"] for point in points]
            panel.plot(recalls, [statistics.median(point["rates"]) for point in points], **style(system))
            panel.fill_between(recalls, [min(point["rates"]) for point in points],
                               [max(point["rates"]) for point in points],
                               color=STYLES[system][0], alpha=0.15, linewidth=0)
        panel.axhline(statistics.median(measured["floor"]), color=GREY, linewidth=1, linestyle=":")
        panel.annotate("a row by its key, in SQL", (0.02, statistics.median(measured["floor"])), (0, 3),
                       xycoords=panel.get_yaxis_transform(), textcoords="offset points", color=GREY, fontsize=8)
        panel.set_title(f"{measured['title']}, {measured['rows']:,} × {measured['dimensions']}", loc="left")
        panel.set_xlabel("recall@10")
        panel.set_ylabel("queries/s, one client")
        rate_axis(panel)
    axes[0].legend(loc="lower left")
    return figure


def cold_figure(results):
    """Latency of cold queries against recall, in units of a plain request."""
    figure, axes = panels(1)
    points = results["cold"]["points"].values()
    recalls = [point["recall"] for point in points]
    for part, line in (("p50", "-"), ("p95", "--")):
        values = [ratios.paired(point[part], point["request"]) for point in points]
        axes[0].plot(recalls, [statistics.median(each) for each in values], line, color=STYLES["s3vector"][0],
                     marker="o", markersize=4.5, label=f"cold query, {part}")
        axes[0].fill_between(recalls, [min(each) for each in values], [max(each) for each in values],
                             color=STYLES["s3vector"][0], alpha=0.15, linewidth=0)
    axes[0].axhline(1, color=GREY, linewidth=1, linestyle=":")
    axes[0].annotate("one ranged GET of 64 KiB", (0.02, 1), (0, 3), xycoords=axes[0].get_yaxis_transform(),
                     textcoords="offset points", color=GREY, fontsize=8)
    axes[0].set_ylim(bottom=0)
    axes[0].set_title("Empty payload cache", loc="left")
    axes[0].set_xlabel("recall@10")
    axes[0].set_ylabel("times one request")
    axes[0].legend(loc="best")
    return figure


def bars(panel, values, title, unit):
    """Horizontal bars of medians, each with its number and the range of the repeats."""
    systems = list(values)
    medians = [statistics.median(values[system]) for system in systems]
    reach = [[median - min(values[system]) for median, system in zip(medians, systems)],
             [max(values[system]) - median for median, system in zip(medians, systems)]]
    panel.barh(systems, medians, color=[STYLES[system][0] for system in systems], height=0.6,
               xerr=reach if any(map(any, reach)) else None, error_kw={"ecolor": GREY, "elinewidth": 1})
    for row, (median, above) in enumerate(zip(medians, reach[1])):
        panel.annotate(f"{median:,.0f}", (median + above, row), (4, 0), textcoords="offset points", va="center")
    panel.invert_yaxis()
    panel.margins(x=0.18)
    panel.grid(axis="y", visible=False)
    panel.tick_params(axis="y", length=0)
    panel.xaxis.set_major_formatter(FuncFormatter(thousands))
    panel.set_title(title, loc="left")
    panel.set_xlabel(unit)


def memory_figure(results):
    """Memory a row that each index needs to be fast."""
    sets = results["sets"].values()
    figure, axes = panels(len(sets), height=2.4)
    for panel, measured in zip(axes, sets):
        values = {system: [found["bytes_a_row"]] for system, found in measured["systems"].items()
                  if "bytes_a_row" in found}
        bars(panel, values, f"{measured['title']}, {measured['dimensions']} dimensions", "bytes a row")
    return figure


def writing_figure(results):
    """Build rates of every set, and COPY where it was measured."""
    charts = [({system: found["build"] for system, found in measured["systems"].items()},
               f"CREATE INDEX, {measured['title']}") for measured in results["sets"].values()]
    charts += [(measured["copy"], f"COPY, {measured['title']}")
               for measured in results["sets"].values() if "copy" in measured]
    figure, axes = panels(len(charts), width=4, height=2.6)
    for panel, (values, title) in zip(axes, charts):
        bars(panel, values, title, "rows/s")
    return figure


def growth_figure(results):
    """How rates and memory change with the rows; dotted, what falls with log n from where s3vector begins."""
    growth = results["growth"]
    figure, axes = panels(3, width=4)
    for system, measured in growth["systems"].items():
        sizes = [size for size in growth["sizes"] if str(size) in measured]
        found = [measured[str(size)] for size in sizes]
        rates = [repeats(lambda repeat: ratios.at_recall(each["points"], growth["recall"], repeat),
                         len(each["points"][0]["rates"])) for each in found]
        builds = [[rate for rate in each["build"] if rate is not None] for each in found]
        for panel, values in zip(axes, (rates, builds, [[each["bytes_a_row"]] for each in found])):
            known = [(size, each) for size, each in zip(sizes, values) if each]
            across = [size for size, _ in known]
            medians = [statistics.median(each) for _, each in known]
            panel.plot(across, medians, **style(system))
            panel.fill_between(across, [min(each) for _, each in known], [max(each) for _, each in known],
                               color=STYLES[system][0], alpha=0.15, linewidth=0)
            if system == "s3vector" and panel is not axes[2]:
                panel.plot(across, [medians[0] * math.log(across[0]) / math.log(size) for size in across], ":",
                           color=GREY, linewidth=1.2, label="1 / log n")
    for panel, title in zip(axes, (f"queries/s at recall {growth['recall']}", "rows/s of CREATE INDEX", "bytes a row")):
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(FixedLocator(growth["sizes"]))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
        panel.set_title(title, loc="left")
        panel.set_xlabel("rows")
    for panel in axes[:2]:
        rate_axis(panel)
    axes[2].set_ylim(bottom=0)
    axes[0].legend(loc="lower left")
    return figure


def repeats(value, count):
    return [found for found in map(value, range(count)) if found is not None]


FIGURES = {
    "recall": ("Recall against queries a second", recall_figure, "sets"),
    "writing": ("Rates of building and of inserting", writing_figure, "sets"),
    "memory": ("Memory a row", memory_figure, "sets"),
    "cold": ("Cold queries", cold_figure, "cold"),
    "growth": ("Growth with the rows", growth_figure, "growth"),
}


def draw(results, folder):
    """Writes a file for each figure that the results have numbers for; their titles and names."""
    drawn = []
    for name, (title, figure, needed) in FIGURES.items():
        if results.get(needed):
            made = figure(results)
            made.savefig(folder / f"{name}.svg", metadata=METADATA)
            pyplot.close(made)
            drawn.append((title, f"{name}.svg"))
    return drawn


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__.strip().rpartition("\n")[2])
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
