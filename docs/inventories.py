"""Inventories of other projects' names, for builds that cannot reach their sites.

Sphinx takes the inventory of a project from its site, and these where there is no
network: they hold the names that skgen's documentation refers to, at the addresses that
the projects' own documentation gives them.
"""

import inspect
import pydoc
import re
from pathlib import Path
from zlib import compress

from sklearn.experimental import enable_iterative_imputer  # noqa: F401 (its name)

ROOT = Path(__file__).resolve().parent.parent

# The address of a name below the address of its project.
PROJECTS = {
    "sklearn": ("https://scikit-learn.org/stable", "modules/generated"),
    "scipy": ("https://docs.scipy.org/doc/scipy", "reference/generated"),
}


def names_of(package):
    """Return the names of a package in the documentation, with their roles."""
    pattern = re.compile(rf"\b{package}(?:\.\w+)+")
    text = "".join(
        path.read_text(encoding="utf-8")
        for folder, kind in (("skgen", "py"), ("docs", "md"))
        for path in sorted((ROOT / folder).rglob(f"*.{kind}"))
    )
    roles = {}
    for name in sorted(set(pattern.findall(text))):
        thing = pydoc.locate(name)
        if inspect.isclass(thing):
            roles[name] = "class"
        elif callable(thing):
            inside = inspect.isclass(pydoc.locate(name.rpartition(".")[0]))
            roles[name] = "method" if inside else "function"
    return roles


def write_inventory(package, folder):
    """Write the inventory of a package into a folder and return its path."""
    _site, pages = PROJECTS[package]
    lines = []
    for name, role in names_of(package).items():
        page = name.rpartition(".")[0] if role == "method" else name
        lines.append(f"{name} py:{role} 1 {pages}/{page}.html#$ -\n")
    head = (
        "# Sphinx inventory version 2\n"
        f"# Project: {package}\n"
        "# Version: stable\n"
        "# The remainder of this file is compressed using zlib.\n"
    )
    path = Path(folder) / f"{package}.inv"
    path.write_bytes(head.encode() + compress("".join(lines).encode()))
    return path


def mapping(folder):
    """Return `intersphinx_mapping`: the project's inventory, else ours."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    return {
        package: (site, (None, str(write_inventory(package, folder))))
        for package, (site, _pages) in PROJECTS.items()
    }
