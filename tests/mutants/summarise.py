"""What is said of the mutants: tests/mutants/result.json.

A mutant that the gradient checks missed and a unit test beside the op caught counts as caught and is
listed. One that runs on without end counts as caught and is listed, too. A mutant counts as equivalent where
tests/mutants/equivalent.json has it, by file, function, change and source line, with the reason. `run` below
`mutants` says that the run was ended or was of some. `commits` counts the outcomes of each commit.
"""

import collections
import json
import pathlib
import re
import tomllib

import planting

HERE = pathlib.Path(__file__).resolve().parent
VERSIONS = [("cargo", "mutants", "--version"), ("rustc", "--version")]


def entry(files, mutant):
    """One mutant as it is listed: no line number, which the next commit changes."""
    start = mutant["span"]["start"]
    line = files[mutant["file"]].decode().split("\n")[start["line"] - 1]
    change = re.sub(r"^\S+?:\d+:\d+: ", "", mutant["name"])
    # Which of several signs of the line: the text from there on.
    rest = line[start["column"] - 1 :]
    return {"file": mutant["file"], "change": change, "line": line.strip(), "at": rest[:24].strip()}


def key(listed):
    return json.dumps(listed, sort_keys=True)


def processor():
    try:
        return re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        return "unknown"


def files_without_mutant(mutants):
    """Calls of other passes alone, in which cargo-mutants finds nothing to change, and how many faults of
    semantic.toml each has."""
    mutated = {mutant["file"] for mutant in mutants}
    faulty = [fault["file"] for fault in tomllib.loads((HERE / "semantic.toml").read_text())["fault"]]
    sources = sorted(
        str(path.relative_to(planting.ROOT))
        for part in ("ops", "layers")
        for path in (planting.ROOT / "src" / part).rglob("*.rs")
        if path.name not in ("cuda.rs", "case.rs", "mod.rs") and "backward" in path.read_text()
    )
    return {source: faulty.count(source) for source in sources if source not in mutated}


class Result:
    """What is known so far of the mutants of the files."""

    def __init__(self, files, mutants):
        self.files, self.mutants = files, mutants
        self.listed = [entry(files, mutant) for mutant in mutants]
        equivalent = json.loads((HERE / "equivalent.json").read_text())
        self.reasons = {key(e["mutant"]): e["reason"] for e in equivalent}
        # By the name that cargo-mutants gives.
        self.outcomes = {}
        self.about = {
            "command": "tests/mutants/mutants.py",
            "commit": planting.commit(),
            "versions": [planting.output(c, *cs).strip() for c, *cs in VERSIONS],
            "machine": processor(),
            "mutants": len(mutants),
        }
        self.unmutated = files_without_mutant(mutants)

    def add(self, mutant, outcome):
        self.outcomes[mutant["name"]] = outcome

    def known(self):
        """Each mutant of which something is known, as it is listed, with its state and what said so."""
        for mutant, listed in zip(self.mutants, self.listed):
            if outcome := self.outcomes.get(mutant["name"]):
                state = outcome["state"]
                if state == "missed" and key(listed) in self.reasons:
                    state = "equivalent"
                yield listed, state, outcome

    def write(self):
        known, by_state, files = list(self.known()), collections.defaultdict(list), {}
        for listed, state, _ in known:
            by_state[state].append(listed)
            row = files.setdefault(listed["file"], {"caught": 0, "not_caught": 0, "unviable": 0})
            row[{"timeout": "caught", "missed": "not_caught", "equivalent": "not_caught"}.get(state, state)] += 1
        counts = {state: len(by_state[state]) for state in ("missed", "equivalent", "unviable", "timeout")}
        result = self.about | {"run": len(known), "caught": len(by_state["caught"]) + len(by_state["timeout"])} | counts
        result |= {
            "commits": collections.Counter(outcome["commit"] for _, _, outcome in known),
            "seconds_per_mutant": round(sum(o["seconds"] for _, _, o in known) / max(len(known), 1), 1),
            "missed_mutants": by_state["missed"],
            "timed_out_mutants": by_state["timeout"],
            "equivalent_mutants": [m | {"reason": self.reasons[key(m)]} for m in by_state["equivalent"]],
            "caught_by_unit_tests_alone": [m for m, s, o in known if s == "caught" and o["by"][0] == "lib"],
            "unviable_mutants": by_state["unviable"],
            "files": dict(sorted(files.items())),
            "files_without_mutant": self.unmutated,
        }
        (HERE / "result.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        return result

    def report(self):
        """Says what was found; 1 where a mutant was missed that is not known as equivalent, or where one that is
        was caught or is no longer among the mutants."""
        result = self.write()
        print(", ".join(f"{v} {k}" for k, v in result.items() if isinstance(v, int)))
        for m in result["missed_mutants"]:
            print(f"missed: {m['file']}: {m['change']}\n    {m['line']}   at: {m['at']}")
        refuted = [m for m, state, _ in self.known() if state != "equivalent" and key(m) in self.reasons]
        for m in refuted:
            print(f"listed as equivalent, but not missed: {m['file']}: {m['change']}\n    {m['line']}   at: {m['at']}")
        gone = self.reasons.keys() - {key(m) for m in self.listed}
        for text in sorted(gone):
            print(f"listed as equivalent, but no mutant: {text}")
        return 1 if result["missed_mutants"] or refuted or gone else 0
