"""ops/test, once the packages are there. See ops/test for the options."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

FUZZ_SECONDS = 60


class Count:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.lock = threading.Lock()

    def add(self, passed, failed, skipped=0):
        with self.lock:
            self.passed += passed
            self.failed += failed
            self.skipped += skipped


def events(path):
    with open(path) as f:
        return [json.loads(line) for line in f if line.strip()]


def cases(xml_path):
    """(passed, failed, skipped) of one GoogleTest report, or of Bazel's stand-in for others."""
    try:
        tree = xml.etree.ElementTree.parse(xml_path)
    except (OSError, xml.etree.ElementTree.ParseError):
        return 0, 0, 0
    passed = failed = skipped = 0
    for case in tree.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None or case.get("status") == "notrun":
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def count_targets(path, count):
    """Adds up what Bazel's event file says of each test target."""
    for event in events(path):
        result = event.get("testResult")
        if result is None:
            continue
        label = event["id"]["testResult"]["label"]
        reports = [o["uri"] for o in result.get("testActionOutput", []) if o["name"] == "test.xml"]
        totals = [cases(urllib.parse.unquote(urllib.parse.urlparse(uri).path)) for uri in reports]
        passed, failed, skipped = (sum(column) for column in zip(*totals)) if totals else (0, 0, 0)
        if result["status"] != "PASSED" and failed == 0:
            failed = 1  # It crashed, or ran out of time, before it could say.
        elif result["status"] == "PASSED" and passed == 0 and skipped == 0:
            passed = 1
        count.add(passed, failed, skipped)
        print(f"{'PASS' if failed == 0 else 'FAIL'} {label}: {passed} passed, {failed} failed")


def fuzz_labels():
    return [f"//tests/fuzz:{name}" for name in sorted(os.listdir(os.path.join(ROOT, "tests", "fuzz", "corpus")))]


def unit(config, also, count):
    """`also`: what `//...` leaves out, built meanwhile, since tests mostly wait and compilers do not."""
    print("ops/test: unit tests and lint (a first build takes some minutes)", flush=True)
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = ["bazel", "test", "//...", "--keep_going", "--show_progress", "--curses=no",
                   "--show_progress_rate_limit=30", "--test_summary=none",
                   # More than there are cores, since some tests mostly wait.
                   "--local_cpu_resources=HOST_CPUS*1.5", f"--build_event_json_file={report.name}"]
        code = subprocess.run(command + config + also, cwd=ROOT).returncode
        before = count.failed
        count_targets(report.name, count)
        # 3: some test failed, and is counted. Everything else is trouble of the build itself.
        if code not in (0, 3) or (code == 3 and count.failed == before):
            print(f"FAIL bazel test //...: exit code {code}")
            count.add(0, 1)


def install(count):
    if subprocess.run([os.path.join(ROOT, "ops", "install")]).returncode == 0:
        return True
    print("FAIL ops/install")
    count.add(0, 1)
    return False


def start(*command):
    return subprocess.Popen([os.path.join(ROOT, *command[:1]), *command[1:]],
                            stdout=subprocess.PIPE, text=True, errors="replace")


def show(child, pattern):
    """Passes on what it prints, to its end; the numbers of the last line that fits, or None."""
    found = None
    for line in child.stdout:
        print(line, end="", flush=True)
        found = re.match(pattern, line) or found
    code = child.wait()
    if found is None:
        print(f"FAIL {child.args[0]}: exit code {code}")
    return found and [int(group) for group in found.groups()]


def show_system(child, count):
    numbers = show(child, r"system: (\d+) passed, (\d+) failed, (\d+) skipped")
    count.add(*(numbers or (0, 1)))


def show_fuzz(child, count):
    numbers = show(child, r"ops/fuzz: (\d+) targets, (\d+) with a finding")
    targets, findings = numbers or (1, 1)
    count.add(targets - findings, findings)


def fuzz_and_system(fuzzes, systems, full, count):
    """Side by side: fuzz targets run while real processes mostly wait."""
    children = []
    if systems and install(count):
        print("ops/test: real processes", flush=True)
        child = start("tests/system/run", f"--jobs={min(os.cpu_count() + 3, 6)}", *(["--full"] if full else []))
        children.append((show_system, child))
    if fuzzes:
        print(f"ops/test: fuzz targets, {FUZZ_SECONDS} s each", flush=True)
        # They take what the others leave, and enough to end no input for being slow.
        children.append((show_fuzz, start("ops/fuzz", f"--seconds={FUZZ_SECONDS}", f"--jobs={2 * os.cpu_count()}", "--nice=10")))
    threads = [threading.Thread(target=show_one, args=(child, count))
               for show_one, child in children]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main():
    parser = argparse.ArgumentParser(prog="ops/test")
    parser.add_argument("--unit", action="store_true")
    parser.add_argument("--system", action="store_true")
    parser.add_argument("--fuzz", action="store_true")
    parser.add_argument("--config", choices=["asan", "tsan"])
    parser.add_argument("--full", action="store_true")
    arguments = parser.parse_args()
    count = Count()
    begun = time.monotonic()
    everything = not (arguments.unit or arguments.fuzz or arguments.system or arguments.config)
    if everything or arguments.unit or arguments.config:
        config = [f"--config={arguments.config}"] if arguments.config else []
        also = fuzz_labels() if everything else []
        if arguments.full:
            also.append("//tests/mutation:mutation_test")
        unit(config, also, count)
    fuzz_and_system(everything or arguments.fuzz, everything or arguments.system,
                    arguments.full, count)
    minutes, seconds = divmod(int(time.monotonic() - begun), 60)
    print(f"ops/test: {minutes} min {seconds} s, {count.skipped} skipped")
    print(f"{count.passed} passed, {count.failed} failed")
    return 1 if count.failed or not count.passed else 0


if __name__ == "__main__":
    sys.exit(main())
