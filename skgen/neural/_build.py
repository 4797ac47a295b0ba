"""Building of a skorch net by the parameters of an estimator."""

import copy

import torch

from skgen._checks import Described, invalid_parameter
from skgen._torch import resolved_device, usable_device
from skgen.neural._net import Net
from skgen.neural._parameters import optimizer_class

# Optimisers with a fused implementation. For small nets it halves the training time.
_FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


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
    net.restore_state(kept)
    return net
