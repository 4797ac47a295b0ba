"""Several displays on one axes: a colour for each model, and the data only once."""

import numpy as np

# Okabe and Ito (2008): distinct colours also with impaired colour vision.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def mark_model(artist, handle, label):
    """Mark an artist as the picture of a model, with its legend entry."""
    artist._skgen_model = handle, label


def models_on(ax):
    """Return the legend entries, (handle, label), of the models on an axes."""
    marked = (getattr(artist, "_skgen_model", None) for artist in ax.get_children())
    return [entry for entry in marked if entry is not None]


def next_color(ax):
    """Return the colour of the next model on an axes."""
    return _COLORS[len(models_on(ax)) % len(_COLORS)]


def mark_data(artist, data):
    """Mark an artist as the picture of an array of data."""
    artist._skgen_data = data


def data_on(ax):
    """Return the artists that show data on an axes."""
    return [artist for artist in ax.get_children() if hasattr(artist, "_skgen_data")]


def shows(ax, data):
    """Return whether an axes shows this array of data already."""
    return any(np.array_equal(artist._skgen_data, data) for artist in data_on(ax))


def legend_style(title):
    """Return the style of a legend with a title."""
    return {
        "title": title,
        "alignment": "left",
        "fontsize": "small",
        "title_fontsize": "small",
        "framealpha": 0.7,
        "edgecolor": "none",
    }
