"""A corner plot: marginals of draws over those of the data."""

import numpy as np

from skgen._parameters import Described, wrong_argument
from skgen.display._panels import (
    heights,
    labels,
    limits,
    n_bins,
    points,
    some_rows,
    tints,
    titled,
)

MOST_DOTS = 1000  # of the data, and of draws, in one small panel


def corner_axes(plt, ax, n_shown):
    """Return an array of axes, None above the diagonal, in what `ax` gives."""
    if ax is None:
        side = min(1.9 * n_shown + 1.0, 14.0)
        size = (side, side) if n_shown > 1 else None
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    if not hasattr(ax, "get_subplotspec"):
        return _given_axes(ax, n_shown)
    axes = np.full((n_shown, n_shown), None, dtype=object)
    if n_shown == 1:
        axes[0, 0] = ax
        return axes
    if ax.get_subplotspec() is None:
        rule = "an Axes of a grid, as plt.subplots makes it"
        raise wrong_argument("DensityDisplay.plot", "ax", rule, ax)
    ax.set_axis_off()
    grid = ax.get_subplotspec().subgridspec(n_shown, n_shown, hspace=0.06, wspace=0.06)
    for i in range(n_shown):
        for j in range(i + 1):
            axes[i, j] = ax.figure.add_subplot(
                grid[i, j],
                sharex=axes[j, j],
                sharey=axes[i, 0] if 0 < j < i else None,
            )
    return axes


def _given_axes(ax, n_shown):
    """Return a copy of an array of axes; hide those above the diagonal."""
    axes = np.array(ax, dtype=object)
    if axes.shape != (n_shown, n_shown):
        rule = f"one Axes, or an array of them of shape ({n_shown}, {n_shown})"
        got = Described(f"an array of shape {axes.shape}")
        raise wrong_argument("DensityDisplay.plot", "ax", rule, got)
    for i, j in zip(*np.triu_indices(n_shown, 1), strict=True):
        axes[i, j].set_visible(False)
        axes[i, j] = None
    return axes


def corner(axes, display, color, data_color, show_data):
    """Draw marginals on the diagonal, and pairs of columns below it."""
    from matplotlib.ticker import MaxNLocator

    data, draws, names = display.data, display.draws, labels(display)
    # As many draws as rows, so that dots are as dense where the model is right.
    n_dots = min(data.shape[0], draws.shape[0], MOST_DOTS)
    some_data, some_draws = some_rows(data, n_dots), some_rows(draws, n_dots)
    ends = [limits(a, b) for a, b in zip(data.T, draws.T, strict=True)]
    last = len(ends) - 1
    for (i, j), ax in np.ndenumerate(axes):
        if ax is None:
            continue
        if i == j:
            n_least = min(data.shape[0], draws.shape[0])
            edges = np.linspace(*ends[j], n_bins(n_least) + 1)
            _histograms(ax, display, j, edges, color, data_color, show_data)
        else:
            # Paler than the data, which lie on top.
            points(ax, some_draws[:, [j, i]], tints(color, 0.55)[0], alpha=1.0)
            if show_data:
                points(ax, some_data[:, [j, i]], data_color)
            ax.set_ylim(ends[i])
            ax.yaxis.set_major_locator(MaxNLocator(3))
        ax.set_xlim(ends[j])
        ax.xaxis.set_major_locator(MaxNLocator(3 if last else 6))
        first = j == 0 and i > 0
        ax.tick_params(labelbottom=i == last, labelleft=first, labelsize="small")
        if i == last:
            ax.set_xlabel(names[j])
        if first:
            ax.set_ylabel(names[i])
    if last == 0:
        axes[0, 0].legend(**titled(display))
        return
    axes[0, 0].figure.align_ylabels(axes[1:, 0])
    # In the empty half, where the layout need not make room for it.
    where = {"loc": "upper left", "bbox_to_anchor": (1.05, 1.0), "borderaxespad": 0.0}
    legend = axes[0, 0].legend(**where, **titled(display))
    legend.set_in_layout(False)


def _histograms(ax, display, j, edges, color, data_color, show_data):
    """Draw the marginal of one column: of the data filled, of draws as a line."""
    if show_data:
        style = {"fill": True, "color": data_color, "alpha": 0.35, "label": "data"}
        ax.stairs(heights(display.data[:, j], edges), edges, **style)
    style = {"color": color, "linewidth": 1.3, "label": "draws"}
    ax.stairs(heights(display.draws[:, j], edges), edges, **style)
    ax.set_ylim(bottom=0.0)
    ax.set_yticks([])
