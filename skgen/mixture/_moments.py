"""Sums of weighted moments of rows, block by block.

By products where these lose no digits, by differences elsewhere; and where nearly all
shares are next to nothing, of the few rows that a component does hold.
"""

import numpy as np

from skgen.mixture._covariance import Full

# Rows of which a component's few are gathered at once, the least of them that are worth
# the calls, and the most bytes of their shares.
_GATHERED, _LEAST_GATHERED, _GATHERED_BYTES = 4096, 1024, 2**23

# With so many features, shares are few if they are fewer than one in 128 for each
# feature: the moments of a row take d^2 operations for each of its components, or half
# of that at three times the pace by a product over all components.
_LEAST_FEATURES, _FEATURES_FOR_ALL = 24, 128


class Moments:
    """Sums of weighted moments of rows, by products or by differences.

    Parameters
    ----------
    origins : ndarray of shape (K, d)
        What the moments by differences are about. Near the new means, they keep the
        moments free of cancellation.
    apart : ndarray of shape (K,)
        Whether the moments are taken by differences.
    covariance : AbstractCovariance
        The shape of the second moments.
    products : AbstractProducts or None
        None if all components are apart.
    least : ndarray of shape (K,)
        Shares of a row, in each component, that need not count.
    """

    def __init__(self, origins, apart, covariance, products, least):
        self.origins, self.covariance, self.products = origins, covariance, products
        self.near, self.apart = np.flatnonzero(~apart), np.flatnonzero(apart)
        self.least = least

    def zeros(self):
        """Return sums of no rows, for `add` to add to: a list of arrays."""
        K, d = self.origins.shape
        sums = [np.zeros(K), np.zeros((K, d)), self.covariance.empty_scatter(K, d)]
        if self.near.size:
            sums += self.products.zeros(self.near.size, d)
        return sums

    def add(self, sums, X, F, r):
        """Add rows (b, d) of features F (p, b) and weighted shares r (K, b)."""
        _, _, _, *products = sums
        if self.near.size:
            near = r[self.near] if self.apart.size else r
            self.products.add(products, F, near, X.shape[1])
        for k in self.apart:
            self._add_one(sums, k, X - self.origins[k], r[k])

    def add_few(self, sums, X, r, least):
        """Add rows (b, d) whose weighted shares r (K, b) mostly are below least (K,).

        Of components that are not apart the moments are about 0.
        """
        apart, room = set(self.apart.tolist()), np.empty(X.shape)
        for k, share in enumerate(r):
            held = np.flatnonzero(share > least[k])  # (h,)
            if not held.size:
                continue
            share = share[held]
            # Clipping, which nothing needs, spares a copy.
            rows = np.take(X, held, axis=0, out=room[: held.size], mode="clip")
            if k in apart:
                rows -= self.origins[k]
            self._add_one(sums, k, rows, share)

    def _add_one(self, sums, k, difference, share):
        """Add differences (b, d) of rows from a point, of shares (b,) in `k`."""
        counts, first, scatter, *_ = sums
        counts[k] += share.sum()
        first[k] += share @ difference
        self.covariance.add_scatter(scatter, k, share, difference)

    def total(self, sums, shift):
        """Return counts, first, scatter and origins from the sums of all rows.

        `shift` (d,) is what the features were about.
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
    """Add blocks of rows to sums: at once, or a few thousand rows of few shares later.

    Shares are few in many dimensions, where clusters hardly overlap. What is left out
    of a component is below `least` of its rows before the pass.

    Parameters
    ----------
    moments : Moments
        What to sum.
    X : ndarray of shape (n, d)
        The rows.
    sample_weight : ndarray of shape (n,)
        Their weights.
    n_rows : int
        How many of them this is about.

    Attributes
    ----------
    sums : list of ndarray
        Complete after `finish`.
    """

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
        """Add a slice of rows, of features F (p, b) and weighted shares r (K, b).

        Slices follow each other.
        """
        if self._wait(rows, r):
            start, stop = rows.start - self._start, rows.stop - self._start
            self._held[:, start:stop] = r
            self._stop = rows.stop
        else:
            self.moments.add(self.sums, self.X[rows], F, r)

    def finish(self):
        """Add what was held back; return the sums."""
        if self._start < self._stop:
            rows = slice(self._start, self._stop)
            r = self._held[:, : self._stop - self._start]
            self.moments.add_few(self.sums, self.X[rows], r, self._least(rows))
            self._start = self._stop
        return self.sums

    def _wait(self, rows, r):
        """Tell whether to hold a block back, as all are that follow such a one."""
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
