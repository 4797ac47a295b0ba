"""The table that models are compared on: the digits, or a file of the user's."""

import csv
import gzip
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from skgen._ties import dequantize, grid_step, list_columns

# Share of the entries of a column that must be numbers for text in it to be an
# error; below it the column is not numeric, and is left out.
_NUMERIC_SHARE = 0.5

_DELIMITERS = ",;\t|"

_UNREADABLE = (csv.Error, OSError, EOFError)

# Fewer rows leave nothing to hold out.
LEAST_ROWS = 4


class TableError(ValueError):
    """The table cannot be used; the message says why in one line."""


@dataclass
class Table:
    """Rows to fit to, and what was done to get them."""

    X: np.ndarray  # (n, d)
    names: list
    notes: list = field(default_factory=list)
    grids: dict = field(default_factory=dict)  # column -> (origin, step, decimals)
    pixels: object = None  # maps rows to images, where they have any

    def to_grid(self, X):
        """Return columns, those that were dequantised rounded back to their grid."""
        columns = list(X.T)
        for j, (origin, step, decimals) in self.grids.items():
            column = origin + step * np.round((columns[j] - origin) / step)
            if decimals is not None:
                column = np.round(column, decimals)
            fits = decimals == 0 and np.abs(column).max() < 2**53
            columns[j] = column.astype(np.int64) if fits else column
        return dict(enumerate(columns))

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
        reasons = f" Left out: {', '.join(left_out)}." if left_out else ""
        raise TableError(f"{path} has no numeric column that varies.{reasons}")
    X = frame.to_numpy(dtype=np.float64)
    names = [str(name) for name in frame.columns]
    counted = f"{count(X.shape[0], 'row')}, {count(X.shape[1], 'numeric column')}"
    table = Table(X, names, [f"{path}: {counted}", *notes])
    return _spread_ties(table, random_state) if ties else table


def count(number, thing):
    """Return a number with what it counts: 1 row, 2 rows."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _spread_ties(table, random_state):
    """Dequantise the tied columns, remembering their grids."""
    steps = [grid_step(column) for column in table.X.T]
    tied = [j for j, step in enumerate(steps) if step > 0]
    if not tied:
        return table
    for j in tied:
        origin = table.X[:, j].min()
        table.grids[j] = origin, steps[j], _decimals(origin, steps[j])
    table.X = dequantize(table.X, random_state=random_state)
    names = [
        f"{name} by {step:.4g}" for name, step in zip(table.names, steps, strict=True)
    ]
    table.notes.append(
        "noise of one step for columns with ties: "
        f"{list_columns(tied, names)} (--no-dequantize: none)"
    )
    return table


def _decimals(origin, step):
    """Return how many decimals the values of a grid have; None for too many."""
    for decimals in range(7):
        if round(step, decimals) == step and round(origin, decimals) == origin:
            return decimals
    return None


def _read_frame(path):
    """Return the file as a dataframe, and notes on how it was read."""
    try:
        import pandas as pd
    except ImportError:
        raise TableError(
            'reading a table needs pandas: pip install "skgen[cli]"'
        ) from None
    if Path(path).is_dir():
        raise TableError(f"{path} is a folder, not a table.")
    if not Path(path).is_file():
        raise TableError(f"there is no file {path}")
    try:
        header, first = _first_lines(path)
        delimiter = _delimiter(header)
        names, values = (
            next(csv.reader([line], delimiter=delimiter), [])
            for line in (header, first)
        )
        has_header = not names or not all(map(_is_number, names))
        _check_width(path, names, values)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path,
                sep=delimiter,
                header=0 if has_header else None,
                index_col=False,
                encoding="utf-8-sig",
                low_memory=False,
            )
    except pd.errors.EmptyDataError:
        raise TableError(f"{path} is empty.") from None
    except UnicodeDecodeError:
        raise TableError(
            f"{path} is not text in UTF-8: save it as a UTF-8 table."
        ) from None
    except (
        pd.errors.ParserError,
        pd.errors.ParserWarning,
        csv.Error,
        OSError,
    ) as error:
        reason = " ".join(str(error).split())
        raise TableError(f"{path} cannot be read as a table: {reason}") from None
    if not has_header:
        frame.columns = [f"column{j}" for j in range(frame.shape[1])]
        return frame, ["no header: the first line holds numbers, and is a row"]
    doubles = sorted({name for name in names if names.count(name) > 1})
    notes = [f"columns of the same name are numbered: {doubles}"] if doubles else []
    return frame, notes


def _first_lines(path):
    """Return the first two lines of a text file, compressed by gzip or not."""
    opener = gzip.open if Path(path).suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
        return file.readline(), file.readline()


def _check_width(path, names, values):
    """Raise where the first row has more fields than the header has names."""
    extra = [value for value in values[len(names) :] if value.strip()]
    if extra:
        raise TableError(
            f"the first row of {path} has {len(values)} fields, and its header "
            f"{count(len(names), 'name')}."
        )


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
        if column.dropna().isin([True, False]).all() and not (
            pd.api.types.is_numeric_dtype(column)
            and not pd.api.types.is_bool_dtype(column)
        ):
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
                f"{column.iloc[row]!r} in row {row + 1} below the header."
            )
        elif text.any():
            example = str(column[text].iloc[0])[:20]
            left_out.append(f"{name} (text: {example!r})")
        elif np.isinf(numbers).any():
            row = int(np.flatnonzero(np.isinf(numbers))[0])
            raise TableError(
                f"the column {name!r} of {path} holds an infinity, in row {row + 1} "
                "below the header."
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
        notes = [*notes, f"left out: {count(n_dropped, 'row')} with blanks"]
    frame = frame[complete]
    if frame.shape[0] == 0:
        raise TableError(f"{path} has no row without blanks.")
    if frame.shape[0] < LEAST_ROWS:
        raise TableError(
            f"{path} must have at least {LEAST_ROWS} rows without blanks, to hold "
            f"some out. It has {count(frame.shape[0], 'row')}."
        )
    return frame, notes
