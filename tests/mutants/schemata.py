"""All mutants of cargo-mutants in one tree: the body of a function is a choice among its mutated bodies.

A mutated body is cut out of the file that cargo-mutants' own diff gives, so it is what cargo-mutants compiles.
"""

import json
import re
import subprocess
import sys

import planting

# What has no braces that count, and the braces.
TOKEN = re.compile(
    r"""//[^\n]*|/\*.*?\*/|\br(?P<hashes>\#*)".*?"(?P=hashes)|"(?:\\.|[^"\\])*"|'(?:\\[^']+|\\'|[^\\'])'|[{}]""",
    re.S,
)
HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@")


def patched(text, diff):
    """The text after a unified diff, all of whose context has to fit."""
    lines, done, at = text.split("\n"), [], 0
    for line in diff.removesuffix("\n").split("\n")[2:]:
        if hunk := HUNK.match(line):
            start = int(hunk[1]) - 1
            done += lines[at:start]
            at = start
        elif line[:1] == "+":
            done.append(line[1:])
        else:
            if at >= len(lines) or lines[at] != line[1:]:
                sys.exit(f"a diff of cargo-mutants does not fit: {line}")
            if line[:1] == " ":
                done.append(line[1:])
            at += 1
    return "\n".join(done + lines[at:])


def position(text, place):
    """The index in the text of a line and column, both from 1."""
    lines = text.split("\n")
    return sum(len(line) + 1 for line in lines[: place["line"] - 1]) + place["column"] - 1


def body(text, function):
    """Where the body of a function begins, with its brace, and where it ends."""
    start, end = (position(text, function["span"][side]) for side in ("start", "end"))
    open_braces = []
    for token in TOKEN.finditer(text, start, end):
        if token[0] == "{":
            open_braces.append(token.start())
        elif token[0] == "}" and open_braces:
            opened = open_braces.pop()
            if token.end() == end and not open_braces:
                return opened, end
    sys.exit(f"no body found of {function['function_name']}")


class Schemata:
    """The files of a tree and the mutants in them: number `n` is `mutants[n - 1]`."""

    def __init__(self, files, mutants):
        self.files, self.mutants = files, mutants
        self.unviable = set()
        # By file: where the bodies are, and the numbers of the mutants of each.
        self.places = {}
        # By number: the mutated body.
        self.bodies = {}
        for number, mutant in enumerate(mutants, 1):
            text = files[mutant["file"]].decode()
            start, end = body(text, mutant["function"])
            whole = patched(text, mutant["diff"])
            rest = len(text) - end
            if whole[:start] != text[:start] or whole[len(whole) - rest :] != text[end:]:
                sys.exit(f"changes more than a body: {mutant['name']}")
            self.bodies[number] = whole[start : len(whole) - rest]
            self.places.setdefault(mutant["file"], {}).setdefault((start, end), []).append(number)

    def planted(self, file):
        """The text with the mutants that compile, and the lines (from 0) of each, by number."""
        text = self.files[file].decode()
        parts, lines, done, line = [], {}, 0, 0

        def add(part):
            nonlocal line
            parts.append(part)
            line += part.count("\n")

        for (start, end), numbers in sorted(self.places[file].items()):
            if start < done:
                sys.exit(f"{file}: a function in a function, both with mutants")
            add(text[done:start] + "{ match crate::chosen() {\n")
            for number in numbers:
                if number not in self.unviable:
                    first = line
                    add(f"{number} =>\n{self.bodies[number]}\n")
                    lines[number] = range(first + 1, line)
            add(f"_ => {text[start:end]}\n}} }}")
            done = end
        add(text[done:])
        return "".join(parts), lines

    def write(self, tree):
        """Writes the tree; where each mutant is: by file, the lines of each number."""
        files, where = dict(self.files), {}
        for file in self.places:
            text, where[file] = self.planted(file)
            files[file] = text.encode()
        files["src/lib.rs"] += planting.SWITCH
        planting.write(tree, files)
        return where

    def compare(self, tree, where):
        """Asks of every body in the written tree that in its function's place it gives cargo-mutants' file."""
        for file, places in self.places.items():
            text, written = self.files[file].decode(), (tree / file).read_text().split("\n")
            for (start, end), numbers in places.items():
                for number in set(numbers) - self.unviable:
                    lines = where[file][number]
                    arm = "\n".join(written[lines.start : lines.stop])
                    if text[:start] + arm + text[end:] != patched(text, self.mutants[number - 1]["diff"]):
                        sys.exit(f"not what cargo-mutants makes: {self.mutants[number - 1]['name']}")

    def compile(self, draft, tree):
        """Finds in a draft what does not compile, leaves it out until the rest does, and writes the tree."""
        while found := self.wrong(draft, self.write(draft)):
            print(f"{len(found)} mutants do not compile", flush=True)
            self.unviable |= found
        self.compare(tree, self.write(tree))

    def wrong(self, tree, where):
        """Numbers of the mutants in which the compiler finds errors."""
        command = ["cargo", "check", "--lib", "--no-default-features", "--message-format=json"]
        made = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        found, other = set(), []
        for line in made.stdout.splitlines():
            message = json.loads(line).get("message")
            if message and message["level"] == "error" and message["spans"]:
                spans = [place for span in message["spans"] if span["is_primary"] for place in chain(span)]
                hit = {
                    number
                    for span in spans
                    for number, lines in where.get(span["file_name"], {}).items()
                    if span["line_start"] - 1 in lines
                }
                found |= hit
                other += [] if hit else [message["rendered"]]
        if made.returncode and not found:
            sys.exit("the tree does not compile:\n" + "\n".join(other))
        return found


def chain(span):
    """A place and, where it is inside a macro, the places that the macro is called from."""
    while span:
        yield span
        span = (span["expansion"] or {}).get("span")
