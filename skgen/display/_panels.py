"""How a density of one feature or two is drawn, and what all panels share."""

import numpy as np

MARGIN = 0.15  # of the range, on each side
FAR = 0.005  # of the draws on each side of a column, which may fall outside


def limits(data, draws):
    """Return the ends of one column's axis: all data, nearly all draws, a margin."""
    ends = np.quantile(draws, (FAR, 1.0 - FAR))
    low, high = min(data.min(), ends[0]), max(data.max(), ends[1])
    margin = MARGIN * (high - low) or 1.0  # for a constant, some width
    return low - margin, high + margin


def heights(values, edges):
    """Return a histogram as a density of all values, those outside the edges too."""
    counts = np.histogram(values, edges)[0]
    return counts / (values.size * np.diff(edges))


def n_bins(n_samples):
    """Return how many bins a histogram gets, somewhat more than Rice's rule."""
    return int(np.clip(np.ceil(3 * np.cbrt(n_samples)), 5, 60))


def some_rows(rows, n_shown):
    """Return at most `n_shown` of the rows at random, the same ones every time."""
    if rows.shape[0] <= n_shown:
        return rows
    return rows[np.random.RandomState(0).permutation(rows.shape[0])[:n_shown]]


def labels(display):
    """Return the names of the columns that a display shows."""
    if display.feature_names is not None:
        return display.feature_names
    return [f"feature {j}" for j in range(display.data.shape[1])]


def points(ax, rows, color, **style):
    """Scatter rows as dots, smaller and fainter the more there are."""
    size = float(np.clip(50.0 / np.sqrt(rows.shape[0]), 1.8, 4.0))
    alpha = float(np.clip(20.0 / np.sqrt(rows.shape[0]), 0.4, 0.8))
    style = {"markersize": size, "alpha": alpha, "markeredgewidth": 0.0, **style}
    return ax.plot(*rows.T, "o", color=color, **style)[0]


def tints(color, shares):
    """Return mixtures of white and these shares of a colour."""
    from matplotlib.colors import to_rgb

    return 1.0 - np.reshape(shares, (-1, 1)) * (1.0 - np.array(to_rgb(color)))


def curve(ax, display, color, data_color, show_data):
    """Draw the density of one feature over a histogram; return the line."""
    grid = display.grid[0]
    if show_data:
        data = display.data[:, 0]
        ends = data.min(), data.max()
        if ends[0] == ends[1]:
            ends = grid[0], grid[-1]
        edges = np.linspace(*ends, n_bins(data.size) + 1)
        style = {"fill": True, "color": data_color, "alpha": 0.35, "label": "data"}
        ax.stairs(heights(data, edges), edges, **style)
    density = np.exp(display.log_density)
    line = ax.plot(grid, density, color=color, label=display.name or "density")[0]
    # Limits stay free to grow with a second model on the same axes.
    line.sticky_edges.y.append(0.0)
    ax.margins(x=0.0)
    ax.set(xlabel=labels(display)[0], ylabel="density")
    ax.ticklabel_format(axis="y", scilimits=(-2, 4))
    ax.legend(frameon=False)
    return line


def contours(ax, display, color, data_color, show_data, fill):
    """Draw the highest-density regions of two features under the data."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    x, y = display.grid
    # From the largest region to the smallest; ties hold the same region.
    levels, first = np.unique(display.log_levels, return_index=True)
    masses = np.asarray(display.masses)[first]
    # A line needs more ink than an area.
    ends = (0.25, 0.85) if fill else (0.5, 1.0)
    shares = np.linspace(*ends, levels.size) if levels.size > 1 else np.mean(ends)
    colors = tints(color, shares)
    # No contour can be put between a number and -inf, the logarithm of nothing.
    finite = np.isfinite(levels)
    floor = levels[finite].min(initial=0.0) - 100.0
    surface = np.maximum(display.log_density, floor)
    reached = finite & (levels < surface.max())
    drawn, handles = None, []
    if reached.any():
        options = {"levels": levels[reached], "colors": colors[reached]}
        if fill:
            drawn = ax.contourf(x, y, surface, extend="max", **options)
        else:
            drawn = ax.contour(x, y, surface, linewidths=1.5, **options)
    for mass, tint in zip(masses[::-1], colors[::-1], strict=True):
        label = f"densest {100 * mass:.4g} %"
        handles.append(
            Patch(color=tint, label=label)
            if fill
            else Line2D([], [], color=tint, label=label)
        )
    if show_data:
        shown = some_rows(display.data, display.draws.shape[0])
        handles.append(points(ax, shown, data_color, label="data"))
    # The whole grid; more where other models share these axes.
    ax.update_datalim([(x[0], y[0]), (x[-1], y[-1])])
    ax.margins(0.0)
    names = labels(display)
    ax.set(xlabel=names[0], ylabel=names[1])
    where = _emptiest_corner(ax, np.vstack([display.data, display.draws]))
    ax.legend(handles=handles, loc=where, **titled(display))
    return drawn


def titled(display):
    """Return the style of a legend that has the model's name on top."""
    return {
        "title": display.name,
        "alignment": "left",
        "fontsize": "small",
        "title_fontsize": "small",
        "framealpha": 0.7,
        "edgecolor": "none",
    }


def _emptiest_corner(ax, rows):
    """Return the corner of the axes with the fewest rows, as legends name it."""
    low, high = np.transpose([ax.get_xlim(), ax.get_ylim()])
    x, y = ((rows - low) / (high - low)).T
    across = {"left": x < 0.35, "right": x > 0.65}
    up = {"upper": y > 0.65, "lower": y < 0.35}
    corners = {f"{v} {h}": (up[v] & across[h]).sum() for v in up for h in across}
    # The upper right, unless another is emptier.
    return min(corners, key=lambda c: (corners[c], c != "upper right"))
