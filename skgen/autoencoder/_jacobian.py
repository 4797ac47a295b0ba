"""Outputs of a network and their Jacobians, by forward-mode differentiation.

Forward mode needs one pass for each latent dimension, which is cheaper than one pass
for each feature. Networks of linear layers, convolutions and activations have rules of
their own here; for other networks PyTorch's forward mode is used.
"""

import warnings
from functools import cache

import torch
from torch import nn

from skgen._threads import lock_across_forks

_ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.SiLU, nn.GELU, nn.Softplus, nn.Sigmoid, nn.ELU)
_SHAPES = (nn.Flatten, nn.Unflatten, nn.Identity)


class WithClass(nn.Module):
    """Append the indicator of one of `n_classes` classes to codes (n, k)."""

    def __init__(self, code, n_classes):
        super().__init__()
        self.after = code, n_classes - 1 - code

    def forward(self, z):
        one = z.new_ones(z.shape[0], 1)
        return torch.cat([z, nn.functional.pad(one, self.after)], dim=1)


def with_jacobian(network, z, slope):
    """Return outputs a (n, d) and Jacobians J (n, k, d) of a network at z (n, k).

    slope: (n, k) derivative of each input with respect to its latent coordinate.
    Each row of the output must depend on the same row of the input alone. Not for
    training: the Jacobians have no gradients.
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
    """Return whether all layers of a network are known to be affine."""
    known = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, WithClass, *_SHAPES)
    return all(type(layer) in known for layer in _layers(network))


def widest(network, z):
    """Return the size of the largest layer output for one row of z (n, k)."""
    sizes = []
    for layer in _layers(network):
        z = layer(z)
        sizes.append(z[0].numel())
    return max(sizes)


def _layers(network):
    """Return the layers of nested `nn.Sequential` modules, in order."""
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
        y = layer(z.clone())  # a copy: the layer may work in place
        (derivative,) = torch.autograd.grad(y.sum(), z)
    shape = (-1, *z.shape)
    return y.detach(), (tangents.view(shape) * derivative).view(tangents.shape)


def _shape(layer, z, tangents):
    return layer(z), layer(tangents)


def _with_class(layer, z, tangents):
    return layer(z), nn.functional.pad(tangents, (0, sum(layer.after) + 1))


_RULES = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.ConvTranspose2d: _transposed_convolution,
    WithClass: _with_class,
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(_SHAPES, _shape),
}


# PyTorch has one forward mode for all threads: the first thread that leaves it removes
# the tangents of the others.
_FORWARD_MODE = lock_across_forks()


def _by_forward_mode(network, z, tangents):
    """Return the derivatives (k, n, d) of the outputs along tangents (k, n, k)."""

    def along(tangent):
        return torch.func.jvp(network, (z,), (tangent,))[1]

    with _FORWARD_MODE:
        _load_forward_mode()
        return torch.func.vmap(along)(tangents)


@cache
def _load_forward_mode():
    """Load PyTorch's forward-mode rules without its deprecation warning."""
    one = torch.ones(1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.func.jvp(nn.functional.softplus, (one,), (one,))
