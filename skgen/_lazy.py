"""Modules and public names that are imported when they are first used (PEP 562)."""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

# What to install where a package is missing, as a sentence of its own.
_INSTALL = {
    "torch": "pip install torch skorch",
    "skorch": "pip install torch skorch",
    "pandas": 'pip install "scikit-generative[cli]"',
    "rich": 'pip install "scikit-generative[cli]"',
    "matplotlib": 'pip install "scikit-generative[cli]"',
    "finufft": 'pip install "scikit-generative[fourier]"',
    "dask": 'pip install "scikit-generative[dask]"',
    "polars": "pip install polars",
}
_NAMES = {"torch": "PyTorch and skorch", "skorch": "PyTorch and skorch"}


def missing_package(package, what):
    """Return the ImportError of something that needs a package: one line."""
    return ImportError(
        f"{what} needs {_NAMES.get(package, package)}. "
        f"Install with: {_INSTALL[package]}",
        name=package,
    )


def is_installed(package):
    """Return whether a package can be imported, without importing it."""
    try:
        return sys.modules.get(package) is not None or find_spec(package) is not None
    except ImportError:  # an import hook blocks it
        return False


class LazyModule(ModuleType):
    """A module that is imported when one of its attributes is first used."""

    def __init__(self, name, what):
        super().__init__(name)
        self.__dict__["_what"] = what

    def __getattr__(self, attribute):
        name = self.__name__
        module = sys.modules.get(name)
        if module is None:
            # Tools that look at a namespace ask for these and need no import.
            if attribute.startswith("__") and attribute.endswith("__"):
                raise AttributeError(attribute)
            module = _imported(name, self._what)
        return getattr(module, attribute)


def lazy_module(name, what="This"):
    """Return a stand-in that imports the module `name` when it is first used.

    `what` begins the error where the package is missing: "`what` needs ...".
    """
    return LazyModule(name, what)


def lazy_names(package, names):
    """Return `__getattr__` and `__dir__` of a package that imports names when used.

    `names` maps each public name to the module that defines it. A name that is mapped
    to itself below the package is a submodule.
    """

    def __getattr__(name):  # noqa: N807
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = _imported(names[name], name)
        value = module if names[name] == f"{package}.{name}" else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__():  # noqa: N807
        own = {name for name in vars(sys.modules[package]) if name.startswith("__")}
        return sorted(own.union(names))

    return __getattr__, __dir__


def _imported(module, what):
    """Import a module; where an optional package is missing, name what needs it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _INSTALL:
            raise
        raise missing_package(package, what) from error
