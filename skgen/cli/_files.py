"""What the command needs: packages, and files that it can read and write."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

from skgen._lazy import is_installed, missing_package

# Minimum number of rows of a table: fewer leave no row to hold out.
LEAST_ROWS = 4

# Formats of pictures.
_PICTURES = ("png", "jpg", "jpeg", "pdf", "svg", "webp")


class CommandError(ValueError):
    """The command cannot do its work; the message is one line."""


def require(package, what):
    """Raise a CommandError unless a package is installed; `what` begins the message."""
    if not is_installed(package):
        raise CommandError(str(missing_package(package, what)))


def count(number, thing):
    """Return a number and its noun: "1 row", "2 rows"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def check_outputs(options):
    """Raise a CommandError if an output cannot be written, before any work."""
    outputs = [path for path in (options.sample, options.plot) if path is not None]
    for path in outputs:
        folder = Path(path).resolve().parent
        if not path or Path(path).is_dir():
            raise CommandError(f"an output must be a file. Got {path!r} instead.")
        if not folder.is_dir():
            raise CommandError(f"there is no folder {folder} to write to.")
        if not os.access(path if Path(path).exists() else folder, os.W_OK):
            raise CommandError(f"{path} cannot be written.")
    files = [Path(p).resolve() for p in (*outputs, options.table) if p]
    if len(set(files)) < len(files):
        raise CommandError("the table and the outputs must be different files.")
    if options.sample is not None:
        require("pandas", "--sample")
    if options.plot is not None:
        require("matplotlib", "--plot")
        if picture_format(options.plot) not in _PICTURES:
            kinds, got = ", ".join(_PICTURES), options.plot
            raise CommandError(
                f"--plot must end in one of {kinds}. Got {got!r} instead."
            )


def picture_format(path):
    """Return the format of a picture: the ending of its name, or "png"."""
    return Path(path).suffix.lstrip(".").lower() or "png"


@contextmanager
def whole_file(path):
    """Yield a name to write to; the file becomes `path` when it is complete."""
    target = Path(path).resolve()  # the target of a link
    if target.exists() and not target.is_file():
        yield str(target)  # write to a device or a pipe, do not replace it
        return
    descriptor, part = tempfile.mkstemp(dir=target.parent, suffix=".part")
    os.close(descriptor)
    try:
        yield part
        # mkstemp makes private files; other files follow the umask of the user.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(part, 0o666 & ~mask)
        os.replace(part, target)
    finally:
        Path(part).unlink(missing_ok=True)
