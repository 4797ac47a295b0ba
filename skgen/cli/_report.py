"""Outputs of a comparison: the table of results, the draws and the picture."""

import warnings
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgen._lazy import lazy_module
from skgen.cli._cross_validation import mean_and_error
from skgen.cli._files import picture_format, whole_file
from skgen.display import DensityDisplay, SampleDisplay

figure_module = lazy_module("matplotlib.figure", "--plot")
pandas = lazy_module("pandas", "--sample")

_HEADER = ("model", "nats per row", "+-", "behind best", "+-", "fit", "score")

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


def write_draws(path, columns):
    """Write draws, a dict of columns, as comma-separated values."""
    compression = "gzip" if Path(path).suffix.lower() == ".gz" else None
    with whole_file(path) as part:
        pandas.DataFrame(columns).to_csv(part, index=False, compression=compression)


def plot_draws(path, table, draws, label):
    """Draw data and draws into a picture."""
    with warnings.catch_warnings():
        # A character that the font lacks is a box in the picture.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        # Not by pyplot, which would keep the figure and choose a backend.
        figure = figure_module.Figure(layout="constrained")
        draw = _pages if table.pixels else _corner
        draw(figure, table, draws, f"data, and draws from {label}")
        with whole_file(path) as part:
            # The suffix of `part` is not the suffix of the picture.
            figure.savefig(part, format=picture_format(path), dpi=120)


def _pages(figure, table, draws, title, side=10):
    """Show a page of images of the data beside a page of draws."""
    figure.suptitle(title)
    figure.set_size_inches(9, 5)
    left, right = figure.subplots(1, 2)
    data, drawn = (table.pixels(rows[: side * side]) for rows in (table.X, draws))
    vmin, vmax = SampleDisplay(data, n_columns=side).plot(left).clim_
    SampleDisplay(drawn, n_columns=side).plot(right, vmin=vmin, vmax=vmax)
    left.set_title("data")
    right.set_title("draws")


def _corner(figure, table, draws, title, n_columns=4):
    """Show data and draws in the first columns, and in the two main directions."""
    d = table.X.shape[1]
    shown = min(d, n_columns)
    side = 3.0 + 1.6 * shown
    figure.set_size_inches((side, side) if d > 1 else (9, 4))
    # A dollar sign is no TeX.
    names = [_short(name).replace("$", r"\$") for name in table.names[:shown]]
    corner = DensityDisplay(table.X[:, :shown], draws[:, :shown], feature_names=names)
    corner.plot(figure.subplots())
    if shown < d:
        # In the empty half of the corner plot.
        pca = make_pipeline(StandardScaler(), PCA(2)).fit(table.X)
        names = ["first principal component", "second principal component"]
        main = DensityDisplay(
            pca.transform(table.X), pca.transform(draws), feature_names=names
        )
        main.plot(figure.add_subplot(corner.axes_[0, 0].get_gridspec()[:2, 2:]))
        main.axes_[0, 0].get_legend().remove()
    first = f"the first {shown} of {d} columns" if shown < d else "by column"
    noise = ", ties spread by noise" if table.grids else ""
    figure.suptitle(f"{title}\n{first}{noise}")


def _short(name, most=28):
    """Return a name, shortened in the middle if it is long."""
    half = (most - 3) // 2
    return name if len(name) <= most else f"{name[:half]}...{name[-half:]}"
