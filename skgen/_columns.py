"""Columns in messages, and what a model cannot fit in them.

The latter is looked for only after a check has failed.
"""

from datetime import date, time, timedelta

import numpy as np
from sklearn.utils import gen_batches

# A column is constant if its standard deviation is at most this many rounding steps.
ROUNDING_STEPS = 8

# Number of columns that a message names.
_NAMED = 5

# Number of characters of a value that a message shows.
_SHOWN = 40

# Number of values of an array that are searched for NaN at a time.
_SEARCHED = 2**20

_COUNTED_TIMES = (np.datetime64, np.timedelta64)
_TIMES = (date, time, timedelta, *_COUNTED_TIMES)


def has_times(X):
    """Return whether X holds dates or durations that NumPy or polars would convert."""
    if isinstance(X, (list, tuple)):
        return any(has_times(row) or isinstance(row, _COUNTED_TIMES) for row in X)
    is_frame = hasattr(X, "shape") and hasattr(X, "dtypes")  # not a lazy one of polars
    dtypes = X.dtypes if is_frame else [getattr(X, "dtype", None)]
    dtypes = np.atleast_1d(np.asarray(dtypes, dtype=object))
    if any(map(_is_time, dtypes)):
        return True
    return object in dtypes and any(_holds_times(values) for _, values in _columns(X))


def _holds_times(values):
    """Return whether an (n,) column holds objects that NumPy converts to numbers."""
    return values.dtype == object and any(
        isinstance(value, _COUNTED_TIMES) for value in values
    )


def _is_time(dtype):
    is_temporal = getattr(dtype, "is_temporal", None)  # polars
    return is_temporal() if is_temporal else getattr(dtype, "kind", "") in ("m", "M")


def non_numeric_columns(X):
    """Describe the columns of X that hold no numbers; None if all of them do.

    Returns, for example, "text in columns 'city' and 'street' (for example 'Paris')".
    """
    found = {}
    for label, values in _columns(X):
        kind, example = _non_numeric(values)
        if kind is not None:
            found.setdefault(kind, ([], example))[0].append(label)
    parts = []
    for kind, (labels, example) in found.items():
        where = "" if labels[0] is None else f" in {_listed(labels)}"
        shown = "" if example is None else f" (for example {_shortened(example)})"
        parts.append(kind + where + shown)
    return " and ".join(parts) or None


def non_finite_columns(X, *, nan, names=None):
    """Return the columns of X that hold NaN, or else infinity, such as "column 3".

    `names` are the column names of an array.
    """
    is_bad = np.isnan if nan else np.isinf
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind == "f":
        bad = np.zeros(X.shape[1], dtype=bool)
        for rows in gen_batches(X.shape[0], max(1, _SEARCHED // max(1, X.shape[1]))):
            bad |= is_bad(X[rows]).any(axis=0)
        labels = [label_of(j, names) for j in np.flatnonzero(bad)]
    else:
        labels = [
            label for label, values in _columns(X) if is_bad(_floats(values)).any()
        ]
    return None if not labels or labels[0] is None else _listed(labels)


def label_of(j, names=None):
    """Return the name of column j in quotes; without names, its number."""
    return str(j) if names is None else repr(str(names[j]))


def list_columns(columns, names=None):
    """Return at most ten names, or else numbers, of columns for a message."""
    shown = [str(names[j]) if names else str(j) for j in columns[:10]]
    more = f", ... ({len(columns)} in all)" if len(columns) > 10 else ""
    return "[" + ", ".join(shown) + more + "]"


def _columns(X):
    """Yield the label and the values of each column; None and X in one dimension."""
    if isinstance(getattr(X, "shape", None), tuple) and hasattr(X, "columns"):
        for j, name in enumerate(X.columns):
            label = repr(str(name)) if isinstance(name, str) else str(name)
            yield label, X.iloc[:, j] if hasattr(X, "iloc") else X[:, j]
        return
    X = X if isinstance(X, np.ndarray) else np.asarray(X, dtype=object)
    if X.ndim == 2:
        for j in range(X.shape[1]):
            yield str(j), X[:, j]
    elif X.ndim <= 1:
        yield None, X.ravel()


def _non_numeric(values):
    """Return what a column holds instead of numbers, and an example; (None, None)."""
    if _is_time(values.dtype):
        return "dates or times", None
    if getattr(values.dtype, "kind", "") == "c":
        return "complex numbers", None
    if _converts(values):
        return None, None
    wrong = next((value for value in values if not _converts([value])), None)
    if wrong is None:  # each value converts on its own
        return None, None
    if str(values.dtype).lower().startswith(("categor", "enum")):
        return "categories", wrong
    if isinstance(wrong, (str, bytes)):
        return "text", wrong
    name = type(wrong).__name__
    if isinstance(wrong, _TIMES) or name in ("NaTType", "Period"):
        return "dates or times", None
    if name == "NAType":
        return "missing values", None
    if isinstance(wrong, int):
        return "integers beyond the range of floating-point numbers", None
    return f"values of type {name}", None


def _floats(values):
    """Return an (n,) column of numbers, in which missing values are NaN, as floats."""
    if hasattr(values, "iloc"):  # NumPy cannot convert pandas.NA in every version
        values = values.astype(np.float64)
    elif values.dtype == object:
        values = [np.nan if type(v).__name__ == "NAType" else v for v in values]
    return np.asarray(values, dtype=np.float64)


def _converts(values):
    """Return whether (n,) values convert to floats; sequences do not."""
    objects = np.asarray(values, dtype=object)
    if _holds_times(objects.ravel()):
        return False
    try:
        floats = np.asarray(objects, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return False
    return floats.ndim == 1


def _listed(labels):
    """Return labels as "column 0" or "columns 0, 1, 2, 3, 4 and 7 more"."""
    if len(labels) == 1:
        return f"column {labels[0]}"
    named = [str(label) for label in labels]
    if len(named) > _NAMED:
        named[_NAMED:] = [f"{len(named) - _NAMED} more"]
    return f"columns {', '.join(named[:-1])} and {named[-1]}"


def _shortened(value):
    """Return the representation of a value, cut to a readable length."""
    builtin = next((t for t in (str, bytes) if isinstance(value, t)), None)
    shown = repr(builtin(value) if builtin else value)  # not np.str_('Paris')
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}...'"
