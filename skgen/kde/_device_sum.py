"""Exact kernel sums on a GPU by PyTorch, over all pairs in large blocks."""

import numpy as np

from skgen._lazy import lazy_module
from skgen._torch import resolved_device
from skgen.kde._kernel_sum import fill_in

torch = lazy_module("torch", "The 'device' parameter")

# Points and queries in a block of pairs. A GPU is idle between blocks, so they are
# large.
_POINTS, _QUERIES = 2**14, 2**12


class DeviceSum:
    """The sums of a `KernelSum` on a device, with errors of up to `error` nats."""

    # Exponents come from matrix products about one centre. Queries with a larger
    # rounding error are left to `exact`, as is everything if the device is missing or
    # has no float64. float32 is used for float32 rows where its error is small enough.

    def __init__(self, exact, device, error):
        self.exact, self.device, self.error = exact, device, error
        lower = exact.points.min(axis=0).astype(np.float64)
        upper = exact.points.max(axis=0).astype(np.float64)
        self.centre = lower + 0.5 * (upper - lower)  # (d,)
        p = self._coordinates(exact.points)
        self.radius = np.einsum("ij,ij->i", p, p).max()  # squared

    def __call__(self, queries, *, with_mean=False, floor=None, memory=2**27):
        """Return log-sums (m,) and means (m, d) or None, as `KernelSum` does."""
        m = queries.shape[0]
        log_sum = np.empty(m)
        mean = np.empty(queries.shape) if with_mean else None
        q = self._coordinates(queries)
        magnitude = np.einsum("ij,ij->i", q, q) + self.radius  # (m,)
        left = np.ones(m, dtype=bool)
        device = self._device()
        if device is not None:
            for dtype in self._dtypes():
                keeps = magnitude * np.finfo(dtype).eps < self.error
                rows = np.flatnonzero(left & keeps)
                left[rows] = False
                for start in range(0, rows.size, _QUERIES):
                    block = rows[start : start + _QUERIES]
                    log_sum[block], of_block = self._stream(q[block], device, dtype)
                    if with_mean:
                        mean[block] = self.centre + of_block * self.exact.scale
        fill_in(self.exact, left, queries, log_sum, mean, floor, memory)
        return log_sum, mean

    def _coordinates(self, rows):
        """Return (n, d) rows relative to the centre, in bandwidths."""
        return (rows - self.centre) / self.exact.scale

    def _device(self):
        """Return the device; None if it is missing or has no float64."""
        device = resolved_device(self.device)
        if device.type == "cuda" and torch.cuda.is_available():
            return device
        return None

    def _dtypes(self):
        """Return the dtypes to compute in, the fastest first."""
        full = torch.get_float32_matmul_precision() == "highest"
        if self.exact.points.dtype == np.float32 and full:
            return np.float32, np.float64
        return (np.float64,)

    def _stream(self, q, device, dtype):
        """Return the log-sums (m,) and the means (m, d) of (m, d) queries."""
        # Sums are accumulated relative to a running maximum.
        d = q.shape[1]
        q = torch.as_tensor(q, device=device)
        squares = (q**2).sum(dim=1)
        ones = torch.ones_like(squares)
        augmented = torch.cat([q, ones[:, None], -0.5 * squares[:, None]], dim=1)
        dtype = torch.float32 if dtype == np.float32 else torch.float64
        augmented = augmented.to(dtype)  # (m, d + 2): q, 1, -|q|^2 / 2
        top = torch.full_like(squares, -torch.inf)
        total, average = torch.zeros_like(squares), torch.zeros_like(q)
        for start in range(0, self.exact.points.shape[0], _POINTS):
            columns = slice(start, start + _POINTS)
            p = self._coordinates(self.exact.points[columns])  # (n, d)
            offsets = self.exact.log_weights[columns] - 0.5 * (p**2).sum(axis=1)
            block = np.column_stack([p, offsets, np.ones(p.shape[0])])
            block = torch.as_tensor(block, device=device).to(dtype)
            a = augmented @ block.T  # (m, n)
            new_top = torch.maximum(top, a.amax(dim=1).to(top.dtype))
            a = (a - new_top[:, None].to(dtype)).exp_()
            shrink = (top - new_top).exp()  # (m,)
            total = total * shrink + a.sum(dim=1, dtype=torch.float64)
            average = average * shrink[:, None] + a @ block[:, :d]
            top = new_top
        log_sum = top + total.log()
        return log_sum.cpu().numpy(), (average / total[:, None]).cpu().numpy()
