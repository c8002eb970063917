#!/usr/bin/python3
"""Checks the tree against rules.py: the layers, sizes, and words that must not be.

  lint.py            the checkout that this file lies in; prints what is wrong, exit code 1
  lint.py --self-test    that each kind of rule catches what it should
"""

import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True

import rules  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def tracked_files():
    """What git has, or would add."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"],
        check=True, capture_output=True, text=True)
    return [p for p in listed.stdout.splitlines() if os.path.isfile(os.path.join(ROOT, p))]


def without_comments(lines):
    """Good enough for C++ as we write it: // comments, and no /* */ that spans code."""
    return [re.sub(r"//(?!.*\").*$", "", line) for line in lines]


def check_rules(path, lines):
    plain = without_comments(lines) if path.endswith((".cc", ".h")) else lines
    for rule in rules.RULES:
        if not rule.applies_to(path):
            continue
        for number, line in enumerate(lines if rule.comments else plain, 1):
            if rule.pattern.search(line):
                yield f"{path}:{number}: {line.strip()[:80]}: {rule.why}"


def check_size(path, lines):
    if not path.endswith((".cc", ".h")):
        return
    ceiling = rules.SOURCE_LINES_MAX
    if path.endswith(".h"):
        ceiling = rules.HEADER_LINES_MAX
    elif path.endswith("_test.cc"):
        ceiling = rules.TEST_LINES_MAX
    if len(lines) > ceiling:
        yield f"{path}: {len(lines)} lines, ceiling {ceiling}: split it by subject"


def check_functions(path, lines):
    """A body begins on an unindented line that ends in '{' and ends with an unindented '}'."""
    if not path.endswith((".cc", ".h")) or path.endswith("_test.cc"):
        return
    begin, head = None, ""
    for number, line in enumerate(without_comments(lines), 1):
        if line[:1] not in (" ", "}", "", "#") and begin is None:
            head = line
        if begin is None and line.endswith("{") and line[:1] != "}":
            if not re.match(r"(namespace|class|struct|enum|union|extern|constexpr|const|static const|inline constexpr)\b", head):
                begin = number
        elif begin is not None and line.startswith("}"):
            if number - begin > rules.FUNCTION_LINES_MAX:
                yield f"{path}:{begin}: function of {number - begin} lines, ceiling {rules.FUNCTION_LINES_MAX}"
            begin = None


def check_guard(path, lines):
    if path.endswith(".h"):
        guard = "WEIR_" + re.sub(r"[/.]", "_", path).upper() + "_"
        if f"#ifndef {guard}" not in lines:
            yield f"{path}: header guard should be {guard}"


def check_readmes(paths):
    folders = {os.path.dirname(p) for p in paths if p.endswith((".cc", ".h", ".py")) or os.path.basename(p) == "BUILD.bazel"}
    for folder in sorted(folders):
        if folder and not folder.startswith("third_party") and folder.count("testdata") == 0:
            # A folder may leave it to the one above, if that is no layer's root.
            if not any(f"{f}/README.md" in paths for f in (folder, os.path.dirname(folder))):
                yield f"{folder}: no README.md: purpose, main types, what it may depend on, where to start"


def lint():
    paths = tracked_files()
    problems = list(check_readmes(set(paths)))
    for path in paths:
        if path.startswith("third_party/rules_"):
            continue
        try:
            with open(os.path.join(ROOT, path), encoding="utf-8") as f:
                lines = f.read().split("\n")
        except UnicodeDecodeError:
            continue  # Recorded test data.
        for check in (check_rules, check_size, check_functions, check_guard):
            problems += check(path, lines)
    for problem in problems:
        print(problem)
    print(f"lint: {len(paths)} files, {len(problems)} problems")
    return 1 if problems else 0


# (path, line, whether it must be caught)
SAMPLES = [
    ("volume/engine/queue.cc", '#include "weir/v1/volume.pb.h"', True),
    ("volume/engine/queue.cc", "#include <mutex>", True),
    ("volume/engine/queue.cc", "  auto now = absl::Now();", True),
    ("volume/engine/queue.cc", "  // unlike absl::Now(), this is virtual", False),
    ("volume/engine/queue_test.cc", "#include <fstream>", False),
    ("volume/host/timer.cc", "  const absl::Time now = absl::Now();", True),
    ("volume/host/timer.cc", "  context.set_deadline(absl::ToChronoTime(absl::Now() + deadline));", False),
    ("volume/host/timer.cc", "  changed_.WaitWithTimeout(&mu_, left);", True),
    ("volume/host/timer_test.cc", "  done.WaitForNotificationWithTimeout(left);", False),
    ("volume/engine/queue.cc", "#include <fstream>", True),
    ("volume/host/host.cc", '#include "replica/store/store.h"', True),
    ("volume/host/host.cc", "#include <mutex>", False),
    ("volume/host/host.cc", '#include "rocksdb/db.h"', True),
    ("replica/store/store.cc", '#include "rocksdb/db.h"', False),
    ("replica/server/server.cc", '#include "volume/engine/types.h"', True),
    ("client/cli/main.cc", '#include "volume/host/host.h"', True),
    ("client/nbd/plugin.cc", '#include "volume/host/host.h"', False),
    ("client/nbd/plugin.cc", '#include "replica/store/store.h"', True),
    ("client/testing/cluster.cc", '#include "replica/server/server.h"', False),
    ("proto/base/errno.cc", "#include <grpcpp/grpcpp.h>", True),
    ("proto/base/errno.cc", "  return absl::ErrnoToStatusCode(error);", False),
    ("volume/host/io.cc", "  return absl::ErrnoToStatusCode(error);", True),
    ("volume/host/io.cc", "class StreamManager {", True),
    ("volume/host/io.cc", "  // TO" + "DO: later", True),
    ("ops/cluster", "bin = '/ho" + "me/me/bin'", True),
    ("tests/system/a.cc", "  absl::SleepFor(absl::Seconds(1));", True),
    ("volume/host/BUILD.bazel", 'visibility = ["//visibility:public"]', True),
]


def self_test():
    wrong = [
        (path, line) for path, line, caught in SAMPLES
        if bool(list(check_rules(path, [line]))) != caught
    ]
    long_function = ["int F() {"] + ["  x();"] * (rules.FUNCTION_LINES_MAX + 1) + ["}"]
    if not list(check_functions("a/b.cc", long_function)):
        wrong.append(("a/b.cc", "a function that is too long"))
    if list(check_functions("a/b.cc", ["class C {"] + ["  x;"] * 200 + ["};"])):
        wrong.append(("a/b.cc", "a class is not a function"))
    if not list(check_guard("a/b.h", ["#ifndef B_H"])):
        wrong.append(("a/b.h", "a wrong guard"))
    for path, what in wrong:
        print(f"self-test: wrong verdict on {path}: {what}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(self_test() if "--self-test" in sys.argv[1:] else lint())
