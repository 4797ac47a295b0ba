"""The table that models are compared on: the digits, or a delimited text file."""

from dataclasses import dataclass, field, replace

import numpy as np
from sklearn.datasets import load_digits

from skgen._checks import LARGEST
from skgen._columns import list_columns
from skgen._dequantize import column_step, dequantize
from skgen._lazy import lazy_module
from skgen.cli._files import LEAST_ROWS, CommandError, count
from skgen.cli._text import numbers_of, read_frame

pandas = lazy_module("pandas", "Reading a table")

# A column in which at least this fraction of the entries are numbers is numeric, and
# text in it is an error. Other columns with text are left out.
_NUMERIC_FRACTION = 0.5

# Minimum number of rows that are drawn at once, and minimum fraction of them within the
# ranges of all columns to replace the others.
_DRAWN, _LEAST_WITHIN = 1000, 0.01


@dataclass
class Table:
    """Rows to compare models on, and notes on how they were obtained."""

    X: np.ndarray  # (n, d)
    names: list
    notes: list = field(default_factory=list)
    grids: dict = field(default_factory=dict)  # column -> (origin, step, decimals)
    ends: object = None  # (2, d) lowest and highest values, before noise
    pixels: object = None  # maps (n, d) rows to (n, height, width) images, if they are

    def __post_init__(self):
        if self.ends is None:
            self.ends = np.stack([self.X.min(axis=0), self.X.max(axis=0)])

    def draws_within(self, model, n_samples, random_state):
        """Return draws within the range of each column, (n_samples, d), and a note.

        Other draws are replaced. If hardly any lies within, values are moved instead.
        """
        rng, rows = np.random.RandomState(random_state), []
        (low, high), n_missing, n_drawn = self.ends, n_samples, 0
        half = np.zeros(low.size)  # of the step of a grid
        half[list(self.grids)] = [step / 2 for _, step, _ in self.grids.values()]
        while n_missing > 0:
            X = model.sample(max(n_missing, _DRAWN), random_state=rng)
            within = X[((low - half < X) & (high + half > X)).all(axis=1)]
            if not rows and within.shape[0] < _LEAST_WITHIN * X.shape[0]:
                outside = 1 - within.shape[0] / X.shape[0]
                note = f"values outside the range of their column, in {outside:.1%} of "
                note += "the draws, were moved to its end"
                return X[:n_samples].clip(low, high), note
            rows.append(within)
            n_missing, n_drawn = n_missing - within.shape[0], n_drawn + X.shape[0]
        found = np.concatenate(rows)
        outside = 1 - found.shape[0] / n_drawn
        note = f"draws outside the range of a column, {outside:.1%}, were replaced"
        return found[:n_samples], note

    def to_grid(self, X):
        """Return the columns of rows by name; round dequantised ones to their grid."""
        columns = list(X.T)
        for j, (origin, step, decimals) in self.grids.items():
            column = origin + step * np.round((columns[j] - origin) / step)
            if decimals is not None:
                column = np.round(column, decimals)
            fits = decimals == 0 and np.abs(column).max() < 2**53
            columns[j] = column.astype(np.int64) if fits else column
        return dict(zip(self.names, columns, strict=True))

    def thinned(self, n_rows, rng):
        """Return the table with at most `n_rows` random rows; 0 keeps all rows."""
        n = self.X.shape[0]
        if n_rows == 0 or n <= n_rows:
            return self
        rows = np.sort(rng.choice(n, n_rows, replace=False))
        note = f"compared on {n_rows:,} of {n:,} rows, at random (--rows 0 takes all)"
        return replace(self, X=self.X[rows], notes=[*self.notes, note])

    def without_ties(self, random_state):
        """Return the table with tied columns dequantised, and their grids noted."""
        steps = [column_step(column) for column in self.X.T]
        tied = [j for j, (step, _) in enumerate(steps) if step > 0]
        if not tied:
            return self
        origins = self.X.min(axis=0)
        grids = {
            j: (origins[j], steps[j][0], _decimals(origins[j], steps[j][0]))
            for j in tied
            if steps[j][1]  # the values lie on a grid
        }
        named = zip(self.names, steps, strict=True)
        names = [f"{name} by {step:.4g}" for name, (step, _) in named]
        note = (
            "noise of one step for columns with ties: "
            f"{list_columns(tied, names)} (--no-dequantize adds no noise)"
        )
        X = dequantize(self.X, random_state=random_state)
        return replace(self, X=X, grids=grids, notes=[*self.notes, note])


def _decimals(origin, step):
    """Return the number of decimals of the values of a grid; None if above six."""
    for decimals in range(7):
        if round(step, decimals) == step and round(origin, decimals) == origin:
            return decimals
    return None


def digits_table(random_state):
    """Return the pixels of scikit-learn's digits, dequantised."""
    digits = load_digits()
    varies = np.ptp(digits.data, axis=0) > 0  # (64,)

    def pixels(X):
        images = np.zeros((X.shape[0], varies.size))  # constant pixels are white
        images[:, varies] = X
        return images.reshape(-1, 8, 8)

    names = [digits.feature_names[j] for j in np.flatnonzero(varies)]
    table = Table(digits.data[:, varies], names, pixels=pixels)
    note = (
        f"scikit-learn's digits: {digits.data.shape[0]:,} images of 8 x 8 pixels, "
        f"dequantised, without {count((~varies).sum(), 'constant pixel')}"
    )
    return replace(table.without_ties(random_state), notes=[note])


def read_table(path):
    """Return the numeric columns of a delimited text file, without blanks."""
    frame, notes, mark, place = read_frame(path)
    if frame.shape[0] == 0:
        raise CommandError(f"{path} has no rows.")
    kept, left_out, bare = {}, [], []
    for name, column in frame.items():
        is_named = not name.startswith("Unnamed: ")
        what = f"the column {name!r} of {path}"
        numbers, reason, has_units = _numbers(column, mark, what, place)
        if reason is None and not is_named and (numbers.diff()[1:] > 0).all():
            reason = "numbers the rows"
        if reason is None:
            kept[name] = numbers
            bare += [name] * has_units
        elif is_named or reason != "empty":  # delimiters at the ends of lines
            left_out.append(f"{name} ({reason})")
    notes += [f"numbers without their units: {', '.join(bare)}"] if bare else []
    frame = pandas.DataFrame(kept, index=frame.index)
    if kept:
        frame, more = _complete_rows(frame, path)
        notes += more
    constant = frame.min() == frame.max()
    left_out += [f"{name} (constant)" for name in frame.columns[constant]]
    frame = frame.loc[:, ~constant]
    if left_out:
        left_out = ["left out: " + ", ".join(left_out)]
    if frame.shape[1] == 0:
        because = f" ({left_out[0]})" if left_out else ""
        raise CommandError(f"{path} has no numeric column that varies{because}.")
    for name, largest in frame.abs().max().items():
        if largest > LARGEST:
            raise CommandError(
                f"the column {name!r} of {path} must lie within {LARGEST:g} of 0. It "
                f"reaches {largest:g}. Rescale it."
            )
    X, names = frame.to_numpy(), list(frame.columns)
    counted = f"{count(X.shape[0], 'row')}, {count(X.shape[1], 'numeric column')}"
    return Table(X, names, [f"{path}: {counted}", *notes, *left_out])


def _numbers(column, mark, what, place):
    """Return a column as floats, why to leave it out or None, and if it had units.

    Raises for text among numbers, of which `place` gives the place in the file.
    """
    if pandas.api.types.infer_dtype(column) == "boolean":
        return None, "true or false", False
    if column.isna().all():
        return None, "empty", False
    if column.dtype.kind in "mM":
        return None, "dates or times", False
    numbers, is_text, has_units = numbers_of(column, mark)
    text, infinite = np.flatnonzero(is_text), np.flatnonzero(np.isinf(numbers))
    if numbers.count() < _NUMERIC_FRACTION * (numbers.count() + text.size):
        return None, f"text: {str(column.iloc[text[0]])[:20]!r}", False
    if text.size:
        raise CommandError(
            f"{what} has text among its numbers: {column.iloc[text[0]]!r} in "
            f"{place(text[0])}."
        )
    if infinite.size:
        raise CommandError(f"{what} has an infinity, in {place(infinite[0])}.")
    # 0, 1, 2, ... or 1, 2, 3, ...
    if numbers.size > 2 and numbers[0] in (0, 1) and (np.diff(numbers) == 1).all():
        return numbers, "numbers the rows", has_units
    return numbers, None, has_units


def _complete_rows(frame, path):
    """Return the rows without blanks, and a note on the dropped rows in a list."""
    complete = frame.notna().all(axis=1)
    n_dropped, notes = int((~complete).sum()), []
    if n_dropped:
        most = frame.isna().sum().idxmax()
        blanks = f"{count(n_dropped, 'row')} with blanks, most of them in {most}"
        notes = [f"left out: {blanks}"]
    frame = frame[complete]
    if frame.shape[0] < LEAST_ROWS:
        raise CommandError(
            f"{path} must have at least {LEAST_ROWS} rows without blanks, so that "
            f"some can be held out. It has {count(frame.shape[0], 'row')}."
            + (f" Left out: {blanks}." if n_dropped else "")
        )
    return frame, notes
