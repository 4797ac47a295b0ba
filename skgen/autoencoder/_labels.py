"""Class labels as users give them, with -1 for rows without a label."""

import numbers

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.validation import check_consistent_length

from skgen._bayes import checked_labels
from skgen._checks import Described, invalid_argument, refuse_masked

UNLABELLED = -1


def _is_missing(label):
    """Return whether a label is missing: None, NaN or the NA of pandas."""
    if label is None or type(label).__name__ == "NAType":
        return True
    return isinstance(label, numbers.Real) and bool(label != label)


def split_labels(model, X, y, method):
    """Return the labels (m,) of labelled rows, and whether each row is labelled."""
    if y is None:
        return np.empty(0), None
    if not isinstance(X, np.ndarray):
        rule = "None where X is out of core"
        raise invalid_argument(model, method, "y", rule, Described("labels"))
    refuse_masked(f"The 'y' argument of {type(model).__name__}.{method}", y)
    if isinstance(y, (list, tuple)):  # whose numbers would become strings
        y = np.array(y, dtype=object)
    y = column_or_1d(y, warn=True)
    check_consistent_length(X, y)
    n_missing = sum(map(_is_missing, y)) if y.dtype.kind in "Of" else 0
    if n_missing:
        rule = "without missing values; -1 marks a row without a label"
        got = Described(f"None or NaN in {n_missing} of {y.size} rows")
        raise invalid_argument(model, method, "y", rule, got)
    if y.dtype.kind in "US" and (y == "-1").any():
        rule = (
            "an object array where strings are classes, with the integer -1 for "
            "rows without a label"
        )
        raise invalid_argument(model, method, "y", rule, Described("the text '-1'"))
    if y.dtype.kind == "O":
        known = [not (isinstance(v, numbers.Number) and v == -1) for v in y]
        labelled = np.array(known, dtype=bool)
    elif y.dtype.kind in "iuf":
        labelled = y != UNLABELLED
    else:
        labelled = np.ones(y.size, dtype=bool)
    labels = y[labelled]
    if labels.dtype.kind == "O":
        is_text = {isinstance(label, str) for label in labels.tolist()}
        if len(is_text) == 2:
            rule = "of strings only, but for -1, or of numbers only"
            raise invalid_argument(model, method, "y", rule, Described("both"))
        labels = np.array(labels.tolist())
    if not labels.size:
        return np.empty(0), labelled
    labels = checked_labels(model, labels, labels)
    if labels.size < y.size and labels.dtype.kind in "iuf" and (labels == 1).all():
        rule = (
            "of at least two classes besides -1, which marks rows without a label; "
            "if -1 is a class, recode it, for example as 0"
        )
        got = Described("no values but -1 and 1")
        raise invalid_argument(model, method, "y", rule, got)
    return labels, labelled
