"""Pages of benchmarks, one section for each part, and what the parts share."""

import gzip
import os
import re
import sys
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks._harness import environment


def write_sections(parser, parts, command, output):
    """Run the parts that the command line names, and write a section for each.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Has the options of these parts. Arguments for all parts are added: the names
        of the parts (by default all), ``--scale`` and ``--output``.
    parts : dict
        The titles of the sections and the functions, by the names of the parts. Each
        function maps the options to the Markdown of its section.
    command : callable
        Maps the name of a part and the options to the command that repeats it.
    output : path-like
        The page by default. Its other sections stay.
    """
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="of the work; 0.01 for a smoke test"
    )
    parser.add_argument("--output", default=str(output), metavar="FILE")
    options = parser.parse_args()
    unknown = set(options.parts) - set(parts)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    titles = [title for title, _ in parts.values()]
    page = Path(options.output)
    for part in options.parts or parts:
        title, function = parts[part]
        body = paragraphs(
            function(options),
            f"{environment(command(part, options))}  \nDate: {date.today()}",
        )
        before = page.read_text() if page.exists() else ""
        page.write_text(with_section(before, titles, title, body))
        sys.stdout.write(f"## {title}\n\n{body}\n\n")


def with_section(text, titles, title, body):
    """Return a page with one of its sections new, in the order of the titles."""
    pieces = re.split(r"(?m)^## (.+)\n", text)
    sections = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    sections[title] = body
    order = [name for name in titles if name in sections]
    order += [name for name in sections if name not in titles]
    joined = "\n\n".join(f"## {name}\n\n{sections[name].strip()}" for name in order)
    return f"{pieces[0]}{joined}\n"


def data(*names):
    """Return the path of a file of data; end the program where there are none."""
    root = os.environ.get("SKGEN_DATA")
    if not root:
        sys.exit("benchmarks: SKGEN_DATA is not set, nothing to fit")
    return Path(root, *names)


def mnist_images(name, options, least):
    """Return images of MNIST as grey levels from 0 to 255, and their digits.

    Parameters
    ----------
    name : {"train", "t10k"}
        Which of the two files.
    options : argparse.Namespace
        `scale` is the fraction of the images.
    least : int
        Minimum number of images.

    Returns
    -------
    X : ndarray of shape (n, 784)
    y : ndarray of shape (n,)
        Both of small integers.
    """

    def read(kind, offset):
        packed = data("mnist", f"{name}-{kind}-ubyte.gz").read_bytes()
        return np.frombuffer(gzip.decompress(packed), np.uint8, offset=offset)

    X, y = read("images-idx3", 16).reshape(-1, 784), read("labels-idx1", 8)
    n = share(len(X), options, least)
    return X[:n], y[:n]


def share(whole, options, least):
    """Return a number shrunk by the scale of the work."""
    return max(least, int(options.scale * whole)) if options.scale < 1 else whole


def grid(heads, lines, left=1):
    """Return a Markdown table, its first columns aligned to the left."""
    rule = ["---"] * left + ["---:"] * (len(heads) - left)
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, rule, *lines))


def paragraphs(*parts):
    """Return parts of a section as one text."""
    return "\n\n".join(parts)


def say(text):
    """Write progress to standard error."""
    sys.stderr.write(f"{text}\n")
