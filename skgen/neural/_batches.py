"""Batches of rows that are already in memory: no loader, no workers, no collation."""

import torch

# Bytes of batches that are gathered at once and then sliced; they stay in the cache.
_GATHER_BYTES = 2**19


class Batches:
    """Batches of a tensor of rows, whose sizes differ by at most one row.

    A `generator` shuffles the rows anew in each pass; None keeps their order. The rows
    (n, ...) may be on the host where `device`, which trains, has no room for them.
    """

    # Equal sizes: a last batch of a single row would weigh as much as a full batch.
    def __init__(self, rows, batch_size, device, generator=None):
        self.rows = rows
        self.device = device
        self.generator = generator
        n = rows.shape[0]
        self.n_batches = -(-n // batch_size)
        largest = -(-n // self.n_batches)
        self.n_large = n - (largest - 1) * self.n_batches
        self.largest = largest

    def __len__(self):
        return self.n_batches

    def mean(self, means):
        """Return the mean over all rows, given the means over batches."""
        # One transfer for all batches: the only synchronisation in an epoch.
        means = torch.stack(means).cpu().double()
        sizes = torch.tensor(self._sizes(), dtype=torch.float64)
        return float(means @ sizes / sizes.sum())

    def _sizes(self):
        """Return the number of rows in each batch, a list."""
        small = self.n_batches - self.n_large
        return [self.largest] * self.n_large + [self.largest - 1] * small

    def __iter__(self):
        sizes = self._sizes()
        if self.generator is None:
            for batch in torch.split(self.rows, sizes):
                yield self._moved(batch)
            return
        order = torch.randperm(self.rows.shape[0], generator=self.generator)
        order = order.to(self.rows.device)
        bytes_per_batch = max(1, self.largest * self.rows[0].nbytes)
        together = max(1, _GATHER_BYTES // bytes_per_batch)  # batches
        start = 0
        for first in range(0, len(sizes), together):
            group = sizes[first : first + together]
            rows = self.rows.index_select(0, order[start : start + sum(group)])
            start += sum(group)
            yield from torch.split(self._moved(rows), group)

    def _moved(self, rows):
        """Return rows on the device."""
        if rows.device == self.device:
            return rows
        return rows.to(self.device, non_blocking=True)


def placed(rows, device):
    """Return rows on the device, or pinned on the host where they take half of it."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if rows.nbytes > free // 2:
            return rows.pin_memory()
    return rows.to(device)
