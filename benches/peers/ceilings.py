"""The ceilings of `beit bench report` beside those of other tools on the same machine: sgemm and dgemm of
OpenBLAS (NumPy's) at the same shapes, the rate of bare multiply-adds on registers, which no product can
exceed, and a triad, both in C++ (g++ -O3 -march=native).

Usage: python ceilings.py REPORT.json [--seconds S] [--tolerance 0.1]

Needs NumPy and g++. OpenBLAS picks its kernels by the name of the processor and may miss its AVX-512: every
kernel family that runs here is tried, the fastest counts, and its name is printed. On a shared machine
run this right after the report, when nothing else runs. The status is 1 where a ceiling is farther than the
tolerance from every other tool.
"""
import argparse, json, os, subprocess, sys, tempfile

GEMM = """
import json, sys, time
import numpy as np
seconds, shapes, best = float(sys.argv[1]), json.loads(sys.argv[2]), {}
for name, kind in (("sgemm", np.float32), ("dgemm", np.float64)):
    for m, k, n in shapes[name]:
        a, b = (np.random.default_rng(0).standard_normal(s).astype(kind) for s in ((m, k), (k, n)))
        c = np.empty((m, n), kind)
        np.matmul(a, b, out=c)
        start, runs = time.perf_counter(), 0
        while runs < 6 or time.perf_counter() - start < seconds:
            t = time.perf_counter()
            np.matmul(a, b, out=c)
            t, runs = time.perf_counter() - t, runs + 1
            best[name] = max(best.get(name, 0.0), 2e-9 * m * k * n / t)
print(best["sgemm"], best["dgemm"])
"""

TRIAD = """
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>
static void part(double* __restrict a, const double* __restrict b, const double* __restrict c, size_t n) {
    for (size_t i = 0; i < n; i++) a[i] = b[i] + 3.0 * c[i];
}
int main(int, char** argv) {
    const size_t n = 1 << 24, threads = atoi(argv[1]), runs = 7 + 50 * atof(argv[2]);
    std::vector<double> a(n, 0.0), b(n, 1.0), c(n, 2.0);
    std::atomic<size_t> arrived{0};
    double best = 1e9;
    // The same threads throughout: new ones may share a core until the system has spread them.
    auto work = [&](size_t t) {
        // Pieces in turn, so that all threads work on the same few pages of memory at a time.
        size_t goal = 0, piece = 1 << 16;
        auto meet = [&] {
            for (arrived++, goal += threads; arrived < goal;) {}
        };
        for (size_t run = 0; run < runs; run++) {
            meet();
            auto start = std::chrono::steady_clock::now();
            for (size_t i = t * piece; i < n; i += threads * piece) part(&a[i], &b[i], &c[i], piece);
            meet();
            std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
            if (t == 0 && run && took.count() < best) best = took.count();
        }
    };
    std::vector<std::thread> all;
    for (size_t t = 1; t < threads; t++) all.emplace_back(work, t);
    work(0);
    for (auto& t : all) t.join();
    printf("%f %f\\n", 24e-9 * n / best, a[n / 2]);
}
"""

FMA = """
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>
// Twelve chains of multiply-adds on 64 bytes each: enough to hide their latency.
template <class T> static void part(long rounds, T* out) {
    typedef T V __attribute__((vector_size(64)));
    V x[12], a, b;
    for (unsigned i = 0; i < 64 / sizeof(T); i++) a[i] = T(0.999), b[i] = T(0.001);
    for (auto& v : x) v = a;
    for (long r = 0; r < rounds; r++)
        for (auto& v : x) v = v * a + b;
    for (int i = 1; i < 12; i++) x[0] += x[i];
    *out = x[0][0];
}
template <class T> static double rate(size_t threads, double seconds) {
    const long rounds = 2000000;
    double best = 0, total = 0;
    std::vector<T> out(64 * threads);
    while (total < seconds) {
        auto start = std::chrono::steady_clock::now();
        std::vector<std::thread> all;
        for (size_t t = 1; t < threads; t++) all.emplace_back(part<T>, rounds, &out[64 * t]);
        part<T>(rounds, &out[0]);
        for (auto& t : all) t.join();
        std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
        total += took.count();
        double now = 2e-9 * 12 * (64 / sizeof(T)) * rounds * threads / took.count();
        if (now > best) best = now;
    }
    return best;
}
int main(int, char** argv) {
    const size_t threads = atoi(argv[1]);
    const double seconds = atof(argv[2]);
    const double single = rate<float>(threads, seconds);
    printf("%f %f\\n", single, rate<double>(threads, seconds));
}
"""


def openblas(threads, seconds, shapes):
    """Best rates of sgemm and dgemm at any of the shapes, and the kernels that gave them."""
    best = {}
    for core in ("", "HASWELL", "ZEN", "SKYLAKEX", "COOPERLAKE", "SAPPHIRERAPIDS"):
        env = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        if core:
            env["OPENBLAS_CORETYPE"] = core
        command = [sys.executable, "-c", GEMM, str(seconds), json.dumps(shapes)]
        run = subprocess.run(command, env=env, capture_output=True, text=True)
        if run.returncode:  # This processor cannot run these kernels.
            continue
        for name, rate in zip(("sgemm", "dgemm"), map(float, run.stdout.split())):
            best[name] = max(best.get(name, (0.0, "")), (rate, core or "its own choice"))
    return best


def compiled(text, threads, seconds):
    """The numbers that a C++ program prints."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = os.path.join(folder, "peer.cc"), os.path.join(folder, "peer")
        with open(source, "w") as file:
            file.write(text)
        compiler = ["g++", "-O3", "-march=native", "-pthread", source, "-o", program]
        subprocess.run(compiler, check=True)
        out = subprocess.run([program, str(threads), str(seconds)], capture_output=True, text=True, check=True)
    return list(map(float, out.stdout.split()))


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("report")
    a.add_argument("--seconds", type=float, default=0.8, help="of each measurement")
    a.add_argument("--tolerance", type=float, default=0.1)
    o = a.parse_args()
    with open(o.report) as file:
        ceilings = [c for c in json.load(file)["ceilings"] if c["threads"]]
    best, shapes = {}, {}
    for c in ceilings:
        key = (c["threads"], c["name"])
        best[key] = max(best.get(key, 0.0), c["best"])
        if "gemm" in c["name"]:
            shapes.setdefault(c["name"], []).append([int(n) for n in c["shape"].split(" x ")])
    near = dict.fromkeys(best, False)
    print(f"{'ceiling':8} {'threads':>7} {'beit':>9} {'other':>9}  {'unit':8} {'ratio':>5}  other tool")
    for threads in sorted({threads for threads, _ in best}):
        gemm = openblas(threads, o.seconds, shapes)
        other = [(name, rate, f"OpenBLAS ({core})") for name, (rate, core) in sorted(gemm.items())]
        # In turn and several times: what other programs leave of the memory changes by the minute.
        rounds = [compiled(FMA, threads, o.seconds) + compiled(TRIAD, threads, o.seconds)[:1] for _ in range(5)]
        single, double, bandwidth = map(max, zip(*rounds))
        other += [("sgemm", single, "C++ multiply-adds"), ("dgemm", double, "C++ multiply-adds")]
        other.append(("triad", bandwidth, "C++ triad"))
        for name, rate, tool in other:
            ours, unit = best[threads, name], "GB/s" if name == "triad" else "GFLOP/s"
            near[threads, name] |= abs(ours / rate - 1) <= o.tolerance
            print(f"{name:8} {threads:7} {ours:9.1f} {rate:9.1f}  {unit:8} {ours / rate:5.2f}  {tool}")
    sys.exit(not all(near.values()))


main()
