"""The page of a sample display: images side by side in one array."""

import numpy as np

from skgen._checks import Described, is_integer, wrong_argument

BORDER = 0.85  # grey, between images


def page_of(display):
    """Return a page with NaN between images, and its number of rows of images."""
    groups = [np.asarray(display.images, dtype=np.float64)]
    if display.reconstructions is not None:
        groups.append(np.asarray(display.reconstructions, dtype=np.float64))
    n, *shape = groups[0].shape
    if len(shape) == 3:  # channels last; no axis for one channel
        groups = [np.moveaxis(images, 1, -1) for images in groups]
        if shape[0] == 1:
            groups = [images[..., 0] for images in groups]
    h, w, *channels = groups[0].shape[1:]
    n_columns = min(n, display.n_columns)
    n_rows = len(groups) * -(-n // n_columns)
    page = np.full((n_rows * (h + 1) + 1, n_columns * (w + 1) + 1, *channels), np.nan)
    for k, images in enumerate(groups):
        for i, image in enumerate(images):
            row, column = divmod(i, n_columns)
            top, left = (len(groups) * row + k) * (h + 1) + 1, column * (w + 1) + 1
            page[top : top + h, left : left + w] = image
    return page, n_rows


def contrast(images):
    """Return the values of the first and of the last colour of a page of images."""
    low, high = np.quantile(images, (0.01, 0.99))
    if low == high:
        return images.min(), images.max()
    # Ink on paper: small negative values are noise, or errors of a linear map, of empty
    # pixels, which would be grey if the scale began at the lowest value.
    return 0.0 if -0.4 * high <= low < 0.0 else low, high


def colours(page, vmin, vmax):
    """Return an (h, w, 3) page as colours between 0 and 1."""
    span = vmax - vmin
    scaled = np.clip((page - vmin) / (span if span > 0 else 1.0), 0.0, 1.0)
    return np.where(np.isnan(page), BORDER, scaled)


def checked_shape(method, image_shape):
    """Return the shape of one image as a tuple; raise unless it is one."""
    rule = (
        "(height, width) or (channels, height, width), ints of at least 1 with 1 or 3 "
        "channels"
    )
    try:
        shape = tuple(image_shape)
    except TypeError:
        raise wrong_argument(method, "image_shape", rule, image_shape) from None
    whole = all(is_integer(side, 1) for side in shape)
    channels = shape[0] if len(shape) == 3 else 1
    if not whole or len(shape) not in (2, 3) or channels not in (1, 3):
        raise wrong_argument(method, "image_shape", rule, image_shape)
    return shape


def check_product(method, image_shape, rows):
    """Raise unless an image has one pixel for each feature of the rows."""
    n_features = rows.shape[1]
    if np.prod(image_shape) != n_features:
        rule = f"the shape of an image of {n_features} pixels, one for each feature"
        got = Described(tuple(image_shape))
        raise wrong_argument(method, "image_shape", rule, got)
