"""U-Net of noisy images: convolutions at a half, a quarter, ... of their size."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

# Number of channels that are normalised together.
_GROUP = 8

# Numbers of blocks: at each size on the way down, at the smallest size, and at each
# size on the way up.
_BLOCKS_DOWN, _BLOCKS_BELOW, _BLOCKS_UP = 1, 2, 2


class UNet(nn.Module):
    """Network of images (n, c, h, w) and of changes at their times; zero at the start.

    Pixels of 2 x 2 squares become channels before the first convolution. There are as
    many sizes as numbers of `channels`, and each is half of the size before.
    """

    def __init__(self, shape, channels, dropout):
        super().__init__()
        self.shape, self.dropout = shape, dropout
        n_values = 4 * shape[0]
        self.entry = conv(n_values, channels[0])
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.widen = nn.ModuleList(), nn.ModuleList()
        for n, n_below in pairwise(channels):
            self.down.append(blocks(_BLOCKS_DOWN, n))
            self.shrink.append(conv(n, n_below, stride=2))
            self.widen.append(conv(n_below, 4 * n, size=1))
            self.up.append(blocks(_BLOCKS_UP, n))
        self.below = blocks(_BLOCKS_BELOW, channels[-1])
        self.norm = norm(channels[0])
        self.exit = zero(conv(channels[0], n_values))

    def sizes(self):
        """Return the numbers of channels that the time changes, in order."""
        order = [*self.down, self.below, *reversed(self.up)]
        return [block.second.in_channels for part in order for block in part]

    def forward(self, x, changes, generator=None):
        """Return images (n, c, h, w) for images (n, c, h, w).

        changes: factors and shifts (n or 1, h, 1, 1) for each block, pairs.
        """
        _, height, width = self.shape
        multiple = 2 ** (1 + len(self.down))
        x = functional.pad(x, (0, -width % multiple, 0, -height % multiple))
        changes = iter(changes)
        dropout = self.dropout if self.training else 0.0

        def through(x, part):
            for block in part:
                x = block(x, *next(changes), dropout, generator)
            return x

        x, passed = self.entry(functional.pixel_unshuffle(x, 2)), []
        for part, shrink in zip(self.down, self.shrink, strict=True):
            x = through(x, part)
            passed.append(x)
            x = shrink(x)
        x = through(x, self.below)
        for part, widen in zip(reversed(self.up), reversed(self.widen), strict=True):
            x = through(passed.pop() + functional.pixel_shuffle(widen(x), 2), part)
        x = self.exit(functional.silu(self.norm(x)))
        return functional.pixel_shuffle(x, 2)[:, :, :height, :width]


class Block(nn.Module):
    """Two convolutions that are added to their input, zero at the start."""

    def __init__(self, n):
        super().__init__()
        self.before, self.between = norm(n), norm(n)
        self.first, self.second = conv(n, n), zero(conv(n, n))

    def forward(self, x, factor, shift, dropout, generator):
        h = self.first(functional.silu(self.before(x)))
        h = functional.silu(torch.addcmul(shift, self.between(h), factor))
        if dropout:
            kept = h.new_empty(*h.shape[:2], 1, 1)
            kept.bernoulli_(1 - dropout, generator=generator)
            h = h * (kept / (1 - dropout))
        return x + self.second(h)


def blocks(number, n):
    """Return blocks of n channels."""
    return nn.ModuleList(Block(n) for _ in range(number))


def conv(n_in, n_out, size=3, stride=1):
    """Return a convolution; its type is given, whatever the default is."""
    options = {"stride": stride, "padding": size // 2, "dtype": torch.float32}
    return nn.Conv2d(n_in, n_out, size, **options)


def norm(n):
    """Return the normalisation of groups of n channels of each image."""
    n_groups = max(k for k in range(1, 1 + max(1, n // _GROUP)) if n % k == 0)
    return nn.GroupNorm(n_groups, n, dtype=torch.float32)


def zero(layer):
    """Return a layer whose weights are zero."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
