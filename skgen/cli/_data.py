"""The table that models are compared on: the digits, or a file."""

from dataclasses import dataclass, field, replace

import numpy as np
from sklearn.datasets import load_digits

from skgen._checks import LARGEST
from skgen._columns import list_columns
from skgen._dequantize import column_step, dequantize
from skgen.cli._reading import (
    TableError,
    complete_rows,
    count,
    numeric_columns,
    read_frame,
)


@dataclass
class Table:
    """Rows to compare models on, and notes on how they were obtained."""

    X: np.ndarray  # (n, d)
    names: list
    notes: list = field(default_factory=list)
    grids: dict = field(default_factory=dict)  # column -> (origin, step, decimals)
    pixels: object = None  # maps (n, d) rows to (n, height, width) images, if they are

    def to_grid(self, X):
        """Return the d columns of rows; round dequantised columns to their grid."""
        columns = list(X.T)
        for j, (origin, step, decimals) in self.grids.items():
            column = origin + step * np.round((columns[j] - origin) / step)
            if decimals is not None:
                column = np.round(column, decimals)
            fits = decimals == 0 and np.abs(column).max() < 2**53
            columns[j] = column.astype(np.int64) if fits else column
        return dict(enumerate(columns))

    def thinned(self, n_rows, rng):
        """Return the table with at most `n_rows` random rows; 0 keeps all rows."""
        n = self.X.shape[0]
        if n_rows == 0 or n <= n_rows:
            return self
        rows = np.sort(rng.choice(n, n_rows, replace=False))
        note = f"compared on {n_rows:,} of {n:,} rows, at random (--rows 0 takes all)"
        return replace(self, X=self.X[rows], notes=[*self.notes, note])


def digits_table(random_state):
    """Return the pixels of scikit-learn's digits, dequantised."""
    digits = load_digits()
    varies = np.ptp(digits.data, axis=0) > 0  # (64,)
    names = [digits.feature_names[j] for j in np.flatnonzero(varies)]
    table = _spread_ties(Table(digits.data[:, varies], names), random_state)

    def pixels(X):
        images = np.zeros((X.shape[0], varies.size))  # constant pixels are white
        images[:, varies] = X
        return images.reshape(-1, 8, 8)

    n_constant = count(int((~varies).sum()), "constant pixel")
    table.pixels = pixels
    table.notes = [
        f"scikit-learn's digits: {digits.data.shape[0]:,} images of 8 x 8 pixels, "
        f"dequantised, without {n_constant}"
    ]
    return table


def read_table(path, *, ties, random_state):
    """Read the numeric columns of a text file; if `ties`, dequantise tied columns."""
    frame, notes = read_frame(path)
    frame, left_out = numeric_columns(frame, path)
    if frame.shape[1] > 0:
        frame, notes = complete_rows(frame, notes, path)
    for name in frame.columns:
        values = frame[name].to_numpy()
        if values.min() == values.max():
            left_out.append(f"{name} (constant)")
            frame = frame.drop(columns=name)
        elif np.abs(values).max() > LARGEST:
            raise TableError(
                f"the column {name!r} of {path} must lie within {LARGEST:g} of 0. It "
                f"reaches {np.abs(values).max():g}. Rescale it."
            )
    reasons = ["left out: " + ", ".join(left_out)] if left_out else []
    if frame.shape[1] == 0:
        because = f" ({reasons[0]})" if reasons else ""
        raise TableError(f"{path} has no numeric column that varies{because}.")
    X = frame.to_numpy(dtype=np.float64)
    names = [str(name) for name in frame.columns]
    counted = f"{count(X.shape[0], 'row')}, {count(X.shape[1], 'numeric column')}"
    table = Table(X, names, [f"{path}: {counted}", *notes, *reasons])
    return _spread_ties(table, random_state) if ties else table


def _spread_ties(table, random_state):
    """Dequantise the tied columns, and store the grids of those that lie on one."""
    steps = [column_step(column) for column in table.X.T]
    tied = [j for j, (step, _) in enumerate(steps) if step > 0]
    if not tied:
        return table
    for j in tied:
        step, is_grid = steps[j]
        if is_grid:
            origin = table.X[:, j].min()
            table.grids[j] = origin, step, _decimals(origin, step)
    table.X = dequantize(table.X, random_state=random_state)
    named = zip(table.names, steps, strict=True)
    names = [f"{name} by {step:.4g}" for name, (step, _) in named]
    table.notes.append(
        "noise of one step for columns with ties: "
        f"{list_columns(tied, names)} (--no-dequantize adds no noise)"
    )
    return table


def _decimals(origin, step):
    """Return the number of decimals of the values of a grid; None if above six."""
    for decimals in range(7):
        if round(step, decimals) == step and round(origin, decimals) == origin:
            return decimals
    return None
