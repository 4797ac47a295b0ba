"""Batches of rows that are already in memory: no loader, no workers, no collation."""

from itertools import chain

import torch

# Bytes of batches that are gathered at once and then sliced; they stay in the cache.
_GATHER_BYTES = 2**19


class Batches:
    """Batches of a tensor of rows, whose sizes differ by at most one row.

    A `generator` shuffles the rows anew in each pass; None keeps their order. The rows
    (n, ...) may be on the host where `device`, which trains, has no room for them, or a
    `Stream`, whose pools are taken one after another.
    """

    # Equal sizes: a last batch of a single row would weigh as much as a full batch.
    def __init__(self, rows, batch_size, device, generator=None):
        self.rows = rows
        self.device = device
        self.generator = generator
        pools = getattr(rows, "pool_sizes", rows.shape[:1])
        self._sizes = [equal_sizes(n, -(-n // batch_size)) for n in pools]

    def __len__(self):
        return sum(map(len, self._sizes))

    def mean(self, means):
        """Return the mean over all rows, given the means over batches."""
        # One transfer for all batches: the only synchronisation in an epoch.
        means = torch.stack(means).cpu().double()
        sizes = torch.tensor(list(chain(*self._sizes)), dtype=torch.float64)
        return float(means @ sizes / sizes.sum())

    def __iter__(self):
        pools = [self.rows]
        if not isinstance(self.rows, torch.Tensor):
            pools = self.rows.pools(self.generator)
        for pool, sizes in zip(pools, self._sizes, strict=True):
            yield from self._of_pool(pool, sizes)

    def _of_pool(self, pool, sizes):
        """Yield the batches of a pool (n, ...), of the given sizes."""
        if self.generator is None:
            for batch in torch.split(pool, sizes):
                yield self._moved(batch)
            return
        order = torch.randperm(pool.shape[0], generator=self.generator)
        order = order.to(pool.device)
        bytes_per_batch = max(1, sizes[0] * pool[0].nbytes)
        together = max(1, _GATHER_BYTES // bytes_per_batch)  # batches
        start = 0
        for first in range(0, len(sizes), together):
            group = sizes[first : first + together]
            rows = pool.index_select(0, order[start : start + sum(group)])
            start += sum(group)
            yield from torch.split(self._moved(rows), group)

    def _moved(self, rows):
        """Return rows on the device."""
        if rows.device == self.device:
            return rows
        return rows.to(self.device, non_blocking=True)


def equal_sizes(n, n_parts):
    """Return the sizes of parts of n rows, the larger ones first."""
    size, more = divmod(n, n_parts)
    return [size + 1] * more + [size] * (n_parts - more)


def placed(rows, device):
    """Return rows on the device, or pinned on the host where they take half of it."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if rows.nbytes > free // 2:
            return rows.pin_memory()
    return rows.to(device)
