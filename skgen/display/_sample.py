"""Draws as a page of images, or rows above what the model makes of them."""

import numpy as np

from skgen.display._estimators import (
    check_columns,
    check_estimator,
    check_seed,
    check_whole,
    drawn,
    numbers,
    pyplot,
)
from skgen.display._page import BORDER, check_product, checked_shape, colours, page_of


class SampleDisplay:
    """Draws of a model as a page of images; or rows, above their reconstructions.

    Made by :meth:`from_estimator`, which computes the images and plots them. The page
    is one picture on one axes, one pixel of light grey between images.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width) or \
            (n_images, channels, height, width)
        The draws, or the rows; of 1 or 3 channels.
    reconstructions : ndarray of the shape of `images`, default=None
        What the model makes of each image. None if the images are draws.
    n_columns : int, default=10
        How many images stand side by side.

    Attributes
    ----------
    image_ : matplotlib AxesImage
        The page; set by `plot`. Its array has the values of the pixels, masked between
        images, or the colours where there are three channels.
    ax_ : matplotlib Axes
        The axes of the page; set by `plot`.
    figure_ : matplotlib Figure
        The figure of the axes; set by `plot`.

    See Also
    --------
    DensityDisplay : The density or its marginals, beside the data.

    Notes
    -----
    An image is a row of pixels, channel by channel, and in each row by row: the order
    of ``torch``, and that of ``row.reshape(image_shape)``.

    All images of a page have one scale, so that their greys can be compared. Draws
    have the observation noise of the model, which the density scores.
    ``noise=False`` leaves it out: of an autoencoder it shows the means
    ``inverse_transform(sample_latent(n))``, which look better than draws of the
    density. A good picture is no evidence of a good density, nor the other way
    around [1]_: compare models by ``score`` on rows that were held out.

    References
    ----------
    .. [1] Theis, L., van den Oord, A. and Bethge, M. (2016). A note on the evaluation
       of generative models. International Conference on Learning Representations.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from skgen import GaussianKDE, dequantize
    >>> from skgen.display import SampleDisplay
    >>> pixels = dequantize(load_digits().data, random_state=0)
    >>> kde = GaussianKDE(bandwidth=1.0).fit(pixels)
    >>> display = SampleDisplay.from_estimator(
    ...     kde, image_shape=(8, 8), n_images=20, random_state=0
    ... )
    >>> display.image_.get_array().shape  # two rows of ten images
    (19, 91)
    >>> plt.close(display.figure_)
    """

    def __init__(self, images, *, reconstructions=None, n_columns=10):
        self.images = images
        self.reconstructions = reconstructions
        self.n_columns = n_columns

    def plot(self, ax=None, *, cmap="gray_r", vmin=None, vmax=None):
        """Draw the page.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        cmap : str or matplotlib Colormap, default='gray_r'
            The colours of images of one channel.
        vmin : float, default=None
            The value of the first colour, of black where there are three channels.
            None is the least value of the images, reconstructions not counted.
        vmax : float, default=None
            The value of the last colour, of full light where there are three channels.
            None is the largest value of the images, reconstructions not counted.

        Returns
        -------
        display : SampleDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        plt = pyplot("SampleDisplay.plot")
        page, n_rows = page_of(self)
        if ax is None:
            # Inches; words at the left take some of the width.
            width = 6.4 if self.reconstructions is None else 5.2
            height = width * page.shape[0] / page.shape[1]
            size = 6.4, min(height + 0.1, 9.0)
            ax = plt.subplots(figsize=size, layout="constrained")[1]
        vmin = self.images.min() if vmin is None else vmin
        vmax = self.images.max() if vmax is None else vmax
        if page.ndim == 3:
            page = colours(page, vmin, vmax)
            self.image_ = ax.imshow(page, interpolation="nearest")
        else:
            cmap = plt.get_cmap(cmap).with_extremes(bad=str(BORDER))
            self.image_ = ax.imshow(
                np.ma.masked_invalid(page),
                cmap=cmap,
                vmin=vmin,
                vmax=vmax,
                interpolation="nearest",
            )
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        if self.reconstructions is not None:
            side = page.shape[0] / n_rows
            ax.set_yticks(
                side * (np.arange(n_rows) + 0.5) - 0.5,
                ["data", "reconstructed"] * (n_rows // 2),
            )
            ax.tick_params(axis="y", length=0)
        self.ax_ = ax
        self.figure_ = ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X=None,
        *,
        image_shape,
        n_images=40,
        n_columns=10,
        noise=True,
        cmap="gray_r",
        vmin=None,
        vmax=None,
        ax=None,
        random_state=None,
    ):
        """Draw images from a fitted model, or reconstruct rows, and plot them.

        Parameters
        ----------
        estimator : estimator instance
            A fitted model that has ``sample``; if `X` is given, one that has
            ``transform`` and ``inverse_transform``. Those of scikit-learn will do.
        X : array-like or dataframe of shape (n_samples, n_features), default=None
            Rows to show above their reconstructions,
            ``inverse_transform(transform(X))``. None shows draws.
        image_shape : tuple of 2 or 3 int
            The shape of one image, (height, width) or (channels, height, width) with 1
            or 3 channels. The product is the number of features.
        n_images : int, default=40
            How many images to draw, or at most how many of the first rows of `X` to
            reconstruct.
        n_columns : int, default=10
            How many images stand side by side.
        noise : bool, default=True
            Whether draws have the observation noise of the model. False shows the mean
            of each draw, for models that have ``sample_latent``: the autoencoders.
            Ignored if `X` is given.
        cmap : str or matplotlib Colormap, default='gray_r'
            The colours of images of one channel.
        vmin : float, default=None
            The value of the first colour. None is the least of the draws or of `X`.
        vmax : float, default=None
            The value of the last colour. None is the largest of the draws or of `X`.
        ax : matplotlib Axes, default=None
            Where to draw. None makes a new figure.
        random_state : int, RandomState instance or None, default=None
            Seeds the draws. None falls back on the `random_state` of the estimator;
            the global generator is never used.

        Returns
        -------
        display : SampleDisplay
            The display, plotted.

        Raises
        ------
        ValueError
            If an argument is not what it must be; the message names it.
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.decomposition import PCA
        >>> from skgen.display import SampleDisplay
        >>> pixels = load_digits().data
        >>> display = SampleDisplay.from_estimator(
        ...     PCA(8).fit(pixels), pixels[:10], image_shape=(8, 8)
        ... )
        >>> [label.get_text() for label in display.ax_.get_yticklabels()]
        ['data', 'reconstructed']
        >>> plt.close(display.figure_)
        """
        method = f"{cls.__name__}.from_estimator"
        pyplot(method)
        shape = checked_shape(method, image_shape)
        check_whole(method, "n_images", n_images, 1)
        check_whole(method, "n_columns", n_columns, 1)
        check_seed(method, random_state)
        reconstructions = None
        if X is not None:
            check_estimator(method, estimator, ("transform", "inverse_transform"))
            rows = numbers(method, X)[:n_images]
            check_product(method, image_shape, rows)
            codes = estimator.transform(X[:n_images])
            reconstructions = np.asarray(estimator.inverse_transform(codes))
            check_columns(method, reconstructions.shape[1], rows.shape[1])
            reconstructions = reconstructions.reshape(-1, *shape)
        elif noise:
            check_estimator(method, estimator, ("sample",))
            rows = drawn(estimator.sample, n_images, random_state)
        else:
            check_estimator(method, estimator, ("sample_latent", "inverse_transform"))
            codes = drawn(estimator.sample_latent, n_images, random_state)
            rows = np.asarray(estimator.inverse_transform(codes))
        check_product(method, image_shape, rows)
        display = cls(
            rows.reshape(-1, *shape),
            reconstructions=reconstructions,
            n_columns=n_columns,
        )
        return display.plot(ax, cmap=cmap, vmin=vmin, vmax=vmax)
