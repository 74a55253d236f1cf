"""What the documentation names exists: tests, fuzz targets, parsers. A claim without its test is found here."""
import functools
import re

from lab import paths

DOCS = paths.ROOT / "docs"
SOURCES = [*paths.ROOT.glob("tests/**/*.py"), *paths.ROOT.glob("tests/**/*.c"), *paths.ROOT.glob("chain/test/*.sol")]


@functools.cache
def functions(path):
    return set(re.findall(r"\b(?:def|void|function) (\w+)\(", path.read_text()))


def file_of(name, last, names, folder):
    """The test file of this path; or of this name, in the folder of the one that was named last or the only one with these tests."""
    found = [p for p in SOURCES if str(p.relative_to(paths.ROOT)) == name or p.name == name]
    found = [p for p in found if p.parent == (folder and paths.ROOT / folder or last and last.parent)] or found
    found = [p for p in found if set(names) <= functions(p)] if len(found) > 1 and names else found
    assert len(found) == 1, f"{name}: {len(found)} test files are named so"
    return found[0]


def check_row(row):
    """A code span is `FILE::NAME, NAME`, `FILE: NAME`, `FILE`, or `::NAME`, `NAME`: a test of the file that was named last or of any.
    A letter before it says which folder is meant."""
    last, wrong = None, []
    for letter, span in re.findall(r"([QRU]?)`([^`]+)`", row):
        file, names = None, span.removeprefix("::")
        if match := re.fullmatch(r"((?:[\w/]+/)?\w+(?:\.t)?\.(?:py|c|sol))(?:(?:::|: )(.+))?", span):
            file, names = match[1], match[2] or ""
            if not re.match(r"(?:tests|chain/test)/|test_|\w+\.t\.sol", file):
                continue  # a source of the product
            try:
                last = file_of(file, last, [n for n in re.split(r",\s*", names) if n],
                               {"Q": "tests/qemu", "R": "tests/relay", "U": "tests/unit"}.get(letter))
            except AssertionError as e:
                wrong.append(str(e))
                continue
        elif not re.match(r"(?:test|invariant|testFuzz)_\w+", names):
            continue
        for name in re.split(r",\s*", re.sub(r"\[.*?\]", "", names)) if names else []:
            if not re.fullmatch(r"(?:test|invariant|testFuzz)_\w+", name):
                continue
            if not (name in functions(last) if last else any(name in functions(p) for p in SOURCES)):
                wrong.append(f"{last or 'any file'} has no {name}")
    return wrong


def test_every_test_that_is_named_exists():
    wrong, named = [], 0
    for page in ("security.md", "errors.md", "formats.md"):
        for number, row in enumerate((DOCS / page).read_text().split("\n"), 1):
            named += len(re.findall(r"\b(?:test|invariant)_\w+", row))
            wrong += [f"{page}:{number}: {text}" for text in check_row(row)]
    assert not wrong, "\n".join(wrong)
    assert named > 50  # else nothing was looked at


def test_every_code_that_is_named_exists():
    listed = set(re.findall(r"^\| `([a-z]+\.[a-z-]+)` \|", (DOCS / "errors.md").read_text(), re.M))
    areas = {code.split(".")[0] for code in listed}
    sources = "".join(p.read_text() for p in [*paths.ROOT.glob("core0/**/*.c"), *paths.ROOT.glob("chain/src/*.sol")])
    named = set(re.findall(r"`([a-z]+\.[a-z]+(?:-[a-z]+)*)`", (DOCS / "security.md").read_text()))
    named = {code for code in named if code.split(".")[0] in areas}
    assert len(named) > 2 and not {code for code in named if code not in listed and f'"{code}"' not in sources}


def test_every_row_of_the_threats_names_a_test():
    rows = [r for r in (DOCS / "security.md").read_text().split("\n") if r.startswith("| ") and not re.match(r"\|[- |]+\|$", r)]
    heads = [r for r in rows if r.startswith("| threat ")]
    assert heads and len(rows) > 40
    for row in rows:
        cells = row.strip("| ").split(" | ")
        if row not in heads and len(cells) == 3:
            assert re.search(r"`[^`]*(?:tests/|test_|\.t\.sol)", cells[2]) or "not stopped" in cells[1], row


def test_every_parser_has_its_target_and_every_target_a_corpus():
    text = (DOCS / "fuzzing.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \| ([^|]+) \|$", text, re.M)
    listed = {t for _, column in rows for t in re.findall(r"`(\w+)`", column)}
    targets = {p.stem for p in (paths.ROOT / "tests/fuzz").glob("*.c")} - {"driver"}
    assert listed == targets
    for target in targets:
        assert any((paths.ROOT / "tests/fuzz/corpus" / target).iterdir()), target
    for parsers, _ in rows:
        for folder, file in re.findall(r"`((?:\w+/)+)(\w+\*?\.c)`", parsers):
            assert list((paths.ROOT / "core0" / folder).glob(file)), f"{folder}{file}"
