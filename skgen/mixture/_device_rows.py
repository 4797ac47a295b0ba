"""Rows as columns in blocks of one size, on a device where they fit."""

import numpy as np

from skgen.mixture._device_sums import BLOCK_ROWS

# Rows take at most this share of the free memory; the others are sent in each pass.
_RESIDENT = 0.5

# Numbers that are sent at once.
_SENT = 2**24


class DeviceRows:
    """Rows and their weights, for passes of a device.

    Parameters
    ----------
    read : callable
        Maps a slice of rows to (b, d) float64.
    sample_weight : ndarray of shape (n,)
        How many times each row counts.
    place : Place
        Where, and in what arithmetic.

    Attributes
    ----------
    X : tensor of shape (N, d, c)
        Blocks of `c` rows; copies of the last row fill the last block.
    weights : tensor of shape (N, c)
        Their weights, 0 for the copies.
    weight : float
        The sum of all weights.
    largest : float
        The largest magnitude of a number in the rows.
    """

    def __init__(self, read, sample_weight, place):
        import torch

        self.device, self.sample_weight = place.device, sample_weight
        self.weight = float(sample_weight.sum())
        n, self.d = sample_weight.size, read(slice(0, 1)).shape[1]
        self.c = min(BLOCK_ROWS, n)
        N = -(-n // self.c)
        dtype = torch.float32 if place.single else torch.float64
        shape = N, self.d, self.c
        if fits(place.device, np.prod(shape) * dtype.itemsize):
            self.X = torch.empty(shape, dtype=dtype, device=place.device)
        else:  # pinned, so that chunks are sent while others are summed
            pinned = place.device.type == "cuda"
            self.X = torch.empty(shape, dtype=dtype, pin_memory=pinned)
        self.largest = self._read(read, n, place)
        weights = np.zeros(N * self.c)
        weights[:n] = sample_weight
        self.weights = place.tensor(weights.reshape(N, self.c))

    def _read(self, read, n, place):
        """Send the rows; return the largest magnitude."""
        per_part = max(1, _SENT // (self.d * self.c))  # blocks
        largest = 0.0
        for first in range(0, self.X.shape[0], per_part):
            part = self.X[first : first + per_part]
            start = first * self.c
            rows = read(slice(start, min(start + part.shape[0] * self.c, n)))
            largest = max(largest, rows.max(), -rows.min())
            missing = part.shape[0] * self.c - rows.shape[0]
            if missing:
                rows = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])
            with np.errstate(over="ignore"):  # too large for float32: seen by `largest`
                rows = place.tensor(rows, self.X.device)
            part.copy_(rows.reshape(-1, self.c, self.d).transpose(1, 2))
        return largest

    def chunks(self, size):
        """Yield the first block, rows (s, d, c) and weights of chunks of blocks."""
        for start in range(0, self.X.shape[0], size):
            part = slice(start, start + size)
            X = self.X[part].to(self.device, non_blocking=True)
            yield start, X, self.weights[part]

    def row(self, i):
        """Return a row (d,), and its weight."""
        block, column = divmod(i, self.c)
        row = self.X[block, :, column].cpu().numpy().astype(np.float64)
        return row, float(self.sample_weight[i])


def fits(device, n_bytes):
    """Tell whether so many bytes of rows stay on the device."""
    import torch

    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return n_bytes <= _RESIDENT * free
