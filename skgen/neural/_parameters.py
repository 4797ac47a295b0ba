"""Parameters of every model that is trained by gradient descent: texts and checks."""

import math

import torch
from skorch.callbacks import Callback

from skgen._checks import (
    check_boolean,
    check_integer,
    invalid_parameter,
    is_integer,
    is_real,
)
from skgen._torch import check_device

Sizes = tuple[int, ...] | list[int]

TRAINING = """
Parameters
----------
max_epochs : int
    Maximum number of passes over the training rows.
dropout : float or "auto"
    Probability with which hidden units are omitted in training. It prevents
    overfitting. "auto" is 0.1 for fewer than 1,000 rows for each feature, else 0.
optimizer : str or type
    Optimiser: "adam", "adamw", "rmsprop", "sgd" or a subclass of
    ``torch.optim.Optimizer``.
validation_fraction : float
    Fraction of the rows to hold out at random. Only used if `early_stopping` is
    True.
net_callbacks : list
    Callbacks of skorch for `net_`.
net_params : dict
    Additional parameters of ``skorch.NeuralNet``, such as
    ``{"optimizer__weight_decay": 1e-4}`` or ``{"compile": True}``.
device : str
    Device for training: "cpu", "cuda", "cuda:1", "mps", or "auto" for the fastest
    device available. After training, the model is evaluated on the CPU in double
    precision.

Attributes
----------
n_iter_ : int
    Number of epochs in `history_`.
"""

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}

# Dropout with dropout="auto", and number of rows for each feature that do without.
_DROPOUT, _MANY_ROWS = 0.1, 1_000

# Keys that `net_params` may not have, and the parameter that sets them instead.
_OWN = {
    **dict.fromkeys(("module", "criterion", "dataset"), None),
    **dict.fromkeys(("iterator_train", "iterator_valid"), None),
    "train_split": "validation_fraction",
    "callbacks": "net_callbacks",
    "optimizer__lr": "lr",
}
_OWN |= {name: name for name in ("optimizer", "lr", "batch_size", "max_epochs")}
_OWN |= {name: name for name in ("warm_start", "device")}


def check_training(model):
    """Raise for an invalid parameter of the training."""
    check_integer(model, "max_epochs", 1)
    batch_size = model.batch_size
    if batch_size != "auto" and not is_integer(batch_size, 1):
        rule = "'auto' or an int of at least 1"
        raise invalid_parameter(model, "batch_size", rule, batch_size)
    if not (is_real(model.lr) and model.lr > 0):
        rule = "a finite number above 0"
        raise invalid_parameter(model, "lr", rule, model.lr)
    check_boolean(model, "early_stopping")
    fraction = model.validation_fraction
    if not (is_real(fraction) and 0 < fraction < 1):
        rule = "a number between 0 and 1"
        raise invalid_parameter(model, "validation_fraction", rule, fraction)
    check_boolean(model, "warm_start")
    optimizer_class(model)
    _check_net_parameters(model)
    check_device(model)


def check_dropout(model):
    """Raise for an invalid `dropout`."""
    value = model.dropout
    named = isinstance(value, str) and value == "auto"
    if not named and not (is_real(value) and 0 <= value < 1):
        rule = "'auto' or a number of at least 0 and below 1"
        raise invalid_parameter(model, "dropout", rule, value)


def dropout_of(model, n, d):
    """Return the probability `dropout` of a model of (n, d) rows."""
    if model.dropout != "auto":
        return model.dropout
    return 0.0 if n >= _MANY_ROWS * d else _DROPOUT


def are_sizes(value):
    """Return whether a value is a tuple or list of positive integers."""
    return isinstance(value, (tuple, list)) and all(is_integer(v, 1) for v in value)


def check_image_shape(model):
    """Raise for an `image_shape` that is not the shape of an image."""
    shape = model.image_shape
    if shape is not None and not (are_sizes(shape) and len(shape) in (2, 3)):
        rule = "None, (height, width) or (channels, height, width)"
        raise invalid_parameter(model, "image_shape", rule, shape)


def image_shape(model, n_images=1):
    """Return the shape (channels, height, width) of `n_images` images, or None."""
    shape = model.image_shape
    if shape is None:
        return None
    channels, *sizes = (1, *shape) if len(shape) == 2 else shape
    return (n_images * channels, *sizes)


def check_pixels(model, n_features):
    """Raise unless an image has a pixel for each feature."""
    if model.image_shape is not None and math.prod(model.image_shape) != n_features:
        rule = f"None or sizes whose product is the number of features, {n_features}"
        raise invalid_parameter(model, "image_shape", rule, model.image_shape)


def optimizer_class(model):
    """Return the optimiser class of the parameter `optimizer`; raise for others."""
    value = model.optimizer
    if isinstance(value, str) and value in OPTIMIZERS:
        return OPTIMIZERS[value]
    if (
        isinstance(value, type)
        and issubclass(value, torch.optim.Optimizer)
        and value is not torch.optim.Optimizer
    ):
        return value
    listed = ", ".join(repr(name) for name in OPTIMIZERS)
    rule = f"one of {listed} or a subclass of torch.optim.Optimizer"
    raise invalid_parameter(model, "optimizer", rule, value)


def _check_net_parameters(model):
    """Raise for wrong `net_callbacks` or `net_params`."""
    callbacks = model.net_callbacks
    rule = "None or a list of skorch callbacks, or of (name, callback) pairs"
    if not isinstance(callbacks, (list, tuple, type(None))):
        raise invalid_parameter(model, "net_callbacks", rule, callbacks)
    for item in callbacks or []:
        named = isinstance(item, tuple) and len(item) == 2
        callback = item[1] if named else item
        known = callback if isinstance(callback, type) else type(callback)
        if not issubclass(known, Callback):
            raise invalid_parameter(model, "net_callbacks", rule, item)
    options = model.net_params
    if options is None:
        return
    rule = "None or a dict whose keys are parameters of skorch.NeuralNet"
    if not (isinstance(options, dict) and all(isinstance(k, str) for k in options)):
        raise invalid_parameter(model, "net_params", rule, options)
    for key in options:
        if key.startswith("callbacks__schedule"):
            rule = f"without {key!r}: the schedule has parameters of its own"
            raise invalid_parameter(model, "net_params", rule, options)
        if key in _OWN:
            instead = _OWN[key]
            rule = f"without {key!r}" + (
                f": set the parameter {instead!r}" if instead else ""
            )
            raise invalid_parameter(model, "net_params", rule, options)
