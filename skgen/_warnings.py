"""Warnings that point at the user's line."""

import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

# Packages that call an estimator on behalf of the user.
_CALLERS = ("skgen", "sklearn", "joblib", "skorch", "dask", "distributed")

# Modules of the standard library that lie between such calls.
_BETWEEN = ("contextlib", "functools", "threading", "thread", "threadpoolctl")


def _folders(packages):
    """Return the folders of the installed ones of some packages."""
    specs = [find_spec(package) for package in packages]
    return tuple(f"{Path(s.origin).parent.as_posix()}/" for s in specs if s)


_INSIDE = _folders(_CALLERS)


def warn_user(message, category=UserWarning):
    """Warn at the innermost line of the stack that is not of a library."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_inside(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_inside(filename):
    """Return whether a file belongs to a library that calls estimators."""
    path = Path(filename)
    return path.as_posix().startswith(_INSIDE) or path.stem in _BETWEEN
