"""Panels: densities, draws and data on matplotlib axes, which displays may share."""

from functools import partial

import numpy as np

from skgen._lazy import lazy_module

colors = lazy_module("matplotlib.colors", "A display")
lines = lazy_module("matplotlib.lines", "A display")
patches = lazy_module("matplotlib.patches", "A display")

# Okabe and Ito (2008): distinct colours also with impaired colour vision.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

MARGIN = 0.15  # of the range, on each side
FAR = 0.005  # fraction of the draws on each side that may lie outside of the axes


def limits_of(display):
    """Return the ends of the axes, (n_shown, 2): all data, and nearly all draws."""
    if display.limits is not None:
        return np.array(display.limits)
    ends = np.quantile(display.draws, (FAR, 1.0 - FAR), axis=0)
    low = np.minimum(display.data.min(axis=0), ends[0])
    high = np.maximum(display.data.max(axis=0), ends[1])
    margin = MARGIN * (high - low)
    margin[margin == 0.0] = 1.0  # a constant column needs some width
    return np.column_stack([low - margin, high + margin])


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


# -- models and data on an axes are marked: a further model takes another colour, and
# -- the same data are drawn once


def mark_model(artist, handle, label):
    """Mark an artist as the picture of a model, with its legend entry."""
    artist._skgen_model = handle, label


def models_on(ax):
    """Return the legend entries, (handle, label), of the models on an axes."""
    marked = (getattr(artist, "_skgen_model", None) for artist in ax.get_children())
    return [entry for entry in marked if entry is not None]


def next_color(ax):
    """Return the colour of the next model on an axes."""
    return _COLORS[len(models_on(ax)) % len(_COLORS)]


def data_on(ax):
    """Return the legend entries, (artist, "data"), of the data on an axes."""
    artists = ax.get_children()
    return [(artist, "data") for artist in artists if hasattr(artist, "_skgen_data")]


def _shows(ax, data):
    """Return whether an axes shows this array of data already."""
    return any(np.array_equal(artist._skgen_data, data) for artist, _ in data_on(ax))


def legend(ax, entries, title, **where):
    """Draw a legend of entries (handle, label)."""
    handles, names = zip(*entries, strict=True)
    style = {"fontsize": "small", "title_fontsize": "small", "alignment": "left"}
    box = {"framealpha": 0.7, "edgecolor": "none"}
    return ax.legend(handles, names, title=title, **style, **box, **where)


# -- dots, histograms, curves and contours


def points(ax, rows, color, **style):
    """Draw (n, 2) rows as dots, smaller and fainter the more there are."""
    size = float(np.clip(50.0 / np.sqrt(rows.shape[0]), 1.8, 4.0))
    alpha = float(np.clip(20.0 / np.sqrt(rows.shape[0]), 0.4, 0.8))
    style = {"markersize": size, "alpha": alpha, "markeredgewidth": 0.0, **style}
    return ax.plot(*rows.T, "o", color=color, **style)[0]


def data_points(ax, rows, some, color):
    """Draw some of (n, 2) rows of data, unless the axes shows the data."""
    if not _shows(ax, rows):
        points(ax, some, color, label="data")._skgen_data = rows


def histogram(ax, values, edges, **style):
    """Draw a histogram as a density of all values, also of values outside of it."""
    counts = np.histogram(values, edges)[0]
    return ax.stairs(counts / (values.size * np.diff(edges)), edges, **style)


def data_histogram(ax, values, edges, color):
    """Draw a histogram of (n,) data, unless the axes shows the data."""
    if not _shows(ax, values):
        style = {"fill": True, "color": color, "alpha": 0.35, "label": "data"}
        histogram(ax, values, edges, **style)._skgen_data = values


def tints(color, strengths):
    """Return mixtures of white with a colour, of these strengths between 0 and 1."""
    strengths = np.reshape(strengths, (-1, 1))
    return 1.0 - strengths * (1.0 - np.array(colors.to_rgb(color)))


def curve(ax, display, label, color, data_color, show_data):
    """Draw the density of one feature over a histogram; return the line."""
    grid, label = display.grid[0], label or "density"
    if show_data:
        data = display.data[:, 0]
        ends = data.min(), data.max()
        if display.limits is not None:
            ends = np.clip(ends, grid[0], grid[-1])
        n = n_bins(data.size)
        # Data that are constant up to rounding, or beyond the limits.
        if ends[1] - ends[0] <= n * np.spacing(np.abs(ends).max()):
            ends = grid[0], grid[-1]
        edges = np.linspace(*ends, n + 1)
        data_histogram(ax, data, edges, data_color)
    line = ax.plot(grid, np.exp(display.log_density), color=color, label=label)[0]
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
    # matplotlib cannot interpolate between a number and -inf.
    levels = np.array(display.log_levels)
    floor = levels[np.isfinite(levels)].min(initial=0.0) - 100.0
    surface = np.maximum(display.log_density, floor)
    # A plateau at the highest density, as of a uniform density, is above its level.
    top = surface.max()
    levels[levels == top] -= 1e-9 * max(1.0, abs(top))
    # From the largest region to the smallest; equal levels have the same region.
    levels, last = np.unique(levels[::-1], return_index=True)
    masses = [f"{100 * mass:.4g}" for mass in np.asarray(display.masses)[::-1][last]]
    # A line must be darker than an area to be seen.
    ends = (0.25, 0.85) if fill else (0.5, 1.0)
    strengths = np.linspace(*ends, levels.size) if levels.size > 1 else np.mean(ends)
    shades = tints(color, strengths)
    sample = patches.Patch if fill else partial(lines.Line2D, [], [])
    entries = [
        (sample(color=shade), f"densest {mass} %")
        for mass, shade in zip(masses[::-1], shades[::-1], strict=True)
    ]
    entry = entries[0][0], f"{label or 'density'} ({', '.join(masses[::-1])} %)"
    reached = np.isfinite(levels) & (levels < top)
    drawn = None
    if reached.any():
        style = {"levels": levels[reached], "colors": shades[reached]}
        if fill:
            style["levels"] = [*levels[reached], top + 1.0]  # matplotlib needs two
            drawn = ax.contourf(x, y, surface, **style)
        else:
            drawn = ax.contour(x, y, surface, linewidths=1.5, **style)
        mark_model(drawn, *entry)
    if show_data:
        some = some_rows(display.data, display.draws.shape[0])
        data_points(ax, display.data, some, data_color)
    # The axes show the whole grid, and the grids of other models on them.
    ax.update_datalim([(x[0], y[0]), (x[-1], y[-1])])
    ax.margins(0.0)
    if display.limits is not None:
        ax.set(xlim=display.limits[0], ylim=display.limits[1])
    names = labels(display)
    ax.set(xlabel=names[0], ylabel=names[1])
    if others:
        entries, label = [*others, entry], "densest regions"
    where = _emptiest_corner(ax, np.vstack([display.data, display.draws]))
    legend(ax, [*entries, *data_on(ax)[:1]], label, loc=where)
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
