"""Imported before PyTorch: the error without it names what to install.

Loading a file or a pickle imports the module of its class by name.
"""

from skgen._lazy import imported

for _package in ("torch", "skorch"):
    imported(_package, "This model")
