"""Sums of weighted moments of rows, block by block.

Moments are computed by matrix products where these are accurate, and from differences
elsewhere. If most responsibilities are negligible, only the other ones are summed.
"""

import numpy as np

from skgen.mixture._covariance import Full

# Sparse moments: maximum and minimum number of rows whose non-negligible
# responsibilities are gathered at once, and maximum bytes of these responsibilities.
_GATHERED, _LEAST_GATHERED, _GATHERED_BYTES = 4096, 1024, 2**23

# Minimum number of features for sparse moments. They are used if the fraction of
# non-negligible responsibilities is below d / 128: a row takes d^2 operations for each
# such responsibility, against d^2 / 2 for every component, three times as fast, by a
# product over all components.
_LEAST_FEATURES, _FEATURES_FOR_ALL = 24, 128


class Moments:
    """Sums of weighted moments, by products or, for `apart` (K,), by differences.

    Differences are relative to `origins` (K, d). Responsibilities of at most `least`
    (K,) are negligible.
    """

    def __init__(self, origins, apart, covariance, products, least):
        self.origins, self.covariance, self.products = origins, covariance, products
        self.near, self.apart = np.flatnonzero(~apart), np.flatnonzero(apart)
        self.least = least

    def zeros(self):
        """Return zero sums for `add`: a list of arrays."""
        K, d = self.origins.shape
        sums = [np.zeros(K), np.zeros((K, d)), self.covariance.empty_scatter(K, d)]
        if self.near.size:
            sums += self.products.zeros(self.near.size, d)
        return sums

    def add(self, sums, X, F, r):
        """Add rows (b, d) with features (p, b) and weighted responsibilities (K, b)."""
        _, _, _, *products = sums
        if self.near.size:
            near = r[self.near] if self.apart.size else r
            self.products.add(products, F, near, X.shape[1])
        for k in self.apart:
            self._add_one(sums, k, X - self.origins[k], r[k])

    def add_few(self, sums, X, r, least):
        """Add rows (b, d) whose weighted responsibilities r (K, b) exceed least (K,).

        The moments of components that are not apart are about 0.
        """
        apart, room = set(self.apart.tolist()), np.empty(X.shape)
        for k, share in enumerate(r):
            held = np.flatnonzero(share > least[k])  # (h,)
            if not held.size:
                continue
            share = share[held]
            # mode="clip" avoids a buffered copy; all indices are valid.
            rows = np.take(X, held, axis=0, out=room[: held.size], mode="clip")
            if k in apart:
                rows -= self.origins[k]
            self._add_one(sums, k, rows, share)

    def _add_one(self, sums, k, difference, share):
        """Add differences (b, d) with weighted responsibilities (b,) to component k."""
        counts, first, scatter, *_ = sums
        counts[k] += share.sum()
        first[k] += share @ difference
        self.covariance.add_scatter(scatter, k, share, difference)

    def total(self, sums, shift):
        """Return counts (K,), first moments (K, d), second moments and origins (K, d).

        `shift` (d,) is the point that the features are about.
        """
        counts, first, scatter, *products = sums
        origins = self.origins.copy()
        if self.near.size:
            more = self.products.moments(products, shift.size)
            counts, first = counts.copy(), first.copy()
            counts[self.near] += more[0]
            first[self.near] += more[1]
            origins[self.near] = shift
            scatter = self.products.merged(scatter.copy(), self.near, more[2])
        return counts, first, scatter, origins


class Collector:
    """Sum the moments of `n_rows` of the rows X (n, d), with weights (n,).

    Blocks with few non-negligible responsibilities are buffered and summed sparsely.
    The `sums` are complete after `finish`.
    """

    # In many dimensions clusters hardly overlap, and most responsibilities are
    # negligible. The sum that is left out of a component is below `least` times the
    # weight of the rows.

    def __init__(self, moments, X, sample_weight, n_rows):
        self.moments, self.X, self.sample_weight = moments, X, sample_weight
        self.sums = moments.zeros()
        K, d = moments.origins.shape
        size = min(n_rows, _GATHERED, _GATHERED_BYTES // (8 * K))
        few = isinstance(moments.covariance, Full) and d >= _LEAST_FEATURES
        self._held = None
        if few and size >= _LEAST_GATHERED:
            self._held = np.empty((K, size))
        self._start = self._stop = 0

    def add(self, rows, F, r):
        """Add a slice of rows with features (p, b), weighted responsibilities (K, b).

        Slices are consecutive.
        """
        if self._wait(rows, r):
            start, stop = rows.start - self._start, rows.stop - self._start
            self._held[:, start:stop] = r
            self._stop = rows.stop
        else:
            self.moments.add(self.sums, self.X[rows], F, r)

    def finish(self):
        """Add the buffered rows; return the sums."""
        if self._start < self._stop:
            rows = slice(self._start, self._stop)
            r = self._held[:, : self._stop - self._start]
            self.moments.add_few(self.sums, self.X[rows], r, self._least(rows))
            self._start = self._stop
        return self.sums

    def _wait(self, rows, r):
        """Return whether to buffer a block; once buffering, blocks fill the buffer."""
        if self._held is None:
            return False
        if self._start < self._stop:
            if rows.stop - self._start <= self._held.shape[1]:
                return True
            self.finish()
        self._start = self._stop = rows.start
        many = np.count_nonzero(r > self._least(rows)[:, None])
        return many * _FEATURES_FOR_ALL < r.size * self.X.shape[1]

    def _least(self, rows):
        return self.moments.least * self.sample_weight[rows].mean()  # (K,)
