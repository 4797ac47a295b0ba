"""Outputs of a comparison: the table of results, the draws and the picture."""

import os
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgen._lazy import lazy_module
from skgen.cli._cross_validation import mean_and_error
from skgen.display import DensityDisplay, SampleDisplay
from skgen.display._panels import points

figure_module = lazy_module("matplotlib.figure", "--plot")
pandas = lazy_module("pandas", "--sample")

_HEADER = ("model", "nats per row", "+-", "behind best", "+-", "fit", "score")

# Formats of pictures.
PICTURES = ("png", "jpg", "jpeg", "pdf", "svg", "webp")

# Maximum number of rows, and of draws, in a scatter plot.
_MAX_POINTS = 2000

# Number of draws for histograms: their noise is then invisible.
N_DRAWS = 20_000


def format_results(results):
    """Return the table of results as text, best model first.

    Means and differences to the best model are over all held-out rows, with standard
    errors. Times are medians over folds.
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
    """Return a number of nats as text of at most eleven characters."""
    return f"{value + 0.0:.4f}" if abs(value) < 1e5 else f"{value:.3e}"


def write_draws(path, columns, names):
    """Write draws as comma-separated values under the names of the columns."""
    frame = pandas.DataFrame(columns)
    frame.columns = names
    compression = "gzip" if Path(path).suffix.lower() == ".gz" else None
    with _whole_file(path) as part:
        frame.to_csv(part, index=False, compression=compression)


def plot_draws(path, table, draws, label):
    """Draw data and draws side by side into a picture."""
    with warnings.catch_warnings():
        # A character that the font lacks is a box in the picture.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        # Not by pyplot, which would keep the figure and choose a backend.
        figure = figure_module.Figure(layout="constrained")
        figure.suptitle(f"data, and draws from {label}")
        (_draw_images if table.pixels else _draw_columns)(figure, table, draws)
        with _whole_file(path) as part:
            # The suffix of `part` is not the suffix of the picture.
            figure.savefig(part, format=Path(path).suffix.lstrip(".") or "png", dpi=120)


def _draw_images(figure, table, draws, side=10):
    """Show a page of images of the data beside a page of draws."""
    figure.set_size_inches(9, 5)
    data, drawn = (table.pixels(rows[: side * side]) for rows in (table.X, draws))
    left, right = figure.subplots(1, 2)
    vmin, vmax = SampleDisplay(data, n_columns=side).plot(left).clim_
    SampleDisplay(drawn, n_columns=side).plot(right, vmin=vmin, vmax=vmax)
    left.set_title("data")
    right.set_title("draws")


def _draw_columns(figure, table, draws, n_columns=4):
    """Show the two main directions side by side, and histograms of columns."""
    d = table.X.shape[1]
    figure.set_size_inches(9, 8 if d > 1 else 4)
    shown = min(d, n_columns)
    grid = figure.add_gridspec(2 if d > 1 else 1, 2 * shown)
    if d > 1:
        spots = grid[0, :shown], grid[0, shown:]
        _scatter_beside(figure, spots, table, draws)
    for j in range(shown):
        axis = figure.add_subplot(grid[-1, 2 * j : 2 * j + 2])
        columns = table.X[:, [j]], draws[:, [j]]
        DensityDisplay(*columns, feature_names=[_short(table.names[j])]).plot(axis)
        axis.xaxis.label.set_parse_math(False)
        if j == 0:
            first = f"the first {shown} of {d} columns" if shown < d else "by column"
            noise = ", ties spread by noise" if table.grids else ""
            axis.set_title(f"{first}{noise}", loc="left", fontsize="medium")
        else:
            axis.get_legend().remove()


def _scatter_beside(figure, spots, table, draws):
    """Show equal numbers of data and draws in the directions of largest variance."""
    directions, labels = _main_directions(table)
    n_points = min(_MAX_POINTS, table.X.shape[0])
    some = np.random.RandomState(0).permutation(table.X.shape[0])[:n_points]
    pairs = (table.X[some], "data", "0.2"), (draws[:n_points], "draws", "#0072B2")
    first = None
    for spot, (rows, title, color) in zip(spots, pairs, strict=True):
        axis = figure.add_subplot(spot, sharex=first, sharey=first)
        points(axis, directions(rows), color)
        axis.set_title(f"{n_points:,} rows of {title}")
        axis.set_xlabel(_short(labels[0]), parse_math=False)
        axis.set_ylabel(_short(labels[1]), parse_math=False)
        first = axis


def _short(name, most=28):
    """Return a name, shortened in the middle if it is long."""
    half = (most - 3) // 2
    return name if len(name) <= most else f"{name[:half]}...{name[-half:]}"


def _main_directions(table):
    """Return a function from (n, d) rows to (n, 2) points, and labels of the axes."""
    if table.X.shape[1] == 2:
        return (lambda X: X), table.names
    pca = make_pipeline(StandardScaler(), PCA(2)).fit(table.X)
    labels = ("first principal component", "second principal component")
    return pca.transform, labels


@contextmanager
def _whole_file(path):
    """Yield a name to write to; the file becomes `path` when it is complete."""
    target = Path(path).resolve()  # the target of a link
    if target.exists() and not target.is_file():
        yield str(target)  # write to a device or a pipe, do not replace it
        return
    descriptor, part = tempfile.mkstemp(dir=target.parent, suffix=".part")
    os.close(descriptor)
    try:
        yield part
        # mkstemp makes private files; other files follow the umask of the user.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(part, 0o666 & ~mask)
        os.replace(part, target)
    finally:
        Path(part).unlink(missing_ok=True)
