"""The state of an estimator in a file of skops: a text, arrays, and foreign objects.

The text is JSON. It holds plain values and the private objects of skgen, by name.
Objects of other packages and of the user are left to skops, which checks their types.
"""

import copy
import copyreg
import hashlib
import inspect
import json
import sys
from importlib import import_module
from types import FunctionType

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.metadata_routing import MetadataRequest

import skgen
from skgen._interop import frame_kind
from skgen._lazy import cached_property, lazy_module
from skgen._torch import undisturbed

_torch_values = lazy_module("skgen.neural._packing", "This file")

TRUSTED_TYPES = (
    "skgen.autoencoder._autoencoder.AutoEncoder",
    "skgen.autoencoder._class_supervised.ClassSupervisedAutoEncoder",
    "skgen.autoencoder._rae.RAE",
    "skgen.autoencoder._semi_supervised_swae.SemiSupervisedSWAE",
    "skgen.autoencoder._semi_supervised_vae.SemiSupervisedVAE",
    "skgen.autoencoder._swae.SWAE",
    "skgen.autoencoder._vae.VAE",
    "skgen.compose._classifier.GenerativeClassifier",
    "skgen.compose._imputer.GenerativeImputer",
    "skgen.compose._outliers.DensityOutlierDetector",
    "skgen.compose._partial_density.PartialDensity",
    "skgen.compose._pipeline.GenerativePipeline",
    "skgen.diffusion._diffusion_model.DiffusionModel",
    "skgen.flow._normalizing_flow.NormalizingFlow",
    "skgen.kde._gaussian_kde.GaussianKDE",
    "skgen.mixture._em.EMGaussianMixture",
    "skgen.mixture._sgd.SGDGaussianMixture",
)
"""Types in a file of a fitted model, for ``skops.io.load(file, trusted=...)``.

They are the estimators of skgen. See the guide on saving models for the types of your
own networks, callbacks and transformers.
"""

# Version of the format. When the attributes of a class below change, increase it, and
# convert the states of earlier versions. Their files are in tests/saved.
FORMAT = 3

# Private classes by their names in files, which stay when a class moves or is renamed.
_PRIVATE = {
    "AnyDensity": "skgen.autoencoder._prior.AnyDensity",
    "Bernoulli": "skgen.autoencoder._likelihood.Bernoulli",
    "Block": "skgen.diffusion._unet.Block",
    "BottomK": "skgen.rows._sketch.BottomK",
    "Boxes": "skgen.kde._kernel_sum.Boxes",
    "ClassPosteriors": "skgen.autoencoder._class_posteriors.ClassPosteriors",
    "ClassSupervised": "skgen.autoencoder._class_supervised.ClassSupervised",
    "ContinuousBernoulli": "skgen.autoencoder._likelihood.ContinuousBernoulli",
    "Coordinates": "skgen.autoencoder._coordinates.Coordinates",
    "Cube": "skgen.autoencoder._prior.Cube",
    "DiagonalModule": "skgen.mixture._module.DiagonalModule",
    "DiagonalWhitening": "skgen._whitening.DiagonalWhitening",
    "DiffusionCoordinates": "skgen.diffusion._coordinates.DiffusionCoordinates",
    "Dropout": "skgen.flow._transforms.Dropout",
    "Flow": "skgen.flow._transforms.Flow",
    "FlowCoordinates": "skgen.diffusion._coordinates.FlowCoordinates",
    "FlowMatching": "skgen.diffusion._training.FlowMatching",
    "FullModule": "skgen.mixture._module.DenseModule",
    "FullWhitening": "skgen._whitening.FullWhitening",
    "Gaussian": "skgen.autoencoder._likelihood.Gaussian",
    "ImageVelocity": "skgen.diffusion._images.ImageVelocity",
    "Kernel": "skgen.kde._kernel.Kernel",
    "LinearModule": "skgen.mixture._module.LinearModule",
    "MarginalSpline": "skgen.diffusion._marginals.MarginalSpline",
    "MaskedLinear": "skgen.flow._transforms.MaskedLinear",
    "MixtureMap": "skgen.flow._mixture_map.MixtureMap",
    "NormalMixture": "skgen.autoencoder._prior.NormalMixture",
    "ObservedSpread": "skgen.rows._moments.ObservedMoments",
    "Pool": "skgen.autoencoder._swae.Pool",
    "Posterior": "skgen.autoencoder._posterior.Posterior",
    "Reconstruction": "skgen.autoencoder._autoencoder.Reconstruction",
    "Regularised": "skgen.autoencoder._rae.Regularised",
    "Ring": "skgen.autoencoder._prior.Ring",
    "RoundMixture": "skgen.autoencoder._prior.RoundMixture",
    "SemiVariational": "skgen.autoencoder._semi_variational.SemiVariational",
    "Shell": "skgen.autoencoder._swae.Shell",
    "Sliced": "skgen.autoencoder._swae.Sliced",
    "SlicedByClass": "skgen.autoencoder._sliced_by_class.SlicedByClass",
    "Spread": "skgen.rows._moments.Moments",
    "SplineTransform": "skgen.flow._transforms.Transform",
    "UNet": "skgen.diffusion._unet.UNet",
    "Uniform": "skgen.autoencoder._swae.Uniform",
    "Variational": "skgen.autoencoder._vae.Variational",
    "Velocity": "skgen.diffusion._velocity.Velocity",
}
_NAMES = {path: name for name, path in _PRIVATE.items()}

# Names in files of classes that have been merged into another, by its name in files.
_MERGED = {
    "LowRankModule": "DiagonalModule",
    "SphericalModule": "DiagonalModule",
    "TiedModule": "FullModule",
}

# Sums in files of formats 1 and 2, which a model now makes when it needs them.
_DROPPED = {"DeviceSum", "FourierSum", "Grid", "KernelSum", "ToleratedSum"}

_KEYS = ("skgen_format", "skgen_version", "text", "arrays", "objects", "checksum")

# Arrays of up to this many numbers are part of the text: an array file has a header of
# 128 bytes, and a small network has a hundred arrays.
_FEW = 32

# What `set_fit_request` and its like set. It refers to its estimator, and skops saves
# no such circles.
_ROUTING = "_metadata_request"


class Persistent:
    """Mixin of estimators that skops saves; pickle and copy see plain attributes."""

    def __reduce__(self):
        # For pickle and copy, which are fastest with the attributes as they are.
        # skops looks here first, and then calls `__getstate__`.
        return copyreg.__newobj__, (type(self),), without_caches(self, vars(self))

    @undisturbed()
    def __deepcopy__(self, memo):
        copied = memo[id(self)] = object.__new__(type(self))
        copied.__setstate__(copy.deepcopy(vars(self), memo))
        return copied

    @undisturbed()
    def __getstate__(self):
        return _sealed(self, self._kept())

    @undisturbed()
    def __setstate__(self, state):
        if not set(_KEYS).isdisjoint(state):
            state = without_caches(self, _opened(self, state))
        super().__setstate__(state)
        self._loaded()

    def _kept(self):
        """Return the attributes that a file keeps, a dict."""
        # Callbacks belong to a process: they hold progress bars, locks and open files.
        kept = without_caches(self, vars(self))
        kept.pop("_skl_callbacks", None)
        if _ROUTING in kept:
            kept[_ROUTING] = _requests(kept[_ROUTING])
        return kept

    def _loaded(self):
        """Complete the attributes after loading."""
        # Parameters that were added to the class after the file was saved.
        for name, parameter in inspect.signature(type(self)).parameters.items():
            vars(self).setdefault(name, parameter.default)
        requests = vars(self).get(_ROUTING)
        if isinstance(requests, dict):
            vars(self)[_ROUTING] = _routing(self, requests)


def without_caches(value, state):
    """Return the attributes of an object in a dict, but its cached properties."""
    cls = type(value)
    return {
        name: attribute
        for name, attribute in state.items()
        if not isinstance(getattr(cls, name, None), cached_property)
    }


def _requests(routing):
    """Return the metadata requests of an estimator, a dict for each method."""
    methods = {name: part for name, part in vars(routing).items() if name != "owner"}
    return {name: dict(part.requests) for name, part in methods.items()}


def _routing(owner, requests):
    """Return the metadata routing of an estimator, given its requests."""
    routing = MetadataRequest(owner=owner)
    for method, wanted in requests.items():
        getattr(routing, method).requests.update(wanted)
    return routing


def _sealed(model, attributes):
    """Return the state of a model for a file, a dict, with a checksum."""
    packer = Packer()
    state = {
        "skgen_format": FORMAT,
        "skgen_version": skgen.__version__,
        "text": json.dumps(packer.pack(attributes)),
        "arrays": packer.arrays,
        "objects": packer.objects,
    }
    return {**state, "checksum": _checksum(model, state)}


def _opened(model, state):
    """Return the attributes in a state from a file, a dict; raise for a damaged one."""
    name = type(model).__name__
    version = state.get("skgen_format")
    if type(version) is int and version > FORMAT:
        raise ValueError(
            f"This file of {name} was saved by skgen {state.get('skgen_version')} in "
            f"format {version}, and this version, skgen {skgen.__version__}, reads "
            f"formats up to {FORMAT}. Install a newer version."
        )
    missing = [key for key in _KEYS if key not in state]
    if missing or type(version) is not int or version < 1:
        reason = f"it lacks {missing}" if missing else f"its format is {version!r}"
        raise ValueError(f"This file of {name} is damaged: {reason}.")
    try:
        if _checksum(model, state) != state["checksum"]:
            raise ValueError("its content does not match its checksum")
        unpacker = Unpacker(state["arrays"], state["objects"])
        return unpacker.unpack(json.loads(state["text"]))
    except ImportError:  # of PyTorch, for instance
        raise
    except Exception as error:
        raise ValueError(f"This file of {name} is damaged: {error}.") from error


def _checksum(model, state):
    """Return the SHA-256 of a state and of what its objects hold."""
    head = [type(model).__name__, *(state[key] for key in _KEYS[:3])]
    digest = hashlib.sha256(json.dumps(head).encode())
    for part in _parts([state["arrays"], state["objects"]]):
        digest.update(part)
    return digest.hexdigest()


def _parts(value):
    """Yield the bytes of numbers and text in containers, generators and estimators."""
    if isinstance(value, (np.ndarray, np.generic)):
        yield f"{value.dtype.str}{value.shape}".encode()
        yield b"" if value.dtype.hasobject else value.tobytes()
    elif value is None or isinstance(value, (bool, int, float, str)):
        yield repr(value).encode()
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _parts(item)
    elif isinstance(value, dict):
        yield from _parts(list(value.values()))
    elif isinstance(value, np.random.RandomState):
        yield from _parts(value.get_state(legacy=False))
    elif isinstance(value, np.random.Generator):
        yield from _parts(value.bit_generator.state)
    else:
        yield type(value).__name__.encode()
        # Other models have checksums of their own, and an estimator with its own
        # `__setstate__` may change its attributes.
        setstate = getattr(type(value), "__setstate__", None)
        if setstate is BaseEstimator.__setstate__:
            yield from _parts(vars(value))
        elif setstate and not isinstance(value, BaseEstimator):
            state = type(value).__getstate__(value)
            # Of a class in C, such as the trees of scikit-learn's KernelDensity.
            yield from _parts(state if isinstance(state, tuple) else None)


def private_name(cls):
    """Return the name in files of a private class of skgen; None for other classes."""
    return _NAMES.get(f"{cls.__module__}.{cls.__qualname__}")


def private_class(name):
    """Return the private class of skgen that has this name in files."""
    module, _, attribute = _PRIVATE[_MERGED.get(name, name)].rpartition(".")
    return getattr(import_module(module), attribute)


def _is_plain(dtype):
    """Return whether JSON holds the numbers of a data type without loss."""
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def _check_importable(value):
    """Raise for a function or a class that skops could not import again."""
    thing = value if isinstance(value, (type, FunctionType)) else type(value)
    if thing.__qualname__ != thing.__name__ or thing.__name__ == "<lambda>":
        raise TypeError(
            f"{thing.__qualname__!r} of {thing.__module__!r} cannot be loaded from a "
            "file. Define it at the top level of a module."
        )


class Packer:
    """Conversion of values to JSON, arrays and foreign objects.

    Lists and plain values stay. Other values are objects of one key, their kind.
    """

    def __init__(self):
        self.arrays, self.objects = [], []
        self._positions, self._numbers, self._alive = {}, {}, []  # the first two by id

    def pack(self, value):
        """Return the JSON of a value."""
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if kind is list:
            return [self.pack(item) for item in value]
        if kind in (tuple, set):
            return {kind.__name__: [self.pack(item) for item in value]}
        if kind is dict:
            if all(type(key) is str for key in value):
                return {"dict": {k: self.pack(v) for k, v in value.items()}}
            return {"items": [[self.pack(k), self.pack(v)] for k, v in value.items()]}
        if kind in (np.ndarray, np.memmap):
            value = np.asarray(value)
            if value.dtype == object:
                items = [self.pack(item) for item in value.ravel()]
                return {"object_array": [list(value.shape), items]}
            if _is_plain(value.dtype) and value.ndim and value.size <= _FEW:
                return self.once(value, lambda: {"few": _numbers_of(value)})
            return {"array": self.position(value, self.arrays)}
        if isinstance(value, np.generic) and value.dtype.kind in "biufcmMSU":
            if _is_plain(value.dtype) or value.dtype.kind == "U":
                return {"scalar": [value.dtype.str, value.item()]}
            return {"single": self.position(np.asarray(value), self.arrays)}
        if isinstance(value, np.dtype):
            return {"dtype": value.str}
        if kind is slice:
            return {"slice": self.pack([value.start, value.stop, value.step])}
        if "torch" in sys.modules:
            packed = _torch_values.packed(value, self)
            if packed is not None:
                return packed
        if frame_kind(value) and getattr(value, "shape", ()):  # skops cannot save it
            return self.pack(np.asarray(value))
        name = private_name(kind)
        if name is not None:
            return self.once(value, lambda: {"object": [name, self._state_of(value)]})
        _check_importable(value)
        if isinstance(value, BaseEstimator) and not isinstance(value, Persistent):
            if _ROUTING in vars(value):
                return self.once(value, lambda: {"routed": self._packed_routed(value)})
        return {"foreign": self.position(value, self.objects)}

    def once(self, value, packed):
        """Return `packed()` for a value that is new, else a reference to the first."""
        if id(value) in self._numbers:
            return {"again": self._numbers[id(value)]}
        self._numbers[id(value)] = len(self._numbers)
        self._alive.append(value)  # or another value could get its id
        return packed()

    def position(self, value, values):
        """Return the position of a value in a list, and append it where it is new."""
        if id(value) not in self._positions:
            self._positions[id(value)] = len(values)
            values.append(value)
        return self._positions[id(value)]

    def _packed_routed(self, estimator):
        """Return the position of an estimator without its requests, and these."""
        bare = copy.copy(estimator)
        requests = _requests(vars(bare).pop(_ROUTING))
        return [self.position(bare, self.objects), self.pack(requests)]

    def _state_of(self, value):
        """Return the JSON of an object's attributes but its cached properties."""
        return self.pack(without_caches(value, value.__getstate__() or {}))


class Unpacker:
    """The inverse of `Packer`, given its arrays and foreign objects."""

    def __init__(self, arrays, objects):
        self.arrays, self.objects, self.made = arrays, objects, []

    def unpack(self, packed):
        """Return the value of its JSON."""
        if isinstance(packed, list):
            return [self.unpack(item) for item in packed]
        if not isinstance(packed, dict):
            return packed
        ((kind, content),) = packed.items()
        if kind in _UNPACKED:
            return _UNPACKED[kind](self, content)
        return _torch_values.unpacked(kind, content, self)

    def once(self, make):
        """Return `make()`, and number it as `Packer.once` does."""
        number = len(self.made)
        self.made.append(None)
        self.made[number] = value = make()
        return value


# Values of the kinds in the text; PyTorch adds its kinds in `neural/_packing.py`.
_UNPACKED = {
    "again": lambda self, number: self.made[number],
    "array": lambda self, position: self.arrays[position],
    "dict": lambda self, items: {k: self.unpack(v) for k, v in items.items()},
    "dtype": lambda self, name: np.dtype(name),
    "few": lambda self, content: self.once(lambda: _array_of(*content)),
    "foreign": lambda self, position: self.objects[position],
    "items": lambda self, items: dict(self.unpack(items)),
    "object": lambda self, content: self.once(lambda: _object(self, *content)),
    "object_array": lambda self, content: _object_array(self, *content),
    "routed": lambda self, content: self.once(lambda: _routed(self, *content)),
    "scalar": lambda self, content: np.dtype(content[0]).type(content[1]),
    "set": lambda self, items: set(self.unpack(items)),
    "single": lambda self, position: self.arrays[position][()],
    "slice": lambda self, ends: slice(*self.unpack(ends)),
    "tuple": lambda self, items: tuple(self.unpack(items)),
}


def _numbers_of(array):
    """Return the data type, order, shape and numbers of a small array, a list."""
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    return [array.dtype.str, order, list(array.shape), array.ravel(order).tolist()]


def _array_of(dtype, order, shape, numbers):
    return np.array(numbers, dtype).reshape(shape, order=order).copy(order)


def _object_array(unpacker, shape, items):
    array = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):  # which may be a list
        array[i] = unpacker.unpack(item)
    return array.reshape(shape)


def _object(unpacker, name, state):
    state = unpacker.unpack(state)
    if name in _DROPPED:
        return None
    if name == "Reservoir":  # of format 1
        name, state = "BottomK", _sketch_of_reservoir(**state)
    cls = private_class(name)
    value = cls.__new__(cls)
    vars(value).update(state)
    return value


def _sketch_of_reservoir(rows, keys):
    """Return the attributes of a `BottomK` for the tensor and the keys of format 1."""
    order, size = np.argsort(keys), keys.size
    X = rows.numpy()[order]
    return {"size": size, "keys": keys[order], "X": X, "sample_weight": np.ones(size)}


def _routed(unpacker, position, requests):
    estimator = unpacker.objects[position]
    vars(estimator)[_ROUTING] = _routing(estimator, unpacker.unpack(requests))
    return estimator
