#!/usr/bin/env python3
"""Mutates every backward pass in src/ops and src/layers, CPU side, with what it rests on, and the optimizer; and
sees whether the gradient checks notice. Needs cargo-mutants (cargo install cargo-mutants --locked) and Python 3.11.

    tests/mutants/mutants.py          all mutants; writes tests/mutants/result.json
    tests/mutants/mutants.py TEXT...  those whose file and change contain one of these
    --add                             keeps what is known of bodies that are the same; what was missed runs again
    --jobs 2                          how many run at a time
    --check                           compiles them, compares each with cargo-mutants' diff and stops

What is known is written after every mutant, so a run that is ended can be gone on with by --add.

A mutant of an op is judged by that op's own cases in tests/gradients.rs, one of a layer by the cases of
all layers, or of the models where the layer has none. What is missed there is tried again on the unit
tests beside the op, and then, of an op, on the cases of the models, which call what layers call: where forward and backward share a function, a mutant of it is another function
with a right gradient, which only numbers tell from the one that was meant. The optimizer has no gradient: it
is judged by the trajectory of tests/reference. A mutant that runs on without end is noticed, too. What no
change of a sign expresses, in calls of products above all, is in tests/mutants/semantic.toml.

The copy of the tree below target/ has all mutants at once (schemata.py), so that one build serves all of them.
In it
* `simd_fn!` is taken off the functions of src/ops: cargo-mutants does not look inside macros, and
  all instruction sets of such a function give the same bits;
* the table of src/ops/mod.rs is followed by the modules that it makes, for the same reason;
* src/main.rs is missing;
* the checks of debug builds are on: what overflows, ends.
"""

import argparse
import concurrent.futures
import functools
import hashlib
import json
import os
import re
import subprocess
import sys
import time

import planting
import schemata
import summarise

WORK = planting.ROOT / "target" / "mutants" / "all"
# Where cargo-mutants looks and where what does not compile is found; what is built, which only changes with the
# sources.
DRAFT, TREE = WORK / "draft", WORK / "tree"
PROFILE = b"""
[profile.mutants]
inherits = "dev"
opt-level = 1
debug = false
incremental = false
[profile.mutants.package."*"]
opt-level = 3
"""
FILES = ["--file", "src/ops/**", "--file", "src/layers/**", "--exclude", "**/cuda.rs", "--exclude", "**/case.rs"]
# Backward passes, what only they call, how they are cut and where rows lie; the optimizer and the norm.
CHOSEN = re.compile(
    r"backward|norm_param_row|add_norm_param_grads|add_norm_input_grads|add_weight_gradient|flip"
    r"|exp_in_place|scale_row|scale_and_subtract|logarithms|clamped|bias_row"
    r"|in range$|in columns|replace columns|ConvertOp for Cpu|ResampleOp for Cpu|linear_gelu_forward"
    r"|Dims::(group|tasks|scale)|Keep<|Geometry::(span|pad|pitch|bands|rows|padded)|replace add with"
    r"|AdamW::bias_corrections|AdamWOp for Cpu|(in|replace) (update|average)( |$)|GlobalNormOp|Compact<"
)
# Cases; functions whose values are asked of constructors that do not exist (`Tensor::new()`) or of a default
# that numbers do not have, which never compile.
LEFT_OUT = re.compile(
    r"impl Case for|replace (large_|empty_)?cases?|Default::default\(\)"
    r"|(Tensor|Master|Losses|Range|Cow|[A-Za-z]*Cache)::(new|from|from_iter)\("
)


def unrolled(source):
    """A file with the functions of `simd_fn!` outside of it."""
    done, inside = [], False
    for line in source.split("\n"):
        if re.fullmatch(r"(crate::)?simd_fn! \{", line):
            inside = True
        elif inside and line == "}":
            inside = False
        elif inside:
            line = line.removeprefix("    ")
            done.append(re.sub(r"^((?:pub )?fn [a-z_0-9]+)<T>\(", r"\1<T: crate::real::Real>(", line))
        else:
            done.append(line)
    return "\n".join(done)


def prepared():
    """The files of the copy, as cargo-mutants is to see them."""
    files = planting.sources()
    del files["src/main.rs"]
    manifest = files["Cargo.toml"].decode()
    manifest = re.sub(r"^default-run = .*\n", "", manifest, flags=re.M)
    manifest = re.sub(r"^\[\[bin\]\]\n(?:.+\n)*", "", manifest, flags=re.M)
    files["Cargo.toml"] = manifest.encode() + PROFILE
    for name in files:
        if name.startswith("src/ops/") and name.endswith(".rs"):
            files[name] = unrolled(files[name].decode()).encode()
    table = files["src/ops/mod.rs"].decode()
    modules = re.findall(r"^    ([a-z0-9_]+): [A-Za-z0-9]+Op,$", table, re.M)
    if not modules:
        sys.exit("no table of ops in src/ops/mod.rs")
    table = re.sub(r"^ *\$\(pub mod \$op;\)\*\n", "", table, flags=re.M)
    files["src/ops/mod.rs"] = (table + "".join(f"pub mod {module};\n" for module in modules)).encode()
    return files


def listed():
    """The mutants that cargo-mutants makes of the copy, of which those that are chosen."""
    mutants = json.loads(planting.output("cargo", "mutants", "--list", "--json", "--diff", *FILES, folder=DRAFT))
    return [m for m in mutants if CHOSEN.search(m["name"]) and not LEFT_OUT.search(m["name"])]


def judges(file):
    """What the mutants of a file are shown to, until one notices: (test program, filter)."""
    unit = file.removeprefix("src/").removesuffix(".rs").removesuffix("/cpu").replace("/", "::")
    lib = ("lib", f"{unit}::")
    if file == "src/ops/adamw.rs":
        return [("reference", "06_optim::adamw"), lib]
    if file.startswith("src/ops/"):
        own = re.split(r"[/.]", file.removeprefix("src/ops/"))[0] + "/"
        return [("gradients", own), lib, ("gradients", "model_")]
    beside = (planting.ROOT / file).parent.glob((planting.ROOT / file).stem + "*")
    texts = [p.read_text() for b in beside for p in ([b] if b.is_file() else b.rglob("*.rs"))]
    return [("gradients", "layer_" if any("impl Case for" in text for text in texts) else "model_"), lib]


class Bench:
    """The test programs of the faulty tree."""

    def __init__(self):
        self.programs = planting.build(TREE, "mutants", {"gradients", "lib", "reference"})

    @functools.cache
    def patience(self, program, what):
        """Seconds that a run may take, from one without a fault; none where there are no such tests."""
        start = time.monotonic()
        ran, failed = planting.run(TREE, self.programs[program], what, 0, 3600)
        if failed or not ran and program != "lib":
            sys.exit(f"{program} {what}: {failed or 'no test'} without a fault")
        return max(60.0, 20 * (time.monotonic() - start)) if ran else None

    def judge(self, number, file):
        """What becomes of a mutant, and the test that says so."""
        for program, what in judges(file):
            if patience := self.patience(program, what):
                failed = planting.run(TREE, self.programs[program], what, number, patience)[1]
                if failed:
                    return {"(no end)": "timeout", "(killed)": "killed"}.get(failed[0], "caught"), program, failed[0]
        return "missed", "", ""


def identity(mutant, body):
    return hashlib.sha256("\n".join([mutant["file"], mutant["name"].split(": ", 1)[1], body]).encode()).hexdigest()


def outcomes(waiting, jobs):
    """What becomes of numbered mutants, in order: (identity, mutant, outcome)."""
    bench, now = Bench(), planting.commit()

    def judge(item):
        number, mutant, name = item
        start = time.monotonic()
        state, *by = bench.judge(number, mutant["file"])
        seconds = round(time.monotonic() - start, 1)
        return name, mutant, {"state": state, "by": by, "seconds": seconds, "commit": now}

    pool = concurrent.futures.ThreadPoolExecutor(jobs)
    try:
        yield from pool.map(judge, waiting)
    finally:
        pool.shutdown(cancel_futures=True)


def compiled():
    """Makes the copy with all mutants that compile."""
    files = prepared()
    planting.write(DRAFT, files)
    made = schemata.Schemata(files, listed())
    made.compile(DRAFT, TREE)
    print(f"{len(made.mutants)} mutants in {TREE}, {len(made.unviable)} of which do not compile", flush=True)
    return made


def parsed():
    parser = argparse.ArgumentParser()
    parser.add_argument("texts", nargs="*")
    parser.add_argument("--jobs", type=int, default=1)
    for flag in ("--add", "--check"):
        parser.add_argument(flag, action="store_true")
    return parser.parse_args()


def main():
    arguments = parsed()
    if subprocess.run(["cargo", "mutants", "--version"], stdout=subprocess.DEVNULL).returncode:
        sys.exit("cargo install cargo-mutants --locked")
    os.nice(5)
    made = compiled()
    if arguments.check:
        return 0
    known = WORK / "outcomes.json"
    kept = json.loads(known.read_text()) if arguments.add and known.exists() else {}
    result = summarise.Result(made.files, made.mutants)
    waiting = []
    for number, mutant in enumerate(made.mutants, 1):
        name = identity(mutant, made.bodies[number])
        if number in made.unviable:
            result.add(mutant, {"state": "unviable", "by": [], "seconds": 0.0, "commit": planting.commit()})
            continue
        if name in kept:
            result.add(mutant, kept[name])
        wanted = not arguments.texts or any(text in mutant["name"] for text in arguments.texts)
        if wanted and kept.get(name, {}).get("state", "missed") == "missed":
            waiting.append((number, mutant, name))
    for name, mutant, outcome in outcomes(waiting, arguments.jobs):
        print(f"{outcome['state']:8} {outcome['seconds']:6} s {mutant['name']}  {outcome['by'][1]}", flush=True)
        # A process that something else ended says nothing.
        if outcome["state"] != "killed":
            kept[name] = outcome
            known.write_text(json.dumps(kept))
            result.add(mutant, outcome)
            result.write()
    return result.report()


if __name__ == "__main__":
    sys.exit(main())
