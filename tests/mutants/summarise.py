"""Counts what tests/mutants.sh left in its folders and writes tests/mutants/result.json.

A mutant that the gradient checks missed and a unit test beside the op caught counts as caught and is
listed. A test process that was killed says nothing about its mutant and counts as not run. A mutant
counts as equivalent where tests/mutants/equivalent.json has it, by file, function, change and source line, with
the reason. Exits with 1 where a mutant was missed that is not listed there, where one that is listed was
caught, or where one timed out. `run` below `mutants` says that a share was run, not all.
"""

import json
import pathlib
import re
import subprocess
import sys

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


def main(folders):
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
    equivalent = json.loads((HERE / "equivalent.json").read_text())
    reasons = {json.dumps(e["mutant"], sort_keys=True): e["reason"] for e in equivalent}
    key = lambda m: json.dumps(m, sort_keys=True)
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
        # Calls of other passes alone, in which cargo-mutants finds nothing to change.
        "files_without_mutant": [s for s in sources if s not in mutated],
    }
    (HERE / "result.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    counts = {k: v for k, v in result.items() if isinstance(v, int)}
    print(", ".join(f"{v} {k}" for k, v in counts.items()))
    for title, found in (("missed", missed), ("listed as equivalent, but caught", refuted)):
        for m in found:
            print(f"{title}: {m['file']}: {m['change']}\n    {m['line']}   at: {m['at']}")
    return 1 if missed or refuted or by_summary["Timeout"] else 0


sys.exit(main([pathlib.Path(p) for p in sys.argv[1:]]))
