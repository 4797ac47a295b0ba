"""Docstrings of classes, completed by entries that several classes share."""

import inspect
import re

_FITTED = """
Attributes
----------
n_features_in_ : int
    Number of features seen during `fit`.
feature_names_in_ : ndarray of shape (n_features,)
    Names of the features seen during `fit`. Set only if `X` has feature names that
    are all strings.
"""

_TITLE = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)
_ORDER = ("Parameters", "Attributes", "See Also", "Notes", "References", "Examples")


def documented(*shared):
    """Return a decorator of classes: `shared` docstrings complete their docstrings.

    Parameters are in the order of the signature, which has their defaults. An entry of
    the class precedes a shared entry; shared notes follow its notes.
    """
    shared = [_sections(docstring) for docstring in (*shared, _FITTED)]

    def complete(cls):
        if cls.__doc__ is None:  # python -OO
            return cls
        own = _sections(cls.__doc__)
        known = _merged("Parameters", own, shared)
        own["Parameters"] = "\n".join(
            _with_default(known[parameter.name], parameter.default)
            for parameter in inspect.signature(cls).parameters.values()
        )
        own["Attributes"] = "\n".join(_merged("Attributes", own, shared).values())
        notes = [part["Notes"] for part in (own, *shared) if "Notes" in part]
        own["Notes"] = "\n\n".join(notes)
        sections = [f"{t}\n{'-' * len(t)}\n{own[t]}" for t in _ORDER if own.get(t)]
        cls.__doc__ = "\n\n".join([own[""], *sections]) + "\n"
        return cls

    return complete


def _sections(docstring):
    """Return the sections of a docstring by title; the text before them is ""."""
    head, *rest = _TITLE.split(inspect.cleandoc(docstring))
    texts = [text.strip("\n") for text in (head, *rest[1::2])]
    return dict(zip(["", *rest[::2]], texts, strict=True))


def _merged(title, own, shared):
    """Return the entries of a section by name, new ones of the class first."""
    own, *shared = (
        {re.match(r"\w*", entry)[0]: entry for entry in re.split(r"\n(?=\S)", text)}
        for text in (part.get(title, "") for part in (own, *shared))
    )
    known = {name: entry for part in shared for name, entry in part.items()}
    new = {name: entry for name, entry in own.items() if name not in known}
    return {name: entry for name, entry in {**new, **known, **own}.items() if entry}


def _with_default(entry, default):
    """Return the entry of a parameter with its default in the line of its type."""
    first, *text = entry.split("\n", 1)
    if default is not inspect.Parameter.empty and "default=" not in first:
        shown = repr(default).replace("'", '"').replace("e-0", "e-")
        first = f"{first}, default={shown}"
    return "\n".join([first, *text])
