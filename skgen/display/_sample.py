"""Draws as a page of images, or rows above their reconstructions."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from skgen._checks import Described, check_seed, is_integer, wrong_argument
from skgen._lazy import lazy_module
from skgen._typing import FloatArray, MatrixLike, RandomState
from skgen.display._arguments import (
    check_columns,
    check_estimator,
    check_matplotlib,
    check_whole,
    drawn,
    numbers,
)

matplotlib = lazy_module("matplotlib", "SampleDisplay.plot")
pyplot = lazy_module("matplotlib.pyplot", "SampleDisplay.plot")

_WIDTH, _MAX_HEIGHT = 6.4, 9.0  # of a figure, in inches
_ROW_LABELS, _TITLE = 1.2, 0.35  # room for text, in inches
_BORDER = 0.85  # grey, between images


class SampleDisplay:
    """Draws of a model as a page of images, or rows above their reconstructions.

    Use :meth:`from_estimator` to compute and plot a display. The page is one picture
    on one Axes, with one light grey pixel between images.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width) or \
            (n_images, channels, height, width)
        Draws, or rows, with 1 or 3 channels.
    reconstructions : ndarray of the shape of `images`, default=None
        Reconstruction of each image. None if the images are draws.
    n_columns : int, default=10
        Number of images side by side.

    Attributes
    ----------
    clim_ : tuple of float
        Values of the first and of the last colour; set by `plot`. Pages with the same
        values can be compared.
    image_ : matplotlib AxesImage
        The page; set by `plot`. Its array has the values of the pixels, masked between
        images, or colours between 0 and 1 if there are three channels.
    ax_ : matplotlib Axes
        Axes of the page; set by `plot`.
    figure_ : matplotlib Figure
        Figure of the axes; set by `plot`.

    See Also
    --------
    DensityDisplay : The density or its marginals, beside the data.

    Notes
    -----
    Each row of the data is an image: its pixels are ordered by channel, then from top
    to bottom, then from left to right, so that ``row.reshape(image_shape)`` is the
    image, as in PyTorch.

    All images of a page have the same scale, so that their greys can be compared. By
    default the scale runs from the 1 % to the 99 % quantile of the pixels, because a
    few extreme pixels would otherwise make all others pale. It starts at 0 if the 1 %
    quantile is negative but small, at most 0.4 times the 99 % quantile in magnitude: in
    images of ink on paper, small negative values are noise.

    Draws include the observation noise of the model, as ``score_samples`` does.
    ``noise=False`` leaves it out: it shows the means
    ``inverse_transform(sample_latent(n))`` of an autoencoder, which look better than
    draws. A good picture is no evidence of a good density, and a good density is no
    evidence of good pictures [1]_. Compare models by ``score`` on held-out rows.

    References
    ----------
    .. [1] Theis, L., van den Oord, A. and Bethge, M. (2016). A note on the evaluation
       of generative models. International Conference on Learning Representations.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from skgen import GaussianKDE, SampleDisplay, dequantize
    >>> pixels = dequantize(load_digits().data, random_state=0)
    >>> kde = GaussianKDE(bandwidth=1.0).fit(pixels)
    >>> display = SampleDisplay.from_estimator(
    ...     kde, image_shape=(8, 8), n_images=20, random_state=0
    ... )
    >>> display.image_.get_array().shape  # two rows of ten images
    (19, 91)
    >>> plt.close(display.figure_)
    """

    def __init__(
        self,
        images: FloatArray,
        *,
        reconstructions: FloatArray | None = None,
        n_columns: int = 10,
    ) -> None:
        self.images = images
        self.reconstructions = reconstructions
        self.n_columns = n_columns

    def plot(
        self,
        ax: Any = None,
        *,
        cmap: Any = "gray_r",
        vmin: float | None = None,
        vmax: float | None = None,
    ) -> Self:
        """Draw the page.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        cmap : str or matplotlib Colormap, default='gray_r'
            Colours of images with one channel.
        vmin : float, default=None
            Value of the first colour, or of black if there are three channels. If None,
            the 1 % quantile of the images, or 0 if negative values are small (see
            Notes). Reconstructions do not count.
        vmax : float, default=None
            Value of the last colour, or of full intensity if there are three channels.
            If None, the 99 % quantile of the images. Reconstructions do not count.

        Returns
        -------
        display : SampleDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib("SampleDisplay.plot")
        page, n_rows = self._page()
        if ax is None:
            width = _WIDTH - (0.1 if self.reconstructions is None else _ROW_LABELS)
            height = width * page.shape[0] / page.shape[1]
            size = _WIDTH, min(height + _TITLE, _MAX_HEIGHT)
            # Not "constrained", which cuts labels beside an image.
            ax = pyplot.subplots(figsize=size, layout="compressed")[1]
        low, high = _contrast(self.images)
        vmin = float(low if vmin is None else vmin)
        vmax = float(high if vmax is None else vmax)
        self.clim_ = vmin, vmax
        if page.ndim == 3:
            scaled = np.clip((page - vmin) / (vmax - vmin or 1.0), 0.0, 1.0)
            self.image_ = ax.imshow(np.where(np.isnan(page), _BORDER, scaled))
        else:
            cmap = matplotlib.colormaps.get_cmap(cmap).with_extremes(bad=str(_BORDER))
            page = np.ma.masked_invalid(page)
            self.image_ = ax.imshow(page, cmap=cmap, vmin=vmin, vmax=vmax)
        self.image_.set_interpolation("nearest")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        if self.reconstructions is not None:
            side = page.shape[0] / n_rows
            ax.set_yticks(
                side * (np.arange(n_rows) + 0.5) - 0.5,
                ["data", "reconstructed"] * (n_rows // 2),
            )
            # Text no higher than a row of images, in points.
            box = ax.get_window_extent()
            scale = min(box.height / page.shape[0], box.width / page.shape[1])
            row = side * scale * 72.0 / ax.figure.dpi
            size = min(row, matplotlib.rcParams["font.size"])
            ax.tick_params(axis="y", length=0, labelsize=size)
        self.ax_ = ax
        self.figure_ = ax.figure
        return self

    def _page(self):
        """Return a page with NaN between images, and its number of rows of images."""
        groups = [self.images]
        if self.reconstructions is not None:
            groups.append(self.reconstructions)
        images = np.stack(groups, axis=1, dtype=np.float64)  # (n, n_groups, ...)
        images = images.reshape(*images.shape[:2], -1, *images.shape[-2:])
        n, n_groups, n_channels, h, w = images.shape
        n_columns = min(n, self.n_columns)
        n_rows = -(-n // n_columns)
        shape = n_rows * n_columns, n_groups, n_channels, h + 1, w + 1
        places = np.full(shape, np.nan)
        places[:n, ..., 1:, 1:] = images
        places = places.reshape(n_rows, n_columns, *shape[1:])
        # (row, group, pixel row), (column, pixel column), channel
        places = places.transpose(0, 2, 4, 1, 5, 3)
        n_rows *= n_groups
        page = places.reshape(n_rows * (h + 1), n_columns * (w + 1), n_channels)
        page = np.pad(page, [(0, 1), (0, 1), (0, 0)], constant_values=np.nan)
        return page[..., 0] if n_channels == 1 else page, n_rows

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: MatrixLike | None = None,
        *,
        image_shape: tuple[int, ...],
        n_images: int = 40,
        n_columns: int = 10,
        noise: bool = True,
        cmap: Any = "gray_r",
        vmin: float | None = None,
        vmax: float | None = None,
        ax: Any = None,
        random_state: RandomState = None,
    ) -> Self:
        """Draw images from a fitted model, or reconstruct rows, and plot them.

        Parameters
        ----------
        estimator : estimator instance
            Fitted model with ``sample``, of skgen or of scikit-learn. If `X` is given,
            an estimator with ``transform`` and ``inverse_transform``.
        X : array-like or dataframe of shape (n_samples, n_features), default=None
            Rows to show above their reconstructions,
            ``inverse_transform(transform(X))``. None shows draws.
        image_shape : tuple of 2 or 3 int
            Shape of one image, (height, width) or (channels, height, width) with 1 or 3
            channels. The product is the number of features.
        n_images : int, default=40
            Number of images to draw, or maximum number of rows of `X` to reconstruct.
        n_columns : int, default=10
            Number of images side by side.
        noise : bool, default=True
            Whether to add the observation noise of the model. False shows the mean of
            each draw; it needs a model with ``sample_latent``, which only autoencoders
            have. Ignored if `X` is given.
        cmap : str or matplotlib Colormap, default='gray_r'
            Colours of images with one channel.
        vmin : float, default=None
            Value of the first colour, as for `plot`.
        vmax : float, default=None
            Value of the last colour, as for `plot`.
        ax : matplotlib Axes, default=None
            Axes to draw on. None makes a new figure.
        random_state : int, RandomState, Generator or None, default=None
            Seed of the draws. None uses the `random_state` of the estimator. NumPy's
            global generator is never used.

        Returns
        -------
        display : SampleDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If an argument is invalid. The message names the argument.
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.decomposition import PCA
        >>> from skgen import SampleDisplay
        >>> pixels = load_digits().data
        >>> display = SampleDisplay.from_estimator(
        ...     PCA(8).fit(pixels), pixels[:10], image_shape=(8, 8)
        ... )
        >>> [label.get_text() for label in display.ax_.get_yticklabels()]
        ['data', 'reconstructed']
        >>> plt.close(display.figure_)
        """
        method = f"{cls.__name__}.from_estimator"
        check_matplotlib(method)
        shape = _checked_shape(method, image_shape)
        check_whole(method, "n_images", n_images, 1)
        check_whole(method, "n_columns", n_columns, 1)
        check_seed(method, random_state)
        reconstructions = None
        if X is not None:
            check_estimator(method, estimator, "transform", "inverse_transform")
            rows = numbers(method, X)[:n_images]
            _check_product(method, shape, rows)
            codes = estimator.transform(X[:n_images])
            reconstructions = np.asarray(estimator.inverse_transform(codes))
            check_columns(method, reconstructions.shape[1], rows.shape[1])
            reconstructions = reconstructions.reshape(-1, *shape)
        elif noise:
            check_estimator(method, estimator, "sample")
            rows = drawn(estimator.sample, n_images, random_state)
        else:
            check_estimator(method, estimator, "sample_latent", "inverse_transform")
            codes = drawn(estimator.sample_latent, n_images, random_state)
            rows = np.asarray(estimator.inverse_transform(codes))
        _check_product(method, shape, rows)
        display = cls(
            rows.reshape(-1, *shape),
            reconstructions=reconstructions,
            n_columns=n_columns,
        )
        return display.plot(ax, cmap=cmap, vmin=vmin, vmax=vmax)


def _contrast(images):
    """Return the values of the first and of the last colour of a page of images."""
    low, high = np.quantile(images, (0.01, 0.99))
    if low == high:
        return images.min(), images.max()
    # Ink on paper: small negative values are noise, or errors of a linear map, of empty
    # pixels, which would be grey if the scale began at the lowest value.
    return 0.0 if -0.4 * high <= low < 0.0 else low, high


def _checked_shape(method, image_shape):
    """Return the shape of one image as a tuple."""
    shape = tuple(image_shape) if np.iterable(image_shape) else ()
    whole = all(is_integer(side, 1) for side in shape)
    if not whole or len(shape) not in (2, 3) or shape[:-2] not in ((), (1,), (3,)):
        rule = "(height, width) or (channels, height, width), ints of at least 1 with "
        rule += "1 or 3 channels"
        raise wrong_argument(method, "image_shape", rule, image_shape)
    return shape


def _check_product(method, shape, rows):
    """Raise unless an image has one pixel for each feature of the rows."""
    n_features = rows.shape[1]
    if np.prod(shape) != n_features:
        rule = f"the shape of an image of {n_features} pixels, one for each feature"
        raise wrong_argument(method, "image_shape", rule, Described(shape))
