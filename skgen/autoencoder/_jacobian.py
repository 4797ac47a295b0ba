"""Outputs of a network with their Jacobians, by derivatives carried forwards.

A code has few numbers and a row has many: one pass per number of the code is the
cheap direction. Linear layers and activations need no machinery for it; any other
network goes through PyTorch's own forward mode.
"""

import warnings
from functools import cache

import torch
from torch import nn

_ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.SiLU, nn.GELU, nn.Softplus, nn.Sigmoid, nn.ELU)
_SHAPES = (nn.Flatten, nn.Unflatten, nn.Identity)


def with_jacobian(network, z, slope):
    """Return outputs and Jacobians of a network whose input is a map of `z`.

    Parameters
    ----------
    network : torch.nn.Module
        Maps (n, k) to (n, d); each row's output depends on that row alone.
    z : torch.Tensor of shape (n, k)
        The inputs.
    slope : torch.Tensor of shape (n, k)
        The derivatives of the inputs, each number by that of a latent.

    Returns
    -------
    a : torch.Tensor of shape (n, d)
        The outputs.
    J : torch.Tensor of shape (n, k, d)
        The derivatives by each latent number.
    """
    n, k = z.shape
    tangents = torch.diag_embed(slope).transpose(0, 1)  # (k, n, k)
    layers = _layers(network)
    if not all(type(layer) in _RULES for layer in layers):
        return network(z), _by_forward_mode(network, z, tangents).transpose(0, 1)
    tangents = tangents.reshape(k * n, k)
    for layer in layers:
        z, tangents = _RULES[type(layer)](layer, z, tangents)
    return z, tangents.view(k, n, -1).transpose(0, 1)


def is_linear(network):
    """Tell whether a network is known to be an affine map."""
    known = (nn.Linear, nn.Identity, nn.Conv2d, nn.ConvTranspose2d, *_SHAPES)
    return all(type(layer) in known for layer in _layers(network))


def widest(network, z):
    """Return the most numbers that any layer gives for one input."""
    sizes = []
    for layer in _layers(network):
        z = layer(z)
        sizes.append(z[0].numel())
    return max(sizes)


def _layers(network):
    """Return the layers of nested sequences, in order."""
    if type(network) is not nn.Sequential:
        return [network]
    return [layer for part in network for layer in _layers(part)]


def _linear(layer, z, tangents):
    return layer(z), nn.functional.linear(tangents, layer.weight)


def _convolution(layer, z, tangents):
    return layer(z), layer._conv_forward(tangents, layer.weight, None)


def _transposed_convolution(layer, z, tangents):
    options = (layer.stride, layer.padding, layer.output_padding, layer.groups)
    return layer(z), nn.functional.conv_transpose2d(
        tangents, layer.weight, None, *options, layer.dilation
    )


def _elementwise(layer, z, tangents):
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        y = layer(z.clone())  # which may write over its input
        (derivative,) = torch.autograd.grad(y.sum(), z)
    shape = (-1, *z.shape)
    return y.detach(), (tangents.view(shape) * derivative).view(tangents.shape)


def _shape(layer, z, tangents):
    return layer(z), layer(tangents)


_RULES = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.ConvTranspose2d: _transposed_convolution,
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(_SHAPES, _shape),
}


def _by_forward_mode(network, z, tangents):
    """Return the derivatives of outputs along tangents (k, n, k): (k, n, d)."""
    _load_forward_mode()

    def along(tangent):
        return torch.func.jvp(network, (z,), (tangent,))[1]

    return torch.func.vmap(along)(tangents)


@cache
def _load_forward_mode():
    """Let PyTorch compile its rules, of which it warns itself."""
    one = torch.ones(1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.func.jvp(nn.functional.softplus, (one,), (one,))
