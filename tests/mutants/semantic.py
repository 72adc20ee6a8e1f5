#!/usr/bin/env python3
"""Plants faults in what the program means and sees which test notices each. Needs Python 3.11.

    tests/mutants/semantic.py              all faults; writes tests/mutants/semantic_result.json
    tests/mutants/semantic.py NAME...      those whose name contains one of these
    tests/mutants/semantic.py --apply      plants them in the copy and stops: whether all still fit
    --profile dev                          the cargo profile; release where nothing is said
    --every                                all tests of a fault, not only up to the first that notices
    --add                                  keeps what the result has of faults that are not run

The result is written after every fault, so a run that is ended can be gone on with by --add.

`semantic.toml` has the list. The copy of the tree below target/ has all faults at once, each behind
`crate::chosen()` (planting.py), so that one build serves all of them. `old` must
stand in its file exactly once; in `new`, FAULT is whether this fault is chosen. A fault of an op is shown to
that op's cases and unit tests, another to the tests that `tests` names: a test program (`lib` is the
library's own), then a filter. Where a test program already fails without a fault, nothing is said about it.
Exits with 1 where a fault was missed that the list does not call equivalent.
"""

import argparse
import functools
import json
import pathlib
import re
import sys
import tomllib

import planting

HERE = pathlib.Path(__file__).resolve().parent
TREE = planting.ROOT / "target" / "mutants" / "semantic" / "tree"
RESULT = HERE / "semantic_result.json"
# A fault may make a loop endless.
PATIENCE = 900


def plant(faults, files):
    """Puts the faults into `files`; a list of what does not fit."""
    wrong, places = [], {}
    for number, fault in enumerate(faults, 1):
        source = files.get(fault["file"], b"").decode()
        count = source.count(fault["old"])
        if count != 1:
            wrong.append(f"{fault['name']}: {fault['file']} has {count} times: {fault['old']}")
            continue
        if not re.search(r"\bFAULT\b", fault["new"]):
            wrong.append(f"{fault['name']}: no FAULT in what is new")
        new = re.sub(r"\bFAULT\b", f"(crate::chosen() == {number})", fault["new"])
        start = source.index(fault["old"])
        places.setdefault(fault["file"], []).append((start, start + len(fault["old"]), new, fault["name"]))
    for file, edits in places.items():
        source, done, end = files[file].decode(), [], 0
        for start, stop, new, name in sorted(edits):
            if start < end:
                wrong.append(f"{name}: overlaps the fault before it in {file}")
                continue
            done += [source[end:start], new]
            end = stop
        files[file] = ("".join(done) + source[end:]).encode()
    files["src/lib.rs"] += planting.SWITCH
    names = [fault["name"] for fault in faults]
    wrong += [f"{name}: a name that occurs twice" for name in sorted({n for n in names if names.count(n) > 1})]
    return wrong


def programs_of(fault):
    """What a fault is shown to: (test program, filter)."""
    tests = list(fault.get("tests", []))
    if fault["file"].startswith("src/ops/"):
        op = re.split(r"[/.]", fault["file"].removeprefix("src/ops/"))[0]
        tests += [f"gradients {op}/", f"lib ops::{op}::", f"suite shapes::{op}_at"]
    return [tuple(test.split(maxsplit=1)) for test in dict.fromkeys(tests)]


def chosen(faults, names):
    """The faults to run, with their numbers."""
    return [(n, f) for n, f in enumerate(faults, 1) if not names or any(name in f["name"] for name in names)]


def judge(mine, arguments):
    """One result after the other."""
    found = planting.build(TREE, arguments.profile, {program for _, f in mine for program, _ in programs_of(f)})
    clean = {}
    for number, fault in mine:
        caught, seen = [], 0
        for program, what in programs_of(fault):
            run = functools.partial(planting.run, TREE, found[program], what, patience=PATIENCE)
            if (program, what) not in clean:
                clean[program, what] = run(0, every=True)
                if clean[program, what][1]:
                    print(f"{program} {what} fails without a fault: {clean[program, what][1]}", flush=True)
            ran, broken = clean[program, what]
            if not ran or broken:
                continue
            seen += len(ran)
            caught += [f"{program}: {name}" for name in run(number, every=arguments.every)[1]]
            if caught and not arguments.every:
                break
        state = "caught" if caught else "missed" if seen else "no test"
        if state == "missed" and "equivalent" in fault:
            state = "equivalent"
        print(f"{state:10} {fault['name']}  {caught[0] if caught else ''}", flush=True)
        yield {"name": fault["name"], "file": fault["file"], "state": state, "by": caught[:4]}


def record(faults, results):
    """Writes what is known of the faults that are listed."""
    listed = [results[f["name"]] for f in faults if f["name"] in results]
    states = [r["state"] for r in listed]
    counts = {state: states.count(state) for state in ("caught", "missed", "equivalent", "no test")}
    about = {"command": "tests/mutants/semantic.py", "commit": planting.commit()}
    about |= {"listed": len(faults), "run": len(listed)} | counts | {"faults": listed}
    RESULT.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    return counts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--profile", default="release")
    for flag in ("--apply", "--every", "--add"):
        parser.add_argument(flag, action="store_true")
    arguments = parser.parse_args()
    faults = tomllib.loads((HERE / "semantic.toml").read_text())["fault"]
    files = planting.sources()
    if wrong := plant(faults, files):
        sys.exit("\n".join(wrong))
    planting.write(TREE, files)
    print(f"{len(faults)} faults planted in {TREE}")
    if arguments.apply:
        return 0
    results = {}
    if arguments.add and RESULT.exists():
        results = {r["name"]: r for r in json.loads(RESULT.read_text())["faults"]}
    counts = {}
    for result in judge(chosen(faults, arguments.names), arguments):
        results[result["name"]] = result
        counts = record(faults, results)
    print(", ".join(f"{n} {state}" for state, n in counts.items()))
    return 1 if counts.get("missed", 0) + counts.get("no test", 0) else 0


if __name__ == "__main__":
    sys.exit(main())
