"""Warnings that point at the user's line and are shown there once."""

import concurrent.futures.thread
import contextlib
import functools
import sys
import threading
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import threadpoolctl

from skgen._lazy import origin_of

# Packages that call an estimator on behalf of the user.
_CALLERS = ("skgen", "sklearn", "joblib", "skorch", "dask", "distributed")

# Modules that appear in the stack between such calls.
_BETWEEN = (contextlib, functools, threading, concurrent.futures.thread, threadpoolctl)


def _folders(packages):
    """Return the folders of those packages that are installed."""
    origins = filter(None, map(origin_of, packages))
    return tuple(f"{Path(origin).parent.as_posix()}/" for origin in origins)


_INSIDE = _folders(_CALLERS)
_FILES = frozenset(Path(str(module.__file__)).as_posix() for module in _BETWEEN)

# Warnings that were shown. Python forgets them whenever a filter changes, and
# scikit-learn changes filters for every fit of a search.
_shown: set[tuple] = set()

# The latest list of `catch_warnings(record=True)`, and the warnings that it was shown.
_recorded: tuple[list | None, set[tuple]] = (None, set())

# Name under which Python notes in a module which warnings it showed there. IPython
# deletes it before it runs a cell, which then shows its warnings anew.
_REGISTRY = "__warningregistry__"

# Parts of a warning and its place that decide whether it was shown before.
_SHOWN_ONCE = {
    "default": ("kind", "category", "file", "line"),
    "module": ("kind", "category", "file"),
    "once": ("kind", "category"),
}


# Categories and first words of the warnings that are not shown in this context.
_QUIET: ContextVar[tuple] = ContextVar("quiet", default=())


@contextmanager
def quiet(category=Warning, words=""):
    """Do not show warnings of skgen in the body that begin with some words."""
    # Python's filters belong to the process. Threads that change and restore them at
    # the same time leave changed filters behind.
    token = _QUIET.set((*_QUIET.get(), (category, words)))
    try:
        yield
    finally:
        _QUIET.reset(token)


def warn_user(message, category=UserWarning, *, kind=None):
    """Warn at the innermost line of the stack outside of these libraries.

    Filters apply as to every warning. Warnings of the same `kind` count as equal even
    if their messages name other columns or numbers.
    """
    for hidden, words in _QUIET.get():
        if issubclass(category, hidden) and message.startswith(words):
            return
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_inside(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    place = {
        "kind": kind or message,
        "category": category,
        "file": frame.f_code.co_filename,
        "line": frame.f_lineno,
    }
    action = _action(message, category, frame)
    if action in _SHOWN_ONCE:
        key = (action, *(place[part] for part in _SHOWN_ONCE[action]))
        shown = _shown_in(frame)
        if key in shown:
            return
        shown.add(key)
    warnings.warn(message, category, stacklevel=level)


def _shown_in(frame):
    """Return the keys of the warnings that were shown where a frame's are shown."""
    global _recorded
    # `catch_warnings(record=True)` has to record what was shown before.
    show = getattr(warnings, "_showwarnmsg_impl", None)
    record = getattr(show, "__self__", None)
    if isinstance(record, list):
        if record is not _recorded[0]:
            _recorded = record, set()
        return _recorded[1]
    if _REGISTRY not in frame.f_globals:
        file = frame.f_code.co_filename
        _shown.difference_update([key for key in tuple(_shown) if file in key])
    return _shown


def _action(message, category, frame):
    """Return the action of the first filter that matches a warning in a frame."""
    module = frame.f_globals.get("__name__", "<string>")
    for action, text, kind, where, line in warnings.filters:
        if (
            _matches(text, message)
            and issubclass(category, kind)
            and _matches(where, module)
            and line in (0, frame.f_lineno)
        ):
            return action
    return warnings.defaultaction


def _matches(pattern, text):
    """Return whether the pattern of a filter matches; it may also be a string."""
    if pattern is None or isinstance(pattern, str):
        return pattern in (None, text)
    return pattern.match(text) is not None


def _is_inside(filename):
    """Return whether a file belongs to a library that calls estimators."""
    path = Path(filename).as_posix()
    return path.startswith(_INSIDE) or path in _FILES
