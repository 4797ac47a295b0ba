"""Tensors, modules and optimisers as JSON and arrays, for files of skops."""

from collections import OrderedDict

import numpy as np
import torch

from skgen._persistence import private_class, private_name


def packed(value, packer):
    """Return the JSON of a value of PyTorch; None for other values."""
    if isinstance(value, torch.Tensor):
        return packer.once(value, lambda: {"tensor": _packed_tensor(value, packer)})
    if isinstance(value, torch.nn.Module):
        return packer.once(value, lambda: {"module": _packed_module(value, packer)})
    if isinstance(value, torch.Size):
        return packer.pack(tuple(value))
    if isinstance(value, torch.dtype):
        return {"torch_dtype": str(value).removeprefix("torch.")}
    if _is_of_torch(value, torch.optim, torch.optim.Optimizer):
        return {"optimizer": value.__name__}
    return None


def unpacked(kind, content, unpacker):
    """Return the value of PyTorch of a kind of JSON."""
    if kind == "tensor":
        return unpacker.once(lambda: _unpacked_tensor(content, unpacker))
    if kind == "module":
        return unpacker.once(lambda: _unpacked_module(content, unpacker))
    if kind == "torch_dtype":
        return _dtype(content)
    if kind == "optimizer":
        return _class_of_torch(content, torch.optim, torch.optim.Optimizer)
    if kind == "layer":
        return _class_of_torch(content, torch.nn, torch.nn.Module)
    if kind == "class":
        return private_class(content)
    raise ValueError(f"it has a value of the unknown kind {kind!r}")


def _is_of_torch(value, namespace, base):
    """Return whether a value is PyTorch's own subclass of `base` in a namespace."""
    return (
        isinstance(value, type)
        and issubclass(value, base)
        and value.__module__.startswith(f"{namespace.__name__}.")
        and getattr(namespace, value.__name__, None) is value
    )


def _class_of_torch(name, namespace, base):
    value = getattr(namespace, name, None)
    if not _is_of_torch(value, namespace, base):
        raise ValueError(f"{namespace.__name__} has no {base.__name__} {name!r}")
    return value


def _dtype(name):
    value = getattr(torch, name)
    if not isinstance(value, torch.dtype):
        raise ValueError(f"torch has no data type {name!r}")
    return value


def _packed_tensor(tensor, packer):
    """Return the array of a tensor as it is in memory, and how to view it."""
    strides = tensor.stride()
    order = sorted(range(tensor.ndim), key=lambda axis: -strides[axis])
    values = tensor.detach().cpu().permute(order)
    for position, axis in enumerate(order):
        if strides[axis] == 0 and tensor.shape[axis] > 1:  # a view of one element
            values = values.narrow(position, 0, 1)
    if tensor.dtype is torch.bfloat16:  # which NumPy has not
        values = values.float()
    parameter = isinstance(tensor, torch.nn.Parameter)
    return {
        "array": packer.pack(values.contiguous().numpy()),
        "dtype": packer.pack(tensor.dtype),
        "order": order,
        "shape": list(tensor.shape),
        "trained": tensor.requires_grad if parameter else None,
    }


def _unpacked_tensor(content, unpacker):
    # A copy: the module may train, and the array may be another model's.
    values = torch.tensor(unpacker.unpack(content["array"]))
    values = values.to(unpacker.unpack(content["dtype"]))
    order = np.argsort(content["order"]).tolist()
    values = values.permute(order).expand(content["shape"])
    if content["trained"] is None:
        return values
    return torch.nn.Parameter(values, requires_grad=content["trained"])


def _packed_module(module, packer):
    """Return the class of a module and the attributes that a new module has not."""
    cls = type(module)
    name = private_name(cls)
    if name is not None:
        kind = {"class": name}
    elif _is_of_torch(cls, torch.nn, torch.nn.Module):
        kind = {"layer": cls.__name__}
    else:
        kind = packer.pack(cls)  # of the user, who has to trust it
    new = vars(torch.nn.Module())
    state = {}
    for key, value in module.__getstate__().items():
        if key not in new or type(value) is not type(new[key]) or value != new[key]:
            value = dict(value) if isinstance(value, OrderedDict) else value
            state[key] = value
    return [kind, packer.pack(state)]


def _unpacked_module(content, unpacker):
    kind, state = content
    cls = unpacker.unpack(kind)
    if not (isinstance(cls, type) and issubclass(cls, torch.nn.Module)):
        raise ValueError(f"{cls!r} is not a module of PyTorch")
    module = cls.__new__(cls)
    torch.nn.Module.__init__(module)
    new = vars(module)
    state = unpacker.unpack(state)
    for key, value in state.items():
        if isinstance(new.get(key), OrderedDict):
            state[key] = OrderedDict(value)
    module.__setstate__({**new, **state})
    return module
