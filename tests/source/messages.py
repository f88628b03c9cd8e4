"""Checks the texts that programs print: log messages, errors and help, by the rules of prose; a log message also has a verb."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

LITERAL = r'"((?:\\.|[^"\\])*)"'
LOG = re.compile(r"\b(?:trace|debug|info|warn|error)!\(")
OTHER = [re.compile(rf"#\[error\(\s*{LITERAL}"), re.compile(rf"\b(?:help|about|long_help|long_about)\s*=\s*{LITERAL}")]
VERB = re.compile(
    r"\b(?:\w+(?:ed|ing)|differs|is|are|was|were|has|have|had|can|cannot|could|did|does|do|will|must|no longer|sent|lost|kept|set|cut"
    r"|went|took|found|made|gone|began|begun|stopped|read|shut|put|left|ran|given|taken|held|built|overran|fell|met)\b"
)


def arguments(text, start):
    """Yields the arguments of a macro call whose opening parenthesis ends at `start`."""
    depth, begin, place = 0, start, start
    while place < len(text):
        character = text[place]
        if character == '"':
            place += len(re.match(LITERAL, text[place:], re.S).group()) - 1
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            if depth == 0:
                yield begin, text[begin:place]
                return
            depth -= 1
        elif character == "," and depth == 0:
            yield begin, text[begin:place]
            begin = place + 1
        place += 1


def log_messages(text):
    for call in LOG.finditer(text):
        for begin, argument in arguments(text, call.end()):
            literal = re.fullmatch(LITERAL, argument.strip(), re.S)
            if literal:
                yield begin, literal.group(1)
                break


def messages(text):
    """Yields position, text and whether it is a log message."""
    yield from ((place, message, True) for place, message in log_messages(text))
    for pattern in OTHER:
        yield from ((match.start(), match.group(1), False) for match in pattern.finditer(text))


def readable(message):
    """Placeholders become a word, line continuations a blank."""
    return re.sub(r"\{[^}]*\}", "X", re.sub(r"\\\n\s*", "", message).replace("\\n", " ").replace('\\"', "'"))


def main():
    found, sources, paragraphs = False, [], []
    for path in sorted(pathlib.Path("crates").glob("*/src/**/*.rs")):
        text = re.split(r"#\[cfg\(test\)\]\s*mod \w+ \{", path.read_text())[0]
        # Comments may show calls and quotes.
        text = re.sub(r"(?m)(?<!:)//[^\n]*$", lambda match: " " * len(match.group()), text)
        for place, message, logged in messages(text):
            where = f"{path}:{text.count(chr(10), 0, place) + 1}"
            # A message made of placeholders alone is composed elsewhere.
            if logged and re.search(r"[a-z]{2}", readable(message)) and not VERB.search(readable(message)):
                print(f"{where}: log message without a verb: {message}")
                found = True
            sources.append(where)
            paragraphs.append(readable(message))
    with tempfile.NamedTemporaryFile("w", suffix=".md") as file:
        file.write("\n\n".join(paragraphs))
        file.flush()
        command = [os.environ["VALE"], "--output", "line", "--no-wrap", "--config", ".vale.ini", file.name]
        for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines():
            number, rest = line.removeprefix(file.name + ":").split(":", 1)
            print(f"{sources[(int(number) - 1) // 2]}: {rest}")
            found = True
    return found


sys.exit(main())
