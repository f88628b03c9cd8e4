"""Checks Markdown: links and paths of source files lead somewhere, and no line of prose is longer than 120 columns."""

import pathlib
import re
import sys

MAX_COLUMNS = 120
# A test writes it, with one line for each reason.
GENERATED = "docs/openapi-differences.md"
# Folders that are not part of the source tree.
SKIPPED = {"target", "node_modules", ".venv", ".git", "mutants.out"}


def slug(heading):
    """Returns the anchor that GitHub gives to a heading."""
    heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading)).replace(" ", "-")


def without_code(text):
    """Blanks fenced code, so that line numbers stay as they are."""
    return re.sub(r"^( *)```.*?^\1```", lambda match: "\n" * match.group().count("\n"), text, flags=re.S | re.M)


def anchors(path):
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", without_code(path.read_text()), flags=re.M)}


def broken_links(path, text):
    for match in re.finditer(r"\]\(([^)\s]+)\)", text):
        link = match.group(1)
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        found = (path.parent / file) if file else path
        if not found.exists():
            yield text.count("\n", 0, match.start()) + 1, f"no such file: {link}"
        elif anchor and found.suffix == ".md" and anchor not in anchors(found):
            yield text.count("\n", 0, match.start()) + 1, f"no such heading: {link}"


def missing_sources(text):
    """Paths in backticks that begin with a folder of the project or of `crates`. Shorter ones are relative to their context."""
    roots = [pathlib.Path(), pathlib.Path("crates")]
    for match in re.finditer(r"`((?:[\w.-]+/)+[\w.-]+\.(?:rs|toml|json|py|yaml|sql|conf))`", text):
        begin = match.group(1).split("/")[0]
        if any((root / begin).exists() for root in roots) and not any((root / match.group(1)).exists() for root in roots):
            yield text.count("\n", 0, match.start()) + 1, f"no such file: {match.group(1)}"


def long_lines(text):
    """Tables and lines without a blank to break at, such as addresses, may be longer."""
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > MAX_COLUMNS and not line.lstrip().startswith("|") and " " in line.strip()[:MAX_COLUMNS]:
            yield number, f"{len(line)} columns, wrap at {MAX_COLUMNS}"


def main():
    found = False
    for path in sorted(pathlib.Path().rglob("*.md")):
        if SKIPPED.intersection(path.parts):
            continue
        name = str(path)
        text = without_code(path.read_text())
        wrapped = [] if name == GENERATED else long_lines(text)
        for line, message in [*broken_links(path, text), *missing_sources(text), *wrapped]:
            print(f"{name}:{line}: {message}")
            found = True
    return found


sys.exit(main())
