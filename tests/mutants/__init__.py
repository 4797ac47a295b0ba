"""Planted faults: each is a patch that some test must notice.

A patch is a unified diff with a head::

    The normaliser of a normal density without the number of features.
    Test: tests/test_whitening.py::test_name

Its lines say what is replaced; where it stands in the file does not matter, so that a
patch survives changes elsewhere in the file.
"""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent


@dataclass(frozen=True)
class Mutant:
    """One planted fault."""

    name: str
    what: str
    tests: tuple
    changes: tuple  # (file, old text, new text)

    def mutated(self, root=ROOT):
        """Return the text of each file with the fault in it: {file: text}."""
        texts = {}
        for file, old, new in self.changes:
            text = texts.get(file) or (root / file).read_text(encoding="utf-8")
            if text.count(old) != 1:
                times = text.count(old)
                raise ValueError(f"{self.name}: {file} holds {times} times:\n{old}")
            texts[file] = text.replace(old, new)
        return texts


def read(path):
    """Return the planted fault of a patch file."""
    head, changes, file, old, new = [], [], None, [], []

    def finish():
        if old or new:
            changes.append((file, "".join(old), "".join(new)))
        old.clear()
        new.clear()

    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.startswith("--- "):
            finish()
        elif line.startswith("+++ "):
            file = line[4:].strip().removeprefix("b/")
        elif line.startswith("@@"):
            finish()
        elif file is None:
            head.append(line.strip())
        elif line.startswith("-"):
            old.append(line[1:])
        elif line.startswith("+"):
            new.append(line[1:])
        else:
            old.append(line[1:] or "\n")
            new.append(line[1:] or "\n")
    finish()
    tests = tuple(h.removeprefix("Test: ") for h in head if h.startswith("Test: "))
    what = " ".join(h for h in head if h and not h.startswith("Test: "))
    name = path.relative_to(FOLDER).with_suffix("").as_posix()
    return Mutant(name, what, tests, tuple(changes))


def mutants(pattern="*"):
    """Return the planted faults whose names match a pattern, in order."""
    found = [read(path) for path in sorted(FOLDER.rglob("*.patch"))]
    return [m for m in found if Path(m.name).match(pattern) or pattern in m.name]
