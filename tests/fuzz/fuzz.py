"""ops/fuzz, once the packages are there. See ops/fuzz for how to use it."""

import argparse
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
SEEDS = os.path.join(ROOT, "tests", "fuzz", "corpus")
# No input of a few KiB may need more; what comes from outside must not make us hold more.
LIMITS = ["-timeout=20", "-rss_limit_mb=1024", "-malloc_limit_mb=256", "-max_len=16384"]
# A run that does not end by itself is a finding too.
OVERTIME_SECONDS = 120


def targets():
    return sorted(os.listdir(SEEDS))


def build(names):
    labels = [f"//tests/fuzz:{name}" for name in names]
    print(f"ops/fuzz: building {len(names)} targets", flush=True)
    # Without what gold says of each symbol of the sanitizers.
    command = ["bazel", "build", "--ui_event_filters=-info", "--show_progress", "--curses=no",
               "--show_progress_rate_limit=30", *labels]
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        sys.exit("ops/fuzz: the build failed")
    found = subprocess.run(["bazel", "info", "bazel-bin"], cwd=ROOT, check=True,
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return os.path.join(found.stdout.strip(), "tests", "fuzz")


class Run:
    """One target, being fuzzed."""

    def __init__(self, name, binaries, work, seconds):
        self.name = name
        self.binary = os.path.join(binaries, name)
        self.findings = os.path.join(work, "findings", name)
        self.log_path = os.path.join(work, f"{name}.log")
        self.deadline = time.monotonic() + seconds + OVERTIME_SECONDS
        corpus = os.path.join(work, "corpus", name)
        for folder in (corpus, self.findings):
            os.makedirs(folder, exist_ok=True)
        self.begun = time.time()
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [self.binary, f"-max_total_time={seconds}", "-print_final_stats=1", *LIMITS,
                 f"-artifact_prefix={self.findings}/", corpus, os.path.join(SEEDS, name)],
                stdout=subprocess.DEVNULL, stderr=log)

    def done(self):
        if self.process.poll() is None and time.monotonic() > self.deadline:
            self.process.kill()
            self.process.wait()
        return self.process.poll() is not None

    def log(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def figures(self):
        """(inputs tried, edges covered, inputs kept, MiB at the peak), as far as it has said."""
        log = self.log()
        steps = re.findall(r"^#(\d+)\s.*cov: (\d+) .*corp: (\d+)/.*rss: (\d+)Mb", log, re.M)
        tried, covered, kept, peak = (int(n) for n in (steps[-1] if steps else (0, 0, 0, 0)))
        total = re.search(r"^stat::number_of_executed_units:\s*(\d+)", log, re.M)
        return int(total.group(1)) if total else tried, covered, kept, peak

    def found(self):
        """Files with inputs that this run has failed on."""
        paths = (os.path.join(self.findings, name) for name in os.listdir(self.findings))
        return sorted(p for p in paths if os.path.getmtime(p) >= self.begun - 1)

    def failed(self):
        return self.process.returncode != 0

    def report_failure(self):
        print(f"\nFINDING in {self.name} (exit code {self.process.returncode}), from {self.log_path}:")
        lines = self.log().splitlines()
        starts = [i for i, line in enumerate(lines)
                  if re.search(r"ERROR:|CHECK failed|runtime error:|DEADLYSIGNAL", line)]
        first = starts[0] if starts else max(0, len(lines) - 30)
        print("\n".join(lines[first:first + 30]))
        for path in self.found():
            print(f"replay: ops/fuzz --target={self.name} --replay={path}")


def fuzz(names, binaries, work, seconds, jobs):
    waiting, running, ended = list(names), [], []
    told = time.monotonic()
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(Run(waiting.pop(0), binaries, work, seconds))
        time.sleep(0.2)
        for run in [r for r in running if r.done()]:
            running.remove(run)
            ended.append(run)
            if run.failed():
                run.report_failure()
        if time.monotonic() - told >= 10:
            told = time.monotonic()
            state = ", ".join("{} {} inputs, {} edges".format(r.name, *r.figures()[:2]) for r in running)
            print(f"ops/fuzz: {len(ended)} of {len(names)} done; {state}", flush=True)
    return ended


def table(ended, seconds):
    print(f"\n{'target':<18} {'inputs':>10} {'per s':>8} {'edges':>6} {'kept':>6} {'MiB':>5}  verdict")
    for run in sorted(ended, key=lambda r: r.name):
        tried, covered, kept, peak = run.figures()
        verdict = "FINDING" if run.failed() else "clean"
        print(f"{run.name:<18} {tried:>10} {tried / max(seconds, 1):>8.0f} {covered:>6} {kept:>6} "
              f"{peak:>5}  {verdict}")


def main():
    parser = argparse.ArgumentParser(prog="ops/fuzz", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--target", action="append", choices=targets(), help="only this one; again for more")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="targets at a time")
    parser.add_argument("--work", default=os.path.expanduser("~/.weir/fuzz"),
                        help="where inputs that reach new code, findings and logs are kept")
    parser.add_argument("--replay", metavar="FILE", help="run one target on one input, and show what happens")
    parser.add_argument("--nice", type=int, default=0, help="how much other processes go first, 0 to 19")
    arguments = parser.parse_args()
    names = arguments.target or targets()
    if arguments.seconds < 1 or arguments.jobs < 1:
        parser.error("--seconds and --jobs must be at least 1")
    if not 0 <= arguments.nice <= 19:
        parser.error("--nice must be 0 to 19")
    if arguments.replay and len(names) != 1:
        parser.error("--replay needs --target")
    binaries = build(names)
    if arguments.replay:
        return subprocess.run([os.path.join(binaries, names[0]), *LIMITS, arguments.replay]).returncode
    os.nice(arguments.nice)
    ended = fuzz(names, binaries, arguments.work, arguments.seconds, arguments.jobs)
    table(ended, arguments.seconds)
    findings = sum(run.failed() for run in ended)
    print(f"ops/fuzz: {len(ended)} targets, {findings} with a finding; kept in {arguments.work}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
