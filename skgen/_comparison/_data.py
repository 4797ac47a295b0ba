"""The table that models are compared on: the digits, or a file of the user's."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from skgen._ties import dequantize, grid_step, list_columns

# Share of the entries of a column that must be numbers for text in it to be an
# error; below it the column is not numeric, and is left out.
_NUMERIC_SHARE = 0.5

_DELIMITERS = ",;\t|"

# Fewer rows leave nothing to hold out.
_LEAST_ROWS = 4


class TableError(ValueError):
    """The table cannot be used; the message says why in one line."""


@dataclass
class Table:
    """Rows to fit to, and what was done to get them."""

    X: np.ndarray  # (n, d)
    names: list
    notes: list = field(default_factory=list)
    grids: dict = field(default_factory=dict)  # column -> (origin, step)
    pixels: object = None  # maps rows to images, where they have any

    def to_grid(self, X):
        """Round columns that were dequantised back to their grid."""
        X = X.copy()
        for j, (origin, step) in self.grids.items():
            X[:, j] = origin + step * np.round((X[:, j] - origin) / step)
        return X

    def thinned(self, n_rows, rng):
        """Return the table with at most `n_rows` of its rows, drawn at random."""
        n = self.X.shape[0]
        if n_rows == 0 or n <= n_rows:
            return self
        rows = np.sort(rng.choice(n, n_rows, replace=False))
        note = f"compared on {n_rows:,} of {n:,} rows, drawn at random (--rows 0: all)"
        return Table(
            self.X[rows], self.names, [*self.notes, note], self.grids, self.pixels
        )


def digits_table(random_state):
    """Return scikit-learn's digits: dequantised, 16 principal components."""
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA

    images = dequantize(load_digits().data, random_state=random_state)
    pca = PCA(16, svd_solver="full").fit(images)
    table = Table(pca.transform(images), [f"pca{j}" for j in range(16)])
    table.pixels = lambda X: pca.inverse_transform(X).reshape(-1, 8, 8)
    table.notes.append(
        f"scikit-learn's digits: {images.shape[0]:,} images of 8 x 8 pixels, "
        "dequantised, as 16 principal components"
    )
    return table


def read_table(path, *, ties, random_state):
    """Read the numeric columns of a delimited text file with a header.

    Parameters
    ----------
    path : str
        The file.
    ties : bool
        Whether to add noise of one grid step to columns with ties.
    random_state : int
        Seeds that noise.

    Returns
    -------
    Table

    Raises
    ------
    TableError
        If there is no such file, or nothing in it to fit a density to.
    """
    frame, notes = _read_frame(path)
    frame, left_out = _numeric_columns(frame, path)
    if frame.shape[1] > 0:
        frame, notes = _complete_rows(frame, notes, path)
    for name in frame.columns:
        values = frame[name].to_numpy()
        if values.min() == values.max():
            left_out.append(f"{name} (constant)")
            frame = frame.drop(columns=name)
    if left_out:
        notes.append("left out: " + ", ".join(left_out))
    if frame.shape[1] == 0:
        raise TableError(f"{path} has no numeric column that varies.")
    X = frame.to_numpy(dtype=np.float64)
    names = [str(name) for name in frame.columns]
    notes.insert(0, f"{path}: {X.shape[0]:,} rows, {X.shape[1]} numeric columns")
    table = Table(X, names, notes)
    return _spread_ties(table, random_state) if ties else table


def _spread_ties(table, random_state):
    """Dequantise the tied columns, remembering their grids."""
    steps = [grid_step(column) for column in table.X.T]
    tied = [j for j, step in enumerate(steps) if step > 0]
    if not tied:
        return table
    table.grids = {j: (table.X[:, j].min(), steps[j]) for j in tied}
    table.X = dequantize(table.X, random_state=random_state)
    table.notes.append(
        f"dequantised, for they have ties: {list_columns(tied, table.names)} "
        "(--no-dequantize leaves them, and then the narrowest floor wins)"
    )
    return table


def _read_frame(path):
    """Return the file as a dataframe, and notes on how it was read."""
    try:
        import pandas as pd
    except ImportError:
        raise TableError(
            'reading a table needs pandas: pip install "skgen[cli]"'
        ) from None
    if not Path(path).is_file():
        raise TableError(f"there is no file {path}.")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            head = file.readline()
        options = {"sep": _delimiter(head), "encoding": "utf-8-sig"}
        frame = pd.read_csv(path, **options, low_memory=False)
        if not frame.columns.size or not all(_is_number(c) for c in frame.columns):
            return frame, []
        frame = pd.read_csv(path, header=None, **options, low_memory=False)
    except pd.errors.EmptyDataError:
        raise TableError(f"{path} is empty.") from None
    except (pd.errors.ParserError, UnicodeDecodeError, csv.Error, OSError) as error:
        reason = " ".join(str(error).split())
        raise TableError(f"{path} cannot be read as a table: {reason}") from None
    frame.columns = [f"column{j}" for j in range(frame.shape[1])]
    return frame, ["no header: the first line holds numbers, and is a row"]


def _delimiter(line):
    """Return the delimiter that a header line has most of; a comma without any."""
    return max(_DELIMITERS, key=lambda mark: (line.count(mark), mark == ","))


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numeric_columns(frame, path):
    """Keep the numeric columns; say which are left out, and why."""
    import pandas as pd

    if frame.shape[0] == 0:
        raise TableError(f"{path} has no rows.")
    kept, left_out = {}, []
    for name in frame.columns:
        column = frame[name]
        if pd.api.types.is_bool_dtype(column):
            left_out.append(f"{name} (true or false)")
            continue
        numbers = pd.to_numeric(column, errors="coerce").astype(np.float64)
        text = column.notna() & numbers.isna()
        if column.isna().all():
            left_out.append(f"{name} (empty)")
        elif text.any() and numbers.notna().sum() >= _NUMERIC_SHARE * text.size:
            row = int(np.flatnonzero(text)[0])
            raise TableError(
                f"the column {name!r} of {path} holds text among its numbers: "
                f"{column.iloc[row]!r} in row {row + 1}."
            )
        elif text.any():
            left_out.append(f"{name} (text)")
        elif np.isinf(numbers).any():
            row = int(np.flatnonzero(np.isinf(numbers))[0])
            raise TableError(
                f"the column {name!r} of {path} holds an infinity in row {row + 1}."
            )
        elif _counts_rows(numbers.to_numpy()):
            left_out.append(f"{name} (numbers the rows)")
        else:
            kept[name] = numbers
    return pd.DataFrame(kept, index=frame.index), left_out


def _counts_rows(values):
    """Tell whether a column is 0, 1, 2, ... or 1, 2, 3, ...: an index, not data."""
    return values.size > 2 and (
        values[0] in (0.0, 1.0) and bool((np.diff(values) == 1).all())
    )


def _complete_rows(frame, notes, path):
    """Drop rows with blanks in a numeric column, and say so."""
    complete = frame.notna().all(axis=1)
    n_dropped = int((~complete).sum())
    if n_dropped:
        notes = [*notes, f"left out: {n_dropped:,} rows with blanks"]
    frame = frame[complete]
    if frame.shape[0] == 0:
        raise TableError(f"{path} has no row without blanks.")
    if frame.shape[0] < _LEAST_ROWS:
        n_rows = "1 row" if frame.shape[0] == 1 else f"{frame.shape[0]} rows"
        raise TableError(
            f"{path} must have at least {_LEAST_ROWS} rows without blanks, to hold "
            f"some out. It has {n_rows}."
        )
    return frame, notes
