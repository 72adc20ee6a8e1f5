"""Counts what tests/mutants.sh left in its folders and writes tests/mutants/result.json.

A mutant that the gradient checks missed and a unit test beside the op caught counts as caught and is
listed. A test process that was killed says nothing about its mutant and counts as not run. A mutant
counts as equivalent where tests/mutants/equivalent.json has it, by file, function, change and source line, with
the reason. `--again` adds a later run of those that were missed, with its commit. Exits with 1 where a mutant was missed that is not listed there, where one that is listed was
caught, or where one timed out. `run` below `mutants` says that a share was run, not all.
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent


def output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def mutant(folder, outcome):
    """One mutant as it is listed: no line number, which the next commit changes."""
    m = outcome["scenario"]["Mutant"]
    start = m["span"]["start"]
    line = (folder / m["file"]).read_text().splitlines()[start["line"] - 1]
    change = re.sub(r"^\S+?:\d+:\d+: ", "", m["name"])
    # Which of several signs of the line: the text from there on.
    rest = line[start["column"] - 1 :]
    return {"file": m["file"], "change": change, "line": line.strip(), "at": rest[:24].strip()}


def processor():
    try:
        return re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        return "unknown"


def missed(file=None):
    """Files of the mutants listed as missed, or of one file arguments that choose them."""
    listed = json.loads((HERE / "result.json").read_text())["missed_mutants"]
    if file is None:
        return sorted({m["file"] for m in listed})
    return [part for m in listed if m["file"] == file for part in ("--re", re.escape(m["change"]) + "$")]


def collect(folders):
    by_summary = {"CaughtMutant": [], "UnitTest": [], "MissedMutant": [], "Unviable": [], "Timeout": []}
    seconds, chosen, version, by_unit_tests = 0.0, set(), "none", set()
    for folder in folders:
        chosen |= set((folder / "mutants").read_text().splitlines())
        for path in folder.glob("unit/*/mutants.out/outcomes.json"):
            for outcome in json.loads(path.read_text())["outcomes"]:
                if outcome["summary"] == "CaughtMutant":
                    by_unit_tests.add(outcome["scenario"]["Mutant"]["name"])
        for path in sorted(folder.glob("out/*/mutants.out/outcomes.json")):
            ran = json.loads(path.read_text())
            version = ran["cargo_mutants_version"]
            for outcome in ran["outcomes"]:
                if "SIGKILL" in (path.parent / outcome["log_path"]).read_text():
                    continue
                name = outcome["scenario"]["Mutant"]["name"]
                missed = outcome["summary"] == "MissedMutant"
                summary = "UnitTest" if missed and name in by_unit_tests else outcome["summary"]
                by_summary[summary].append(mutant(folder, outcome))
                seconds += sum(phase["duration"] for phase in outcome["phase_results"])
    return by_summary, seconds, chosen, version


def add_again(folders):
    """Moves what another run caught out of the list of the missed."""
    result = json.loads((HERE / "result.json").read_text())
    found = collect(folders)[0]
    equivalent = {key(e["mutant"]): e["reason"] for e in json.loads((HERE / "equivalent.json").read_text())}
    now = {key(m): name for name, all in found.items() for m in all}
    still, again = [], []
    for m in result["missed_mutants"]:
        if now.get(key(m)) in ("CaughtMutant", "UnitTest"):
            again.append(m | {"by": "gradients" if now[key(m)] == "CaughtMutant" else "unit tests"})
        elif key(m) in equivalent:
            result["equivalent_mutants"].append(m | {"reason": equivalent[key(m)]})
        else:
            still.append(m)
    result["missed_mutants"] = still
    result["caught_again"] = result.get("caught_again", []) + again
    result["commit_again"] = output("git", "rev-parse", "--short", "HEAD")
    result["caught"] += len(again)
    result["missed"], result["equivalent"] = len(still), len(result["equivalent_mutants"])
    return result


def key(m):
    return json.dumps(m, sort_keys=True)


def main(folders):
    by_summary, seconds, chosen, version = collect(folders)
    equivalent = json.loads((HERE / "equivalent.json").read_text())
    reasons = {json.dumps(e["mutant"], sort_keys=True): e["reason"] for e in equivalent}
    missed = [m for m in by_summary["MissedMutant"] if key(m) not in reasons]
    excused = [m for m in by_summary["MissedMutant"] if key(m) in reasons]
    refuted = [m for m in by_summary["CaughtMutant"] if key(m) in reasons]
    run = sum(map(len, by_summary.values()))
    per_file = {}
    for name, found in by_summary.items():
        for m in found:
            row = per_file.setdefault(m["file"], dict.fromkeys(by_summary, 0))
            row[name] += 1
    sources = sorted(
        str(p.relative_to(ROOT))
        for part in ("ops", "layers")
        for p in (ROOT / "src" / part).rglob("*.rs")
        if p.name not in ("cuda.rs", "case.rs", "mod.rs") and "backward" in p.read_text()
    )
    mutated = {m.split(":")[0] for m in chosen}
    faulty = [fault["file"] for fault in tomllib.loads((HERE / "semantic.toml").read_text())["fault"]]
    result = {
        "command": "tests/mutants.sh",
        "commit": output("git", "rev-parse", "--short", "HEAD"),
        "versions": [f"cargo-mutants {version}", output("rustc", "--version")],
        "machine": processor(),
        "mutants": len(chosen),
        "run": run,
        "caught": len(by_summary["CaughtMutant"]) + len(by_summary["UnitTest"]),
        "missed": len(missed),
        "equivalent": len(excused),
        "unviable": len(by_summary["Unviable"]),
        "timeout": len(by_summary["Timeout"]),
        "seconds_per_mutant": round(seconds / max(run, 1), 1),
        "missed_mutants": missed,
        "timed_out_mutants": by_summary["Timeout"],
        "equivalent_mutants": [m | {"reason": reasons[key(m)]} for m in excused],
        "caught_by_unit_tests_alone": by_summary["UnitTest"],
        "unviable_mutants": by_summary["Unviable"],
        "files": {
            f: {"caught": r["CaughtMutant"] + r["UnitTest"], "not_caught": r["MissedMutant"] + r["Timeout"], "unviable": r["Unviable"]}
            for f, r in sorted(per_file.items())
        },
        # Calls of other passes alone, in which cargo-mutants finds nothing to change, and how many faults of
        # semantic.toml each has.
        "files_without_mutant": {s: faulty.count(s) for s in sources if s not in mutated},
    }
    write(result)
    for m in refuted:
        print(f"listed as equivalent, but caught: {m['file']}: {m['change']}\n    {m['line']}   at: {m['at']}")
    return 1 if missed or refuted or by_summary["Timeout"] else 0


def write(result):
    (HERE / "result.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    counts = {k: v for k, v in result.items() if isinstance(v, int)}
    print(", ".join(f"{v} {k}" for k, v in counts.items()))
    for m in result["missed_mutants"]:
        print(f"missed: {m['file']}: {m['change']}\n    {m['line']}   at: {m['at']}")


if sys.argv[1:2] == ["--missed"]:
    print("\n".join(missed(*sys.argv[2:])))
elif sys.argv[1:2] == ["--again"]:
    result = add_again([pathlib.Path(p) for p in sys.argv[2:]])
    write(result)
    sys.exit(1 if result["missed_mutants"] else 0)
else:
    sys.exit(main([pathlib.Path(p) for p in sys.argv[1:]]))
