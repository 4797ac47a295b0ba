"""How a density of one or two features is drawn, and the parts common to all panels."""

import numpy as np

from skgen._lazy import lazy_module
from skgen.display._layers import (
    data_on,
    legend_style,
    mark_data,
    mark_model,
    models_on,
    shows,
)

colors = lazy_module("matplotlib.colors", "A display")
lines = lazy_module("matplotlib.lines", "A display")
patches = lazy_module("matplotlib.patches", "A display")

MARGIN = 0.15  # of the range, on each side
FAR = 0.005  # fraction of the draws on each side that may lie outside of the axes


def limits(data, draws):
    """Return the ends of a column's axis: all data, nearly all draws, and a margin."""
    ends = np.quantile(draws, (FAR, 1.0 - FAR))
    low, high = min(data.min(), ends[0]), max(data.max(), ends[1])
    margin = MARGIN * (high - low) or 1.0  # a constant column needs some width
    return low - margin, high + margin


def heights(values, edges):
    """Return a histogram as a density of all values, also of values outside of it."""
    counts = np.histogram(values, edges)[0]
    return counts / (values.size * np.diff(edges))


def n_bins(n_samples):
    """Return the number of bins of a histogram, somewhat above Rice's rule."""
    return int(np.clip(np.ceil(3 * np.cbrt(n_samples)), 5, 60))


def some_rows(rows, n_shown):
    """Return at most `n_shown` of the rows at random, always the same ones."""
    if rows.shape[0] <= n_shown:
        return rows
    return rows[np.random.RandomState(0).permutation(rows.shape[0])[:n_shown]]


def labels(display):
    """Return the names of the columns of a display."""
    if display.feature_names is not None:
        return display.feature_names
    return [f"feature {j}" for j in range(display.data.shape[1])]


def points(ax, rows, color, **style):
    """Draw (n, 2) rows as dots, smaller and fainter the more there are."""
    size = float(np.clip(50.0 / np.sqrt(rows.shape[0]), 1.8, 4.0))
    alpha = float(np.clip(20.0 / np.sqrt(rows.shape[0]), 0.4, 0.8))
    style = {"markersize": size, "alpha": alpha, "markeredgewidth": 0.0, **style}
    return ax.plot(*rows.T, "o", color=color, **style)[0]


def data_points(ax, rows, shown, color):
    """Draw the `shown` ones of (n, 2) rows of data, unless the axes has the rows."""
    if not shows(ax, rows):
        mark_data(points(ax, shown, color, label="data"), rows)


def histogram(ax, data, edges, color):
    """Draw a histogram of (n,) data, unless the axes has one of the same data."""
    if not shows(ax, data):
        style = {"fill": True, "color": color, "alpha": 0.35, "label": "data"}
        mark_data(ax.stairs(heights(data, edges), edges, **style), data)


def tints(color, strengths):
    """Return mixtures of white with a colour, of these strengths between 0 and 1."""
    strengths = np.reshape(strengths, (-1, 1))
    return 1.0 - strengths * (1.0 - np.array(colors.to_rgb(color)))


def curve(ax, display, label, color, data_color, show_data):
    """Draw the density of one feature over a histogram; return the line."""
    grid = display.grid[0]
    if show_data:
        data = display.data[:, 0]
        ends = data.min(), data.max()
        if display.limits is not None:
            ends = max(ends[0], grid[0]), min(ends[1], grid[-1])
        if ends[0] >= ends[1]:
            ends = grid[0], grid[-1]
        edges = np.linspace(*ends, n_bins(data.size) + 1)
        histogram(ax, data, edges, data_color)
    label = label or "density"
    density = np.exp(display.log_density)
    line = ax.plot(grid, density, color=color, label=label)[0]
    mark_model(line, line, label)
    # The limits of the axes may grow with a second model.
    line.sticky_edges.y.append(0.0)
    ax.margins(x=0.0)
    if display.limits is not None:
        ax.set_xlim(display.limits[0])
    ax.set(xlabel=labels(display)[0], ylabel="density")
    ax.ticklabel_format(axis="y", scilimits=(-2, 4))
    ax.legend(frameon=False)
    return line


def contours(ax, display, label, color, data_color, show_data, fill):
    """Draw the highest-density regions of two features under the data."""
    x, y = display.grid
    others = models_on(ax)
    # From the largest region to the smallest; equal levels have the same region.
    levels, first = np.unique(display.log_levels, return_index=True)
    masses = np.asarray(display.masses)[first]
    # A line must be darker than an area to be seen.
    ends = (0.25, 0.85) if fill else (0.5, 1.0)
    strengths = np.linspace(*ends, levels.size) if levels.size > 1 else np.mean(ends)
    shades = tints(color, strengths)
    # matplotlib cannot interpolate between a number and -inf.
    finite = np.isfinite(levels)
    floor = levels[finite].min(initial=0.0) - 100.0
    surface = np.maximum(display.log_density, floor)
    reached = finite & (levels < surface.max())
    handles = [
        patches.Patch(color=shade, label=f"densest {100 * mass:.4g} %")
        if fill
        else lines.Line2D([], [], color=shade, label=f"densest {100 * mass:.4g} %")
        for mass, shade in zip(masses[::-1], shades[::-1], strict=True)
    ]
    listed = ", ".join(f"{100 * mass:.4g}" for mass in masses[::-1])
    entry = handles[0], f"{label or 'density'} ({listed} %)"
    drawn = None
    if reached.any():
        options = {"levels": levels[reached], "colors": shades[reached]}
        if fill:
            drawn = ax.contourf(x, y, surface, extend="max", **options)
        else:
            drawn = ax.contour(x, y, surface, linewidths=1.5, **options)
        mark_model(drawn, *entry)
    if show_data:
        n_dots = display.draws.shape[0]
        data_points(ax, display.data, some_rows(display.data, n_dots), data_color)
    # The axes show the whole grid, and the grids of other models on them.
    ax.update_datalim([(x[0], y[0]), (x[-1], y[-1])])
    ax.margins(0.0)
    if display.limits is not None:
        ax.set(xlim=display.limits[0], ylim=display.limits[1])
    names = labels(display)
    ax.set(xlabel=names[0], ylabel=names[1])
    if others:
        handles, names = zip(*others, entry, strict=True)
        label = "densest regions"
    else:
        names = [handle.get_label() for handle in handles]
    data = data_on(ax)[:1]
    ax.legend(
        handles=[*handles, *data],
        labels=[*names, *(["data"] * len(data))],
        loc=_emptiest_corner(ax, np.vstack([display.data, display.draws])),
        **legend_style(label),
    )
    return drawn


def _emptiest_corner(ax, rows):
    """Return the corner of the axes with the fewest rows, as legends name it."""
    low, high = np.transpose([ax.get_xlim(), ax.get_ylim()])
    x, y = ((rows - low) / (high - low)).T
    across = {"left": x < 0.35, "right": x > 0.65}
    up = {"upper": y > 0.65, "lower": y < 0.35}
    corners = {f"{v} {h}": (up[v] & across[h]).sum() for v in up for h in across}
    # The upper right corner, unless another one is emptier.
    return min(corners, key=lambda c: (corners[c], c != "upper right"))
