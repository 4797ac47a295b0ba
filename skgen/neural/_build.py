"""Building and checking of a skorch net by an estimator's flat parameters."""

import copy

import torch
from skorch.callbacks import Callback

from skgen._checks import Described, invalid_parameter
from skgen._torch import resolved_device, usable_device
from skgen.neural._net import Net

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}

# Optimisers with a fused implementation. For small nets it halves the training time.
_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)

# Keys that `net_params` may not have, and the parameter that sets them instead.
_OWN = {
    "module": None,
    "criterion": None,
    "train_split": "validation_fraction",
    "warm_start": "warm_start",
    "callbacks": "net_callbacks",
    "optimizer": "optimizer",
    "lr": "lr",
    "optimizer__lr": "lr",
    "batch_size": "batch_size",
    "max_epochs": "max_epochs",
    "device": "device",
    "iterator_train": None,
    "iterator_valid": None,
    "dataset": None,
}


def build_net(model, module, callbacks, batch_size, generator):
    """Return an initialised net for a module, by the parameters of a GradientModel.

    The user's callbacks precede `callbacks`, (name, callback) pairs. The `generator`
    shuffles the rows.
    """
    device = resolved_device(model.device)
    optimizer = optimizer_class(model)
    options = dict(model.net_params or {})
    if (
        optimizer in _FUSED
        and device.type in ("cpu", "cuda")
        and not {"optimizer__foreach", "optimizer__differentiable"} & set(options)
    ):
        options.setdefault("optimizer__fused", True)
    if optimizer in (torch.optim.Adam, torch.optim.AdamW) and model._betas:
        options.setdefault("optimizer__betas", model._betas)
    # A fit changes callbacks: the objects of the user stay as they are.
    own = copy.deepcopy(list(model.net_callbacks or []))
    net = Net(
        module,
        torch.nn.Identity,  # the output of the module is the loss
        optimizer=optimizer,
        lr=model.lr,
        max_epochs=model.max_epochs,
        batch_size=batch_size,
        callbacks=own + callbacks,
        train_split=None,
        warm_start=True,
        device=str(device),
        **{"verbose": 0, **options},
    )
    try:
        net.initialize_callbacks()
    except (TypeError, ValueError) as error:
        if not any(key.startswith("callbacks") for key in options):
            rule = "None or a list of skorch callbacks, or of (name, callback) pairs"
            got = Described(f"{own} ({error})")
            raise invalid_parameter(model, "net_callbacks", rule, got) from error
    try:
        net.initialize()
    except (TypeError, ValueError) as error:
        rule = "None or a dict of parameters of skorch.NeuralNet and the optimizer"
        got = Described(f"{options} ({error})")
        raise invalid_parameter(model, "net_params", rule, got) from error
    net.prepare(generator)
    return net


def restored_net(model, kept):
    """Return the net of a model from a file, given its `Net.kept`.

    Without its device it is on the CPU. The user's callbacks start anew.
    """
    built = object.__new__(type(model))
    vars(built).update({**vars(model), **model._built})
    built.device = usable_device(built.device)
    module, size = kept["module"], kept["batch_size"]
    net = build_net(built, module, model._callbacks(), size, torch.Generator())
    net.restore_kept(kept)
    return net


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


def check_net_parameters(model):
    """Raise for a wrong `optimizer`, `net_callbacks` or `net_params`."""
    optimizer_class(model)
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
