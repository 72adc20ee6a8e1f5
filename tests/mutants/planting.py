"""A copy of the tree that has many faults at once, each behind a switch, and the test programs made of it.

The crate in the copy has `crate::chosen()`, the number of the fault that `BEIT_PLANTED` in the environment
names, asked once. One build serves all faults. Needs Python 3.11.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SWITCH = b'''
/// The number of the fault that is chosen; 0 is none.
#[inline]
pub fn chosen() -> usize {
    static CHOSEN: std::sync::LazyLock<usize> = std::sync::LazyLock::new(|| {
        std::env::var("BEIT_PLANTED").map_or(0, |text| text.parse().expect("a number"))
    });
    *CHOSEN
}
'''
# In KiB: a fault may ask for any amount.
MEMORY = 8 << 20


def output(*command, folder=ROOT):
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def commit():
    return output("git", "rev-parse", "--short", "HEAD").strip()


def sources():
    """The files of the working tree, by path."""
    named = output("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return {name: (ROOT / name).read_bytes() for name in named if name and (ROOT / name).is_file()}


def write(tree, files):
    """Makes the copy what `files` says; what is the same is not touched, for cargo's sake."""
    for part in ("src", "tests"):
        for path in (tree / part).rglob("*"):
            if path.is_file() and str(path.relative_to(tree)) not in files:
                path.unlink()
    for name, content in files.items():
        path = tree / name
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def build(tree, profile, programs):
    """Compiles test programs (`lib` is the library's own); where each is."""
    targets = [x for p in sorted(programs) for x in (["--lib"] if p == "lib" else ["--test", p])]
    command = ["cargo", "test", "--package", "beit", "--profile", profile, "--no-run", "--no-default-features"]
    command += [*targets, "--message-format=json-render-diagnostics"]
    made = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, text=True)
    if made.returncode:
        sys.exit("the faulty tree does not compile")
    found = {}
    for line in made.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message.get("profile", {}).get("test"):
            kind = message["target"]["kind"][0]
            found["lib" if kind == "lib" else message["target"]["name"]] = message["executable"]
    return found


def run(tree, executable, what, number, patience, every=False):
    """Names of the tests that ran and of those that failed, up to the first that did unless `every`.

    `(no end)` stands for a process that took longer than `patience` seconds, `(killed)` for one that
    something else ended, which says nothing, and `(the process died)` for any other end without a failure.
    """
    environment = os.environ | {"BEIT_PLANTED": str(number), "RUST_MIN_STACK": str(1 << 24)}
    # The limit of processor time also ends what goes on when this script was ended.
    limits = f"ulimit -v {MEMORY} && ulimit -S -t {int(patience) * (os.cpu_count() or 1)}"
    process = subprocess.Popen(
        ["bash", "-c", f'{limits} && exec "$0" "$@"', executable, what],
        cwd=tree, env=environment, text=True, errors="replace", start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    late = threading.Event()

    def end():
        late.set()
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(patience, end)
    timer.start()
    ran, failed = [], []
    try:
        for line in process.stdout:
            if found := re.match(r"test (\S+)(?: - should panic)? +\.\.\. (ok|FAILED)", line):
                ran.append(found[1])
                if found[2] == "FAILED":
                    failed.append(found[1])
                    if not every:
                        return ran, failed
        process.wait()
    finally:
        timer.cancel()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
    if process.returncode and not failed:
        killed = process.returncode == -signal.SIGKILL
        endless = late.is_set() or process.returncode == -signal.SIGXCPU
        failed = ["(no end)" if endless else "(killed)" if killed else "(the process died)"]
    return ran, failed
