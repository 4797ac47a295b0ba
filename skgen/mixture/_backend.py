"""NumPy in threads, or PyTorch on a device: the only file of EM that has both.

Rows are columns in blocks: a chunk of rows has the shape (s, d, c), its features (s, p,
c) and its responsibilities (s, K, c). NumPy takes s = 1. Sums are float64.
"""

import contextlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from skgen._lazy import is_installed, lazy_module
from skgen._threads import in_parallel
from skgen._torch import resolved_device, usable_device, without_tf32

torch = lazy_module("torch", "The 'device' parameter")

# Default rounding error allowed for log-densities by matrix products, as a multiple of
# the machine epsilon of float64. It is about 1e-12 of a log-density.
LEAST_LOSS = 1e4

# NumPy: bytes of features and responsibilities of a chunk, to stay in the cache, and
# its minimum and maximum number of rows. Smaller chunks slow the matrix products down,
# larger ones gain nothing.
_BLOCK_BYTES, _LEAST_ROWS, _MOST_ROWS = 2**21, 256, 4096

# NumPy: maximum number of tasks for threads, and minimum number of rows in a task,
# which needs enough rows to gather the few that belong to a component (`_pass`).
_TASKS, _LEAST_TASK = 32, 1024

# NumPy: minimum work, rows times components times features, for which threads start.
_WORK_FOR_THREADS = 2e7

# Devices: number of rows in a block, over which one matrix product sums, and bytes of
# features, responsibilities and differences in a chunk.
BLOCK_ROWS, _CHUNK_BYTES = 2**11, 2**29

# Rows stay on a device if they take at most this fraction of its free memory. Otherwise
# they are sent in every pass.
_RESIDENT = 0.5

# Maximum number of elements to send at once.
_SENT = 2**24


@dataclass(frozen=True)
class Limits:
    """The limits of EM for one floating-point type."""

    # Maximum squared distance of a mean from the origin of its moments, in variances of
    # the component. Farther means leave too few digits after cancellation.
    far: float
    # Allowed rounding error of products, as a multiple of machine epsilon, if float64
    # allows `LEAST_LOSS`; and its growth as a power of the error allowed to float64.
    least: float
    growth: float
    # A relative decrease of the likelihood below this is rounding.
    rounding: float

    def allowed(self, loss):
        """Return the allowed rounding error if float64 allows `loss`."""
        return self.least * (loss / LEAST_LOSS) ** self.growth


DOUBLE = Limits(far=1e6, least=LEAST_LOSS, growth=1, rounding=1e-10)

# The rounding unit is 6e-8. Errors are at most 6e-5 of a covariance, 6e-5 of the
# log-density of a row (6e-4 while the likelihood increases by 2e-5 or more), and 1e-6
# of the mean log-density (docs/development.md).
SINGLE = Limits(far=1e3, least=1e3, growth=1 / 3, rounding=1e-6)


class AbstractBackend(ABC):
    """Arrays of chunks and what differs between NumPy and PyTorch; picklable."""

    limits = DOUBLE
    single = False  # whether rows are float32

    @property
    @abstractmethod
    def math(self):
        """The module of functions that both have: `exp`, `log`, `amax`, ..."""

    @abstractmethod
    def hold(self, read, sample_weight):
        """Return rows for passes; `read` maps a slice to float64 rows (b, d)."""

    @abstractmethod
    def array(self, array):
        """Return a NumPy array as an array of the type of the rows."""

    @abstractmethod
    def index(self, array):
        """Return a NumPy array of integers as an index."""

    @abstractmethod
    def zeros(self, shape):
        """Return float64 zeros for sums."""

    @abstractmethod
    def fetch(self, arrays):
        """Return sums and scalars as NumPy arrays, in one synchronisation."""

    @abstractmethod
    def rows(self, array):
        """Return an array (s, c, ...) as a NumPy array (s c, ...)."""

    @abstractmethod
    def empty(self, like, shape):
        """Return an uninitialised array of the type of `like`."""

    @abstractmethod
    def room(self, z, p, *, by_rows):
        """Return an uninitialised array for the features of a chunk: (s, p, c)."""

    @abstractmethod
    def product(self, matrix, chunk):
        """Return a matrix (m, p) times every block of (s, p, c): (s, m, c)."""

    @abstractmethod
    def inner(self, a, b):
        """Return the sum over rows of products of (s, p, c) and (s, m, c): (p, m)."""

    @abstractmethod
    def total(self, array, axes):
        """Return the float64 sum over a tuple of axes."""

    @abstractmethod
    def second_moment(self, difference, r):
        """Return the sum of outer products (d, d) with weights r (s, c)."""

    @abstractmethod
    def add_squares(self, y, out):
        """Compute the sum of squares of (s, d, c) over d, in `out` (s, c)."""

    @abstractmethod
    def pairs(self, z, out):
        """Compute the products of two coordinates (s, d (d + 1) / 2, c), in `out`."""

    @abstractmethod
    def pair_index(self, d):
        """Return the two coordinates of each product: two arrays."""

    @abstractmethod
    def dot(self, a, b):
        """Return the float64 sum of products of two arrays (s, 1, c)."""

    @abstractmethod
    def lowest(self, log_density, w):
        """Return the lowest log-density of a chunk (s, 1, c) and its position."""

    @abstractmethod
    def joined(self, values):
        """Return a list of values of `lowest` as an array."""

    def rounded(self, array):
        """Return an array, rounded to the type of the rows, in float64."""
        dtype = np.float32 if self.single else np.float64
        return np.asarray(array, dtype=dtype).astype(np.float64)

    def arithmetic(self):
        """Return a context for a pass."""
        return contextlib.nullcontext()


# -- NumPy -----------------------------------------------------------------------------


@dataclass(frozen=True)
class NumPyBackend(AbstractBackend):
    """float64 by NumPy: chunks of one block, distributed over threads."""

    @property
    def math(self):
        return np

    def hold(self, read, sample_weight):
        return NumPyRows(read(slice(None)), sample_weight)

    def array(self, array):
        return array

    def index(self, array):
        return array

    def zeros(self, shape):
        return np.zeros(shape)

    def fetch(self, arrays):
        return arrays

    def rows(self, array):
        return array[0]

    def empty(self, like, shape):
        return np.empty(shape)

    def room(self, z, p, *, by_rows):
        s, _, c = z.shape
        if by_rows:  # the memory layout of the rows: no transposition is needed
            return np.empty((s, c, p)).swapaxes(1, 2)
        return np.empty((s, p, c))

    def product(self, matrix, chunk):
        return (matrix @ chunk[0])[None]

    def inner(self, a, b):
        (a,), (b,) = a, b
        # OpenBLAS takes 1.5 times as long with a transposed view.
        return a @ (np.ascontiguousarray(b.T) if a.flags.c_contiguous else b.T)

    def total(self, array, axes):
        return array.sum(axis=axes)

    def second_moment(self, difference, r):
        weighted = difference[0] * np.sqrt(r)  # (d, c)
        return weighted @ weighted.T  # BLAS computes one triangle

    def add_squares(self, y, out):
        np.einsum("sdc,sdc->sc", y, y, out=out)

    def pairs(self, z, out):
        # Two calls for any d: with more, threads would wait for the interpreter lock.
        # All products are one array times overlapping windows of another.
        (z,), (out,) = z, out
        d = len(z)
        rotated = np.concatenate([z, z[: (d - 1) // 2]])  # by s from row s on
        windows = sliding_window_view(rotated, d, axis=0).swapaxes(1, 2)  # (s, d, c)
        filled = windows.shape[0] * d
        np.multiply(z, windows, out=out[:filled].reshape(windows.shape))
        if d % 2 == 0:  # the rotation by d / 2 contains each pair twice
            np.multiply(z[: d // 2], z[d // 2 :], out=out[filled:])

    def pair_index(self, d):
        return _rotated_pairs(d)

    def dot(self, a, b):
        return a[0, 0] @ b[0, 0]

    def lowest(self, log_density, w):
        position = log_density.argmin()
        return log_density[0, 0, position], position

    def joined(self, values):
        return np.array(values)


@cache
def _rotated_pairs(d):
    turn, i = np.divmod(np.arange(d * (d + 1) // 2), d)
    return i, (i + turn) % d


NUMPY = NumPyBackend()


class NumPyRows:
    """Rows (n, d) in memory with weights (n,), in the same chunks for any threads."""

    def __init__(self, X, sample_weight):
        self.X, self.sample_weight = X, sample_weight

    def map(self, function, p, K):
        """Return what `function` returns for the chunks of each task: a list.

        A chunk is the number of its first row, rows (1, d, c) and weights (1, 1, c).
        """
        n, d = self.X.shape
        size = self.chunk_size(p, K)
        chunks = -(-n // size)
        length = size * max(-(-chunks // _TASKS), -(-_LEAST_TASK // size))
        tasks = [range(t, min(t + length, n), size) for t in range(0, n, length)]
        worth_it = n * K * (max(p, d * d) + 32) > _WORK_FOR_THREADS

        def run(task):
            return function(self._chunks(task, size))

        return in_parallel(run, tasks, worth_it=worth_it)

    def chunk_size(self, p, K):
        """Return the number of rows in a chunk for `p` features and K components."""
        n, d = self.X.shape
        size = max(_LEAST_ROWS, _BLOCK_BYTES // (8 * (p + 2 * (K + d))))
        return min(size, _MOST_ROWS, n)

    def _chunks(self, task, size):
        for start in task:
            rows = slice(start, min(start + size, task.stop))
            yield start, self.X[rows].T[None], self.sample_weight[None, None, rows]

    def row(self, i):
        """Return row `i` (d,) and its weight."""
        return self.X[i].copy(), self.sample_weight[i]  # a view would keep all of X


# -- PyTorch ---------------------------------------------------------------------------


@dataclass(frozen=True)
class TorchBackend(AbstractBackend):
    """PyTorch on a device: large chunks, and one synchronisation per pass."""

    device: object  # torch.device
    single: bool

    @property
    def limits(self):
        return SINGLE if self.single else DOUBLE

    @property
    def math(self):
        return torch

    @property
    def _adds_on_cpu(self):
        return self.device.type == "mps"  # which has no float64

    @property
    def dtype(self):
        """The floating-point type of the rows."""
        return torch.float32 if self.single else torch.float64

    def hold(self, read, sample_weight):
        return TorchRows(read, sample_weight, self)

    def array(self, array):
        array = np.ascontiguousarray(array, np.float32 if self.single else np.float64)
        return torch.as_tensor(array, device=self.device)

    def index(self, array):
        return torch.as_tensor(array, device=self.device)

    def zeros(self, shape):
        device = "cpu" if self._adds_on_cpu else self.device
        return torch.zeros(shape, dtype=torch.float64, device=device)

    def fetch(self, arrays):
        device = arrays[0].device  # of the sums
        parts = [array.flatten().to(device).to(torch.float64) for array in arrays]
        ends = np.cumsum([part.numel() for part in parts])[:-1]
        values = np.split(torch.cat(parts).cpu().numpy(), ends)
        return [v.reshape(a.shape) for v, a in zip(values, arrays, strict=True)]

    def rows(self, array):
        return array.flatten(0, 1).cpu().numpy()

    def empty(self, like, shape):
        return like.new_empty(shape)

    def room(self, z, p, *, by_rows):
        return z.new_empty(z.shape[0], p, z.shape[2])

    def product(self, matrix, chunk):
        return torch.bmm(matrix.expand(chunk.shape[0], -1, -1), chunk)

    def inner(self, a, b):
        # One product per block: rounding errors grow with c rather than the number of
        # rows, and the blocks occupy a GPU that one small product would not.
        return self.total(torch.bmm(a, b.transpose(1, 2)), (0,))

    def total(self, array, axes):
        if self._adds_on_cpu:
            if array.ndim - 1 in axes:  # the rows of a block
                array = array.sum(dim=-1, keepdim=True)
            array = array.cpu()
        return array.sum(dim=axes, dtype=torch.float64)

    def second_moment(self, difference, r):
        return self.inner(difference * r[:, None], difference)

    def add_squares(self, y, out):
        torch.sum(y.square(), dim=1, out=out)

    def pairs(self, z, out):
        # By rows of the upper triangle. With all squares first, the other products
        # would cancel most of their sum, which costs a digit of float32.
        d, start = z.shape[1], 0
        for i in range(d):
            torch.mul(z[:, i, None], z[:, i:], out=out[:, start : start + d - i])
            start += d - i

    def pair_index(self, d):
        return np.triu_indices(d)

    def dot(self, a, b):
        return self.total(a * b, (0, 1, 2))

    def lowest(self, log_density, w):
        values = log_density.masked_fill(w == 0, torch.inf)  # padding
        lowest = values.flatten().min(dim=0)
        return lowest.values, lowest.indices

    def joined(self, values):
        return torch.stack(values)

    def arithmetic(self):
        """Return a context that disables TF32, which has three digits."""
        cuda = self.single and self.device.type == "cuda"
        return without_tf32() if cuda else contextlib.nullcontext()


class TorchRows:
    """Rows (N, d, c) in blocks of c, with weights (N, 1, c), for passes on a device.

    Copies of the last row, with weight 0, fill the last block.
    """

    def __init__(self, read, sample_weight, backend):
        self.device, self.sample_weight = backend.device, sample_weight
        n, self.d = sample_weight.size, read(slice(0, 1)).shape[1]
        self.c = min(BLOCK_ROWS, n)
        shape = -(-n // self.c), self.d, self.c
        if fits(backend.device, np.prod(shape) * backend.dtype.itemsize):
            self.X = torch.empty(shape, dtype=backend.dtype, device=backend.device)
        else:  # pinned, so that transfers and sums overlap
            pinned = backend.device.type == "cuda"
            self.X = torch.empty(shape, dtype=backend.dtype, pin_memory=pinned)
        self._read(read, n, backend)
        weights = np.zeros(shape[0] * self.c)
        weights[:n] = sample_weight
        self.weights = backend.array(weights.reshape(-1, 1, self.c))

    def _read(self, read, n, backend):
        """Copy the rows to `X`, in the type of the rows."""
        per_part = max(1, _SENT // (self.d * self.c))  # blocks
        for first in range(0, self.X.shape[0], per_part):
            part = self.X[first : first + per_part]
            start = first * self.c
            rows = read(slice(start, min(start + part.shape[0] * self.c, n)))
            missing = part.shape[0] * self.c - rows.shape[0]
            if missing:
                rows = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])
            rows = torch.as_tensor(rows, dtype=backend.dtype).to(self.X.device)
            part.copy_(rows.reshape(-1, self.c, self.d).transpose(1, 2))

    def map(self, function, p, K):
        """Return what `function` returns for all chunks, in a list."""
        width = p + 3 * (K + self.d)
        size = max(1, _CHUNK_BYTES // (self.X.itemsize * self.c * width))  # blocks
        return [function(self._chunks(size))]

    def _chunks(self, size):
        for start in range(0, self.X.shape[0], size):
            part = slice(start, start + size)
            X = self.X[part].to(self.device, non_blocking=True)
            yield start * self.c, X, self.weights[part]

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


def backend_of(name, dtype):
    """Return the backend for a device and rows of a type; NumPy without the device."""
    device = None if name == "cpu" else device_of(name)  # the CPU needs no PyTorch
    if device is None:
        return NUMPY
    return TorchBackend(device, dtype == np.float32 or device.type == "mps")


def device_of(name):
    """Return the device of a name, or None for the CPU and unavailable devices."""
    if not is_installed("torch"):
        return None
    device = resolved_device(usable_device(name))
    return None if device.type == "cpu" else device
