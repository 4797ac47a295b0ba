"""Modules and public names that are imported on first use (PEP 562)."""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

# Command that installs a missing package.
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

# Public names that need PyTorch and skorch.
_NEURAL = ("AutoEncoder", "GradientModel", "RAE", "SGDGaussianMixture", "SWAE", "VAE")


def missing_package(package, what):
    """Return the ImportError for `what`, which needs a missing package."""
    return ImportError(
        f"{what} needs {_NAMES.get(package, package)}. "
        f"Install with: {_INSTALL[package]}",
        name=package,
    )


def is_installed(package):
    """Return whether a package can be imported, without importing it."""
    return sys.modules.get(package) is not None or origin_of(package) is not None


def origin_of(package):
    """Return the file that an installed package is imported from; None without it."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):  # blocked by an import hook, or a module by hand
        return None
    # A folder of that name on the path is a package without an origin.
    return None if spec is None else spec.origin


def importable(names):
    """Return the public names without those whose packages are missing, a list.

    Thus star imports, `help` and `inspect.getmembers` raise no error.
    """
    complete = is_installed("torch") and is_installed("skorch")
    return [name for name in names if complete or name not in _NEURAL]


class LazyModule(ModuleType):
    """Module that is imported when one of its attributes is first used."""

    def __init__(self, name, what):
        super().__init__(name)
        self.__dict__["_what"] = what

    def __getattr__(self, attribute):
        name = self.__name__
        module = sys.modules.get(name)
        if module is None:
            # Introspection looks these up, for which an import would be wasteful.
            if attribute.startswith("__") and attribute.endswith("__"):
                raise AttributeError(attribute)
            module = _imported(name, self._what)
        return getattr(module, attribute)


def lazy_module(name, what="This"):
    """Return a stand-in that imports the module `name` on first use.

    If the package is missing, the error reads "`what` needs ...".
    """
    return LazyModule(name, what)


def lazy_names(package, names):
    """Return `__getattr__` and `__dir__` of a package that imports names on first use.

    `names` maps each public name to the module that defines it. A name mapped to
    "package.name" is a submodule.
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
        return sorted(own.union(importable(names)))

    return __getattr__, __dir__


def _imported(module, what):
    """Import a module; the error for a missing package names `what` needs it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _INSTALL:
            raise
        raise missing_package(package, what) from error
