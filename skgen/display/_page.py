"""The page of a sample display: images side by side in one array."""

import numpy as np

from skgen._parameters import Described, is_integer, wrong_argument

BORDER = 0.85  # grey, between images


def page_of(display):
    """Return all images on one page, NaN between them, and its rows of images."""
    kinds = [np.asarray(display.images, dtype=np.float64)]
    if display.reconstructions is not None:
        kinds.append(np.asarray(display.reconstructions, dtype=np.float64))
    n, *shape = kinds[0].shape
    if len(shape) == 3:  # channels last; no axis for one channel
        kinds = [np.moveaxis(images, 1, -1) for images in kinds]
        if shape[0] == 1:
            kinds = [images[..., 0] for images in kinds]
    h, w, *channels = kinds[0].shape[1:]
    n_columns = min(n, display.n_columns)
    n_rows = len(kinds) * -(-n // n_columns)
    page = np.full((n_rows * (h + 1) + 1, n_columns * (w + 1) + 1, *channels), np.nan)
    for k, images in enumerate(kinds):
        for i, image in enumerate(images):
            row, column = divmod(i, n_columns)
            top, left = (len(kinds) * row + k) * (h + 1) + 1, column * (w + 1) + 1
            page[top : top + h, left : left + w] = image
    return page, n_rows


def colours(page, vmin, vmax):
    """Return a page of three channels as colours from 0 to 1."""
    span = vmax - vmin
    scaled = np.clip((page - vmin) / (span if span > 0 else 1.0), 0.0, 1.0)
    return np.where(np.isnan(page), BORDER, scaled)


def checked_shape(method, image_shape):
    """Return the shape of one image as a tuple of ints."""
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
    """Raise unless an image has as many pixels as a row has features."""
    n_features = rows.shape[1]
    if np.prod(image_shape) != n_features:
        rule = f"of {n_features} pixels, one for each feature"
        got = Described(tuple(image_shape))
        raise wrong_argument(method, "image_shape", rule, got)
