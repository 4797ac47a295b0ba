"""What a comparison leaves behind: the table, the draws and the picture."""

import os
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from skgen._comparison._cross_validation import mean_and_error

_HEADER = ("model", "nats per row", "+-", "behind best", "+-", "fit", "score")

# Pictures that can be looked at, among all that matplotlib writes.
PICTURES = ("png", "jpg", "jpeg", "pdf", "svg", "webp")

# As many draws as data are shown in a scatter, and this many rows at most.
_MOST_POINTS = 2000

# Draws for histograms: enough that their noise is not seen.
N_DRAWS = 20_000


def format_results(results):
    """Return the table of results as text, best model first.

    Held-out nats per row are means over all rows, each scored by a model that did
    not see it, with their standard errors; the difference to the best is paired, row
    by row. Times are medians over folds, in seconds.
    """
    results = sorted(results, key=lambda result: -result.mean)
    best = results[0]
    rows = [_HEADER]
    for result in results:
        label = result.candidate.label
        if result.failed:
            rows.append((label, "failed", "", "", "", "", ""))
            continue
        mean, error = mean_and_error(result.log_density)
        less, less_error = mean_and_error(result.log_density - best.log_density)
        rows.append(
            (
                label,
                _nats(mean),
                _nats(error),
                "best" if result is best else _nats(-less),
                "" if result is best else _nats(less_error),
                f"{np.median(result.fit_seconds):.3f} s",
                f"{np.median(result.score_seconds):.3f} s",
            )
        )
    widths = [max(len(row[j]) for row in rows) for j in range(len(_HEADER))]
    lines = [
        "  ".join(
            cell.ljust(width) if j == 0 else cell.rjust(width)
            for j, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _nats(value):
    """Return a number of nats in a width that a table bears."""
    return f"{value + 0.0:.4f}" if abs(value) < 1e5 else f"{value:.3e}"


def write_draws(path, columns, names):
    """Write draws as comma-separated values under the names of the columns."""
    import pandas as pd

    frame = pd.DataFrame(columns)
    frame.columns = names
    compression = "gzip" if Path(path).suffix.lower() == ".gz" else None
    with _whole_file(path) as part:
        frame.to_csv(part, index=False, compression=compression)


def plot_draws(path, table, draws, label):
    """Draw data and draws side by side into a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    with warnings.catch_warnings():
        # A glyph that the font lacks is a box in the picture, no more.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure = (
            _image_figure(plt, table, draws)
            if table.pixels
            else _column_figure(plt, table, draws)
        )
        figure.suptitle(f"data, and draws from {label}")
        with _whole_file(path) as part:
            # The picture's format is that of the path, whatever the part is called.
            figure.savefig(part, format=Path(path).suffix.lstrip(".") or "png", dpi=120)
    plt.close(figure)


def _image_figure(plt, table, draws, side=10):
    """Show a page of images of the data beside a page of draws."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 5), layout="constrained")
    data = table.pixels(table.X[: side * side])  # (b, h, w)
    # Ink is not below nothing: what a linear map leaves there is clipped.
    ink = (0.0, np.quantile(data, 0.99))
    pages = (data, "data"), (table.pixels(draws[: side * side]), "draws")
    for axis, (images, title) in zip(axes, pages, strict=True):
        axis.imshow(_page(images, side), cmap="gray_r", vmin=ink[0], vmax=ink[1])
        axis.set_title(title)
        axis.set_axis_off()
    return figure


def _page(images, side):
    """Put images of shape (b, h, w) on one page, a pixel apart."""
    page = np.zeros((side * side, images.shape[1] + 1, images.shape[2] + 1))
    page[: images.shape[0], :-1, :-1] = images
    h, w = page.shape[1:]
    return page.reshape(side, side, h, w).swapaxes(1, 2).reshape(side * h, side * w)


def _column_figure(plt, table, draws, n_columns=4):
    """Show the two main directions side by side, and columns as histograms."""
    d = table.X.shape[1]
    figure = plt.figure(figsize=(9, 8 if d > 1 else 4), layout="constrained")
    shown = min(d, n_columns)
    grid = figure.add_gridspec(2 if d > 1 else 1, 2 * shown)
    if d > 1:
        spots = grid[0, :shown], grid[0, shown:]
        _scatter_beside(figure, spots, table, draws)
    for j in range(shown):
        axis = figure.add_subplot(grid[-1, 2 * j : 2 * j + 2])
        data = table.X[:, j]
        n_bins = int(np.clip(np.sqrt(data.size), 8, 40))
        bins = np.linspace(data.min(), data.max(), n_bins + 1)
        for values, label, style in (
            (data, "data", {"alpha": 0.5}),
            (draws[:, j], "draws", {"histtype": "step"}),
        ):
            # Of all rows, those beyond the picture too: areas can be compared.
            weights = np.full(values.size, 1 / (values.size * (bins[1] - bins[0])))
            axis.hist(values, bins, weights=weights, label=label, **style)
        axis.set_xlabel(_short(table.names[j]), parse_math=False)
        axis.set_yticks([])
        if j == 0:
            axis.legend()
            first = f"the first {shown} of {d} columns" if shown < d else "by column"
            noise = ", ties spread by noise" if table.grids else ""
            axis.set_title(f"{first}{noise}", loc="left", fontsize="medium")
    return figure


def _scatter_beside(figure, spots, table, draws):
    """Show as many draws as data, from the directions in which data vary most."""
    directions, labels = _main_directions(table)
    n_points = min(_MOST_POINTS, table.X.shape[0])
    some = np.random.RandomState(0).permutation(table.X.shape[0])[:n_points]
    axes = []
    for side, (rows, title) in enumerate(
        ((table.X[some], "data"), (draws[:n_points], "draws"))
    ):
        axis = figure.add_subplot(spots[side])
        axis.scatter(*directions(rows).T, s=6, alpha=0.4, c=f"C{side}")
        axis.set_title(f"{n_points:,} rows of {title}")
        axis.set_xlabel(_short(labels[0]), parse_math=False)
        axis.set_ylabel(_short(labels[1]), parse_math=False)
        axes.append(axis)
    for side in "xy":
        ends = [end for axis in axes for end in getattr(axis, f"get_{side}lim")()]
        for axis in axes:
            getattr(axis, f"set_{side}lim")(min(ends), max(ends))


def _short(name, most=28):
    """Return a name that a picture bears."""
    half = (most - 3) // 2
    return name if len(name) <= most else f"{name[:half]}...{name[-half:]}"


def _main_directions(table):
    """Return a map to two dimensions to look at, and what its axes are."""
    if table.X.shape[1] == 2:
        return (lambda X: X), table.names
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pca = make_pipeline(StandardScaler(), PCA(2)).fit(table.X)
    labels = ("first principal component", "second principal component")
    return pca.transform, labels


@contextmanager
def _whole_file(path):
    """Give a name to write to that becomes `path` only when all is written."""
    target = Path(path).resolve()  # of a link, what it points to
    if target.exists() and not target.is_file():
        yield str(target)  # a device or a pipe is written to, never replaced
        return
    descriptor, part = tempfile.mkstemp(dir=target.parent, suffix=".part")
    os.close(descriptor)
    try:
        yield part
        # mkstemp made it private; a file of the user's is as their umask says.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(part, 0o666 & ~mask)
        os.replace(part, target)
    finally:
        Path(part).unlink(missing_ok=True)
