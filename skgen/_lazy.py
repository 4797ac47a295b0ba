"""Modules and public names that are imported on first use (PEP 562)."""

import functools
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

# Modules of the public names of each package, and the names that need PyTorch.
_PUBLIC: dict[str, dict[str, str]] = {}
_NEURAL: set[str] = set()


class cached_property(functools.cached_property):  # noqa: N801 (as in functools)
    """The `cached_property` of Python 3.12, without the lock of Python 3.11.

    In a process that is forked while another thread has the lock, it stays locked.
    """

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        value = instance.__dict__[self.attrname] = self.func(instance)
        return value


def missing_package(package, what):
    """Return the error for `what`, which needs a missing package."""
    return ModuleNotFoundError(
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
            module = imported(name, self._what)
        return getattr(module, attribute)


def lazy_module(name, what="This"):
    """Return a stand-in that imports the module `name` on first use.

    If the package is missing, the error reads "`what` needs ...".
    """
    return LazyModule(name, what)


def lazy_names(package, names, *, neural=(), rooms=(), modules=()):
    """Return `__all__`, `__getattr__` and `__dir__` of a package with lazy names.

    `names` maps each public name to the module of the package that defines it. So does
    `neural`, for names that need PyTorch and skorch. Public names of the packages
    `rooms` are names of this package too. `modules` are other modules to import lazily.
    """
    _NEURAL.update(neural)
    here = {**names, **dict(neural)}
    own = {name: f"{package}.{module}" for name, module in here.items()}
    for room in rooms:
        import_module(f"{package}.{room}")
        own.update(_PUBLIC[f"{package}.{room}"])
    _PUBLIC[package] = own
    # Without the names whose packages are missing, star imports, `help` and
    # `inspect.getmembers` raise no error.
    complete = is_installed("torch") and is_installed("skorch")
    public = [name for name in own if complete or name not in _NEURAL]
    public.sort(key=lambda name: (not name.isupper(), name))

    def __getattr__(name):  # noqa: N807
        if name in modules:
            return import_module(f"{package}.{name}")
        if name not in own:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            value = getattr(imported(own[name], name), name)
        except ImportError as error:
            # `hasattr` and `getattr` with a default expect an AttributeError where a
            # package is missing. `from package import name` would lose its message.
            asked_by = sys._getframe(1).f_code.co_name
            if name in public or asked_by == "_handle_fromlist":
                raise
            raise AttributeError(str(error)) from error
        setattr(sys.modules[package], name, value)
        return value

    def __dir__():  # noqa: N807
        known = {name for name in vars(sys.modules[package]) if name.startswith("__")}
        return sorted(known.union(public, rooms, modules))

    return public, __getattr__, __dir__


def imported(module, what):
    """Import a module; the error for a missing package names `what` needs it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _INSTALL:
            raise
        raise missing_package(package, what) from error
