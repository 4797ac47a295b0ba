"""A corner plot: marginals of draws over marginals of the data."""

import re

import numpy as np

from skgen._checks import Described, wrong_argument
from skgen._lazy import lazy_module
from skgen.display._panels import (
    data_histogram,
    data_on,
    data_points,
    histogram,
    labels,
    legend,
    limits_of,
    mark_model,
    models_on,
    n_bins,
    points,
    some_rows,
    tints,
)

cbook = lazy_module("matplotlib.cbook", "DensityDisplay.plot")
pyplot = lazy_module("matplotlib.pyplot", "DensityDisplay.plot")
ticker = lazy_module("matplotlib.ticker", "DensityDisplay.plot")

MAX_DOTS = 1000  # of the data, and of draws, in one panel


def corner_axes(ax, n_shown):
    """Return (n_shown, n_shown) axes in `ax`, None above the diagonal."""
    if ax is None:
        side = min(1.9 * n_shown + 1.0, 14.0)
        size = (side, side) if n_shown > 1 else None
        ax = pyplot.subplots(figsize=size, layout="constrained")[1]
    if not hasattr(ax, "get_subplotspec"):
        return _given_axes(ax, n_shown)
    axes = np.full((n_shown, n_shown), None, dtype=object)
    if n_shown == 1:
        axes[0, 0] = ax
        return axes
    if ax.get_subplotspec() is None:
        rule = "an Axes of a grid, as plt.subplots makes it"
        raise wrong_argument("DensityDisplay.plot", "ax", rule, ax)
    before = getattr(ax, "_skgen_corner", axes)
    if before[0, 0] in ax.figure.axes:
        if before.shape != axes.shape:
            rule = f"an Axes without a corner plot of {before.shape[0]} columns"
            raise wrong_argument("DensityDisplay.plot", "ax", rule, ax)
        return before
    ax.set_axis_off()
    grid = ax.get_subplotspec().subgridspec(n_shown, n_shown, hspace=0.06, wspace=0.06)
    for i, j in zip(*np.tril_indices(n_shown), strict=True):
        share = {"sharex": axes[j, j], "sharey": axes[i, 0] if 0 < j < i else None}
        axes[i, j] = ax.figure.add_subplot(grid[i, j], **share)
    ax._skgen_corner = axes
    return axes


def _given_axes(ax, n_shown):
    """Return a copy of an array of axes; hide the axes above the diagonal."""
    axes = np.array(ax, dtype=object)
    if axes.shape != (n_shown, n_shown):
        rule = f"one Axes, or an array of them of shape ({n_shown}, {n_shown})"
        got = Described(f"an array of shape {axes.shape}")
        raise wrong_argument("DensityDisplay.plot", "ax", rule, got)
    for i, j in zip(*np.triu_indices(n_shown, 1), strict=True):
        if axes[i, j] is not None:
            axes[i, j].set_visible(False)
            axes[i, j] = None
    return axes


def corner(axes, display, label, color, data_color, show_data):
    """Draw marginals on the diagonal, and pairs of columns below it.

    Returns the ends of the axes, (n_shown, 2).
    """
    data, draws, names = display.data, display.draws, labels(display)
    others = models_on(axes[0, 0])
    ends = limits_of(display)
    if others and display.limits is None:
        ends = np.hstack([ends, [ax.get_xlim() for ax in axes.diagonal()]])
        ends = np.column_stack([ends.min(axis=1), ends.max(axis=1)])
    n_least = min(data.shape[0], draws.shape[0])
    # Equal numbers of data and draws: dots of both colours are equally dense if the
    # model is right.
    n_dots = min(n_least, MAX_DOTS)
    some_data, some_draws = some_rows(data, n_dots), some_rows(draws, n_dots)
    last = len(ends) - 1
    if last > 0:
        names = [wrapped(*pair) for pair in zip(names, ends, strict=True)]
    for i, j in zip(*np.tril_indices(last + 1), strict=True):
        ax = axes[i, j]
        if i == j:
            edges = np.linspace(*ends[j], n_bins(n_least) + 1)
            if show_data:
                data_histogram(ax, data[:, j], edges, data_color)
            style = {"color": color, "linewidth": 1.3, "label": "draws"}
            line = histogram(ax, draws[:, j], edges, **style)
            mark_model(line, line, f"draws of {label}" if label else "draws")
            ax.set_yticks([])
        else:
            # Paler than the data, and below them.
            pale = tints(color, 0.55)[0]
            points(ax, some_draws[:, [j, i]], pale, alpha=1.0, zorder=1.9)
            if show_data:
                data_points(ax, data[:, [j, i]], some_data[:, [j, i]], data_color)
            ax.set_ylim(ends[i])
            ax.yaxis.set_major_locator(ticker.MaxNLocator(3))
        ax.set_xlim(ends[j])
        if last > 0:
            ax.xaxis.set_major_locator(ticker.MaxNLocator(3))
        first = j == 0 and i > 0
        ax.tick_params(labelbottom=i == last, labelleft=first, labelsize="small")
        ax.set(xlabel=names[j] if i == last else "", ylabel=names[i] if first else "")
    entries = models_on(axes[0, 0])
    if not others:
        entries = [(entries[0][0], "draws")]
    entries = [*data_on(axes[0, 0])[:1], *entries]
    where, title = {}, None if others else label
    if last > 0:
        # In the empty half of the figure, where the layout need not make room for it.
        where = {"loc": "upper left", "bbox_to_anchor": (1.05, 1), "borderaxespad": 0}
        axes[0, 0].figure.align_ylabels(axes[1:, 0])
    legend(axes[0, 0], entries, title, **where).set_in_layout(last == 0)
    return ends


def wrapped(name, ends):
    """Return a name in lines that fit a panel, broken after spaces and the like."""
    if cbook.is_math_text(name):
        return name
    # In characters. At very small or large numbers, "1e-6" stands beside the name.
    width = 18 if 1e-4 < np.abs(ends).max() < 1e6 else 14
    lines = [""]
    for part in re.findall("[^ _/-]*[ _/-]*", name):
        if lines[-1] and len((lines[-1] + part).rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.strip() for line in lines)
