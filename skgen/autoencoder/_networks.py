"""Encoders and decoders: dense, convolutional or given by the user."""

import copy
import itertools
import math
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from skgen._checks import Described, invalid_parameter
from skgen.autoencoder._jacobian import with_jacobian
from skgen.autoencoder._likelihood import Observed
from skgen.neural._net import LossModule
from skgen.neural._parameters import check_pixels, image_shape

ACTIVATIONS = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}

# Output channels of the convolutions. Each convolution halves height and width.
_CHANNELS = (32, 64)


def build_networks(model, n_features, n_codes, n_encoded):
    """Return the encoder and the decoder that the parameters of `model` describe.

    encoder: (n, n_features) to (n, n_encoded); decoder: (n, n_codes) to (n, n_features)
    With `encode_mask`, the encoder takes the mask of observed features, too.
    """
    shape = image_shape(model)
    check_pixels(model, n_features)
    act = ACTIVATIONS[model.activation]
    hidden = tuple(model.hidden_layer_sizes)
    networks, trained = [], False
    n_masks = 1 + model.encode_mask
    for name, sizes, n_images in (
        ("encoder", (n_masks * n_features, n_encoded), n_masks),
        ("decoder", (n_codes, n_features), 1),
    ):
        given = getattr(model, name)
        shape = image_shape(model, n_images)
        if given is not None:
            network, has_gradient = _given(model, name, given, sizes, shape)
        elif shape is None:
            layers = hidden if name == "encoder" else hidden[::-1]
            network = dense([sizes[0], *layers, sizes[1]], act)
        elif name == "encoder":
            network = convolutional_encoder(shape, hidden, n_encoded, act)
        else:
            network = convolutional_decoder(shape, hidden[::-1], n_codes, act)
        networks.append(network)
        trained |= given is None or has_gradient
    if not trained:
        rule = "a module with parameters to train, because the encoder has none"
        got = Described("one whose output has no gradient")
        raise invalid_parameter(model, "decoder", rule, got)
    return networks


def dense(sizes, act):
    """Return linear layers with activations between them."""
    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [_started(nn.Linear, n_in, n_out), act()]
    return nn.Sequential(*layers[:-1])


def convolutional_encoder(shape, hidden, n_encoded, act):
    """Return convolutions that halve the image, followed by dense layers."""
    layers, n_in = [nn.Unflatten(1, shape)], shape[0]
    for n_out in _CHANNELS:
        layers += [_started(nn.Conv2d, n_in, n_out, 3, stride=2, padding=1), act()]
        n_in = n_out
    n_in *= math.prod(_halvings(shape)[-1])
    return nn.Sequential(*layers, nn.Flatten(), *dense([n_in, *hidden, n_encoded], act))


def convolutional_decoder(shape, hidden, n_codes, act):
    """Return dense layers, followed by convolutions that double the image."""
    sizes = _halvings(shape)[::-1]
    n_in = _CHANNELS[-1]
    layers = [
        *dense([n_codes, *hidden, n_in * math.prod(sizes[0])], act),
        act(),
        nn.Unflatten(1, (n_in, *sizes[0])),
    ]
    for n_out, small, large in zip(
        (*_CHANNELS[-2::-1], shape[0]), sizes[:-1], sizes[1:], strict=True
    ):
        # An even and an odd size have the same half; the padding restores the size.
        more = [b - (2 * a - 1) for a, b in zip(small, large, strict=True)]
        options = {"stride": 2, "padding": 1, "output_padding": more}
        layers += [_started(nn.ConvTranspose2d, n_in, n_out, 3, **options), act()]
        n_in = n_out
    return nn.Sequential(*layers[:-1], nn.Flatten())


def last_layer(network):
    """Return the last layer of a network that has a bias, or None."""
    layers = [m for m in network.modules() if getattr(m, "bias", None) is not None]
    return layers[-1] if layers else None


def _halvings(shape):
    """Return (height, width) before and after each convolution."""
    sizes = [tuple(shape[1:])]
    for _ in _CHANNELS:
        sizes.append(tuple(-(-size // 2) for size in sizes[-1]))
    return sizes


def _started(kind, *sizes, **options):
    """Return a layer that is initialised as Glorot and Bengio (2010), with bias 0."""
    layer = kind(*sizes, **options, dtype=torch.float32)  # whatever the default dtype
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _given(model, name, given, sizes, shape):
    """Return a copy of the user's module, or the module that a callable returns.

    Also return whether it has parameters to train.
    """
    n_in, n_out = sizes
    rule = (
        f"None, a torch.nn.Module or a callable that returns one for ({n_in}, {n_out})"
    )
    if isinstance(given, nn.Module):
        with _refused(
            model, name, rule, "cannot be copied; a callable can have lazy layers"
        ):
            network = copy.deepcopy(given)
    elif callable(given):
        try:
            network = given(n_in, n_out)
        except Exception as error:
            got = Described(f"a callable that fails for ({n_in}, {n_out}) ({error})")
            raise invalid_parameter(model, name, rule, got) from error
    else:
        raise invalid_parameter(model, name, rule, given)
    if not isinstance(network, nn.Module):
        raise invalid_parameter(
            model, name, rule, Described(f"a callable that returns {network!r}")
        )
    if shape is not None:
        parts = (nn.Unflatten(1, shape), network)
        network = nn.Sequential(
            *(parts if name == "encoder" else (network, nn.Flatten()))
        )
    fails = f"fails for shape (2, {n_in})"
    with _refused(model, name, rule, fails):
        _initialize_lazy_layers(network, n_in)
    network = network.float()
    for layer in network.modules():
        # An in-place first layer would overwrite the training rows.
        if getattr(layer, "inplace", False) is True:
            layer.inplace = False
    return network, _check_size(model, name, network, n_in, n_out)


def _initialize_lazy_layers(network, n_in):
    """Give PyTorch's lazy layers of a network their sizes, by a forward pass."""
    values = [*network.parameters(), *network.buffers()]
    if not any(map(nn.parameter.is_lazy, values)):
        return
    modes = {layer: layer.training for layer in network.modules()}
    with torch.no_grad():
        network.eval()(torch.zeros(2, n_in, device=values[0].device))
    for layer, mode in modes.items():
        layer.training = mode
    if any(map(nn.parameter.is_lazy, [*network.parameters(), *network.buffers()])):
        raise ValueError("a lazy layer has no sizes, because the network skips it")


def _check_size(model, name, network, n_in, n_out):
    """Raise unless a network maps (n, n_in) to (n, n_out) in training and scoring.

    Return whether it has parameters to train.
    """
    # Training is in single precision, scoring in double precision with the derivatives
    # of the decoder. A network that fails in scoring should fail before training.
    rule = f"a module that maps an array of shape (n, {n_in}) to one of (n, {n_out})"
    refused = partial(_refused, model, name)
    # A copy, because `eval` changes the mode of layers.
    network = copy.deepcopy(network).eval()
    parameter = next(network.parameters(), None)
    device = None if parameter is None else parameter.device
    given = torch.linspace(0, 1, 2 * n_in, device=device, dtype=torch.float32)
    given = given.view(2, n_in)
    x = given.clone()
    with refused(rule, f"fails for shape (2, {n_in})"), torch.enable_grad():
        out = network(x)
    if not isinstance(out, torch.Tensor) or tuple(out.shape) != (2, n_out):
        shape = (
            tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        )
        got = Described(f"a module whose output for 2 rows is {shape}")
        raise invalid_parameter(model, name, rule, got)
    if not torch.equal(x, given):
        changing = Described("a module that changes its input in place")
        raise invalid_parameter(model, name, f"{rule}, a new one", changing)
    has_gradient = out.requires_grad
    if out.dtype != torch.float32:
        got = Described(f"a module whose output is {out.dtype} for float32 input")
        raise invalid_parameter(model, name, rule, got)
    # A module that stores its output cannot be copied afterwards.
    with refused(rule, "cannot be copied after a forward pass"):
        network = copy.deepcopy(network).requires_grad_(False).cpu().double()
    x = x.cpu().double()
    rule += ", in double precision too, in which rows are scored"
    with refused(rule, "fails in double precision"), torch.no_grad():
        out = network(x.clone())
    if out.dtype != torch.float64:
        got = Described(f"a module whose output is {out.dtype} for float64 input")
        raise invalid_parameter(model, name, rule, got)
    other = x.clone()
    other[1] = 1 - other[1]
    with refused(rule, "fails in double precision"), torch.no_grad():
        again = network(other)
    if not torch.allclose(again[0], out[0], rtol=1e-6, atol=1e-9, equal_nan=True):
        rule = "a module whose output for a row depends, after eval(), on this row only"
        got = Described("a module with random output or one that combines rows")
        raise invalid_parameter(model, name, rule, got)
    if name == "decoder":
        rule = "a module that supports forward-mode differentiation, for scoring"
        with refused(rule, "fails in torch.func.jvp"), torch.no_grad():
            with_jacobian(network, x, torch.ones_like(x))
    return has_gradient


@contextmanager
def _refused(model, name, rule, what):
    """Turn an error of the body into an InvalidParameterError."""
    try:
        yield
    except Exception as error:
        got = Described(f"a module that {what} ({error})")
        raise invalid_parameter(model, name, rule, got) from error


class AutoencoderModule(LossModule):
    """Abstract loss of an encoder, a decoder and a likelihood, with its parameters.

    varying: mask (d,) of the features that the likelihood is of. The networks take and
    return all d features; constant features do not enter the loss.
    """

    # Whether training rows can have NaN, and whether the encoder takes the mask of
    # observed features, too.
    incomplete = encode_mask = False

    def __init__(self, encoder, decoder, likelihood, varying, **parameters):
        super().__init__()
        for name, value in parameters.items():
            setattr(self, name, value)
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        self.register_buffer("kept", None if varying.all() else varying.nonzero()[:, 0])
        self.width = int(varying.sum())

    def set_missing(self, encode_mask, values=None):
        """Set what the encoder takes for NaN: `values` (d,), or zeros for None."""
        self.encode_mask = bool(encode_mask)
        if values is not None:
            self.register_buffer("missing", torch.as_tensor(values).float())

    def inputs(self, x):
        """Return the inputs of the encoder for rows (n, d), which can have NaN."""
        if self.training and not (self.incomplete or self.encode_mask):
            return x
        missing = x.isnan()
        x = torch.where(missing, self._buffers.get("missing", x.new_zeros(())), x)
        return torch.cat([x, 1 - missing.to(x.dtype)], 1) if self.encode_mask else x

    @property
    def observed(self):
        """Return the likelihood of the observed features of training rows."""
        return Observed(self.likelihood) if self.incomplete else self.likelihood

    def rows(self, x):
        """Return the features (..., d') of rows (..., d) that vary."""
        return x if self.kept is None else x.index_select(-1, self.kept)

    def decode(self, z):
        """Return the decoder outputs (..., d') of latents for features that vary."""
        a = self.decoder(z.reshape(-1, z.shape[-1]))
        return self.rows(a).reshape(*z.shape[:-1], self.width)

    def encode(self, x):
        """Return the codes (n, k) of rows (n, d)."""
        return self.encoder(self.inputs(x))

    def reconstruct(self, x):
        """Return the codes (n, k) of training rows (n, d) and log p(x | z): (n,)."""
        x = self.observed.seen(x, self.generator)
        z = self.encoder(self.inputs(x))
        return z, self.observed.log_density(self.rows(x), self.decode(z))
