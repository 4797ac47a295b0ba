"""Random numbers of PyTorch from generators of our own, in one thread only."""

from functools import cache, partial

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten

# Operators without a generator of their own, as (function that fills a tensor, number
# of tensors and numbers before its arguments).
_ALIKE = {
    _aten.rand_like: torch.Tensor.uniform_,
    _aten.randn_like: torch.Tensor.normal_,
    _aten.randint_like: torch.Tensor.random_,
}


class OwnNoise(TorchDispatchMode):
    """Context in which random numbers come from generators with the given seed.

    It holds for the thread that entered it. The global generators, which all threads
    share, are neither read nor written. `n_drawn` counts the draws without a generator.
    """

    def __init__(self, seed):
        super().__init__()
        self._seed, self._generators, self.n_drawn = seed, {}, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if not _is_random(function) or kwargs.get("generator") is not None:
            return function(*args, **kwargs)
        self.n_drawn += 1
        tensors = (value for value in args if isinstance(value, torch.Tensor))
        first = next(tensors, None)
        device = first.device if first is not None else kwargs.get("device")
        generator = self._of(torch.device(device or "cpu"))
        packet = function.overloadpacket
        if packet is _aten.native_dropout:
            return _dropout(*args, generator=generator)
        if packet in _ALIKE:
            fill = partial(_ALIKE[packet], generator=generator)
            return fill(torch.empty_like(first, **kwargs), *args[1:])
        names = {argument.name for argument in function._schema.arguments}
        if "generator" not in names:
            name = function._overloadname.removeprefix("default")
            name = f"{name}_generator" if name else "generator"
            if name not in packet.overloads():  # no operator takes a generator
                return function(*args, **kwargs)
            function = getattr(packet, name)
        return function(*args, **{**kwargs, "generator": generator})

    def _of(self, device):
        """Return the generator of a device."""
        if device.type == "meta":
            return None
        if device not in self._generators:
            made = torch.Generator(device).manual_seed(self._seed)
            self._generators[device] = made
        return self._generators[device]


@cache
def _is_random(function):
    return torch.Tag.nondeterministic_seeded in function.tags


def _dropout(x, p, train, *, generator):
    """Return `x`, of which a fraction `p` becomes 0, and the mask of the rest."""
    kept = torch.ones_like(x, dtype=torch.bool)
    if train or train is None:
        kept = kept.bernoulli_(1 - p, generator=generator)
        x = x * kept * (0.0 if p == 1 else 1 / (1 - p))
    return x, kept
