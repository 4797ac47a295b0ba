"""Batches of rows that lie in memory already: no loader, no workers, no collation."""

import torch

# Rows are gathered for so many bytes of batches at once, which stay in the cache, and
# then sliced.
_GATHER_BYTES = 2**19


class Batches:
    """Iterate over a tensor of rows in batches of equal size, give or take one row.

    Equal, so that no last batch of a single row weighs as much as a full one.

    Parameters
    ----------
    rows : torch.Tensor of shape (n, ...)
        The rows, on the device of the model or, where they would not fit, on the
        host.
    batch_size : int
        The most rows in a batch.
    device : torch.device
        Where batches are wanted.
    generator : torch.Generator, default=None
        Shuffles the rows anew in each pass. None keeps their order.
    """

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
        """Return the mean over all rows of what has these means over batches.

        Reading them all at once is the only wait for the device in an epoch.
        """
        means = torch.stack(means).cpu().double()
        sizes = torch.tensor(self._sizes(), dtype=torch.float64)
        return float(means @ sizes / sizes.sum())

    def _sizes(self):
        """Return the numbers of rows of all batches."""
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
        if rows.device == self.device:
            return rows
        return rows.to(self.device, non_blocking=True)


def placed(rows, device):
    """Return rows on the device, or on the host where they would crowd it out."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if rows.nbytes > free // 2:
            return rows.pin_memory()
    return rows.to(device)
