"""The rules of plain English, as far as a test can hold them.

``python tests/test_prose.py skgen/kde README.md`` lists what breaks them.
"""

import ast
import inspect
import io
import re
import sys
import tokenize
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Phrases in which a noun or the field's word is missing: "Number of", "Maximum", NaN...
BANNED = [
    r"how many",
    r"so many",
    r"as many(?! as)",
    r"(?:tell|tells|told|telling)",
    r"(?:say|says|said|saying)",
    r"(?:knows|know|knew)",
    r"(?:those|that) of",
    r"the most",
    r"is none",
    r"of none",
    r"nobody",
    r"no notice",
    r"for nothing",
    r"had back",
    r"not a number",
    r"whoever",
    r"anyone's",
    r"are asked",
    r"no sooner",
]
PATTERN = re.compile(rf"\b(?:{'|'.join(BANNED)})\b", re.IGNORECASE)


def prose_of(path):
    """Yield (line number, text) of every comment, string and line of Markdown."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or token.type == tokenize.STRING:
            for i, line in enumerate(token.string.splitlines()):
                yield token.start[0] + i, line


def banned_phrases(path):
    """Return the banned phrases of a file, a line each, across ends of lines too."""
    lines = list(prose_of(path))
    text = "\n".join(line for _, line in lines)
    flat = re.sub(r"\n\s*(?:#\s*)?", lambda m: "\n" + " " * (len(m[0]) - 1), text)
    found = []
    for match in PATTERN.finditer(re.sub(r"\s", " ", flat)):
        number = lines[text.count("\n", 0, match.start())][0]
        found.append(f"{path}:{number}: {' '.join(match[0].split())}")
    return found


def _sections(docstring):
    return re.findall(r"^\s*(\w[\w ]+)\n\s*-{3,}\s*$", docstring, re.MULTILINE)


@cache
def public_lines():
    """Return (file, line) of the definitions whose docstrings users read."""
    import skgen
    from skgen.base import GenerativeModel
    from skgen.compose._partial_density import PartialDensity
    from skgen.neural import GradientModel

    public = [getattr(skgen, name) for name in skgen.__all__]
    found = set()
    for thing in [*public, GenerativeModel, GradientModel, PartialDensity]:
        found.add(_place(thing))
        if inspect.isclass(thing):
            for name in dir(thing):
                member = inspect.getattr_static(thing, name)
                if name.startswith("_"):
                    continue
                if isinstance(member, property):
                    member = member.fget
                if isinstance(member, (classmethod, staticmethod)):
                    member = member.__func__
                found.add(_place(inspect.unwrap(getattr(member, "fn", member))))
    return found


def _place(thing):
    try:
        file = inspect.getsourcefile(thing)
        return file, inspect.getsourcelines(thing)[1]
    except (TypeError, OSError):
        return None


def long_private_docstrings(path, public):
    """Return the private definitions of a file that have long docstrings."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        docstring = ast.get_docstring(node)
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        if not docstring or (str(path), first) in public:
            continue
        if _sections(docstring) or len(docstring.splitlines()) > 5:
            found.append(f"{path}:{node.lineno}: docstring of private {node.name}")
    return found


def files(paths):
    for path in map(Path, paths):
        if path.is_dir():
            yield from sorted([*path.rglob("*.py"), *path.rglob("*.md")])
        elif path.exists():  # where the wheel is tested, the source is not here
            yield path


PLACES = [ROOT / "skgen", ROOT / "README.md", ROOT / "docs" / "guide"]
PLACES = [place for place in PLACES if place.exists()]  # the wheel's tests have no more


def test_no_banned_phrases():
    assert not [found for path in files(PLACES) for found in banned_phrases(path)]


def test_private_docstrings_are_a_line_and_shapes():
    public = public_lines()
    paths = [path for path in files(PLACES) if path.suffix == ".py"]
    assert not [found for p in paths for found in long_private_docstrings(p, public)]


if __name__ == "__main__":
    chosen = [p.resolve() for p in files(sys.argv[1:] or PLACES)]
    public = public_lines()
    problems = []
    for path in chosen:
        problems += banned_phrases(path)
        if path.suffix == ".py":
            problems += long_private_docstrings(path, public)
    sys.stdout.write("\n".join([*problems, f"{len(problems)} found", ""]))
    sys.exit(bool(problems))
