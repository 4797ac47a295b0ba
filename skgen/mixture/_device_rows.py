"""Rows as columns in blocks of one size, in the memory of a device if they fit."""

import numpy as np

from skgen._lazy import lazy_module
from skgen.mixture._device_sums import BLOCK_ROWS

torch = lazy_module("torch", "The 'device' parameter")

# Rows stay on the device if they take at most this fraction of its free memory.
# Otherwise they are sent in every pass.
_RESIDENT = 0.5

# Maximum number of elements to send at once.
_SENT = 2**24


class DeviceRows:
    """Rows (N, d, c) in blocks of c, with weights (N, c), for passes on a device.

    `read` maps a slice of the n rows to a float64 array (b, d). Copies of the last row,
    with weight 0, fill the last block.
    """

    def __init__(self, read, sample_weight, place):
        self.device, self.sample_weight = place.device, sample_weight
        self.weight = float(sample_weight.sum())
        n, self.d = sample_weight.size, read(slice(0, 1)).shape[1]
        self.c = min(BLOCK_ROWS, n)
        N = -(-n // self.c)
        dtype = torch.float32 if place.single else torch.float64
        shape = N, self.d, self.c
        if fits(place.device, np.prod(shape) * dtype.itemsize):
            self.X = torch.empty(shape, dtype=dtype, device=place.device)
        else:  # pinned, so that transfers and sums overlap
            pinned = place.device.type == "cuda"
            self.X = torch.empty(shape, dtype=dtype, pin_memory=pinned)
        self.largest = self._read(read, n, place)
        weights = np.zeros(N * self.c)
        weights[:n] = sample_weight
        self.weights = place.tensor(weights.reshape(N, self.c))

    def _read(self, read, n, place):
        """Copy the rows to `X`; return their largest magnitude."""
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
            with np.errstate(over="ignore"):  # `largest` shows an overflow
                rows = place.tensor(rows, self.X.device)
            part.copy_(rows.reshape(-1, self.c, self.d).transpose(1, 2))
        return largest

    def chunks(self, size):
        """Yield the number of the first block, rows (s, d, c) and weights (s, c)."""
        for start in range(0, self.X.shape[0], size):
            part = slice(start, start + size)
            X = self.X[part].to(self.device, non_blocking=True)
            yield start, X, self.weights[part]

    def row(self, i):
        """Return row `i` (d,) and its weight."""
        block, column = divmod(i, self.c)
        row = self.X[block, :, column].cpu().numpy().astype(np.float64)
        return row, float(self.sample_weight[i])


def fits(device, n_bytes):
    """Return whether `n_bytes` of rows stay on the device."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return n_bytes <= _RESIDENT * free
