"""What the lint test forbids, and where. Each rule has its reason; one that can give none may go."""

import re

# Habits are lower (style guide: .cc near 500, .h near 220, functions a screen). These are ceilings.
SOURCE_LINES_MAX = 700
TEST_LINES_MAX = 1000
HEADER_LINES_MAX = 320
FUNCTION_LINES_MAX = 100


class Rule:
    """`pattern` must not match a line of a file under `where`.

    Comments are not looked at, unless `comments`. `but`: files that may. `tests`:
    whether *_test files are held to it too.
    """

    def __init__(self, where, pattern, why, but=(), comments=False, tests=True, kinds=("cc", "h")):
        self.where = where
        self.pattern = re.compile(pattern)
        self.why = why
        self.but = but
        self.comments = comments
        self.tests = tests
        self.kinds = kinds

    def applies_to(self, path):
        kind = path.rsplit(".", 1)[-1] if "." in path.rsplit("/", 1)[-1] else "script"
        is_test = re.search(r"_test\.\w+$", path) is not None
        return (
            path.startswith(self.where)
            and kind in self.kinds
            and not any(path.startswith(b) for b in self.but)
            and (self.tests or not is_test)
        )


def includes(*names):
    return r'#include ["<](' + "|".join(names) + ")"


EVERY_KIND = ("cc", "h", "proto", "py", "sh", "script", "bazel", "bzl", "md", "txt")

RULES = [
    # Arrows between the layers.
    Rule("replica/", includes("volume/", "client/"), "replica and volume meet in proto/ only"),
    Rule("volume/", includes("replica/", "client/"), "volume knows replicas by the wire only"),
    Rule("volume/engine/", includes("volume/(host|catalog)/"), "the engine decides, the host carries"),
    Rule("volume/catalog/", includes("volume/host/"), "the catalog serves the host, not the reverse"),
    Rule("client/", includes("replica/"), "clients speak to frontends", but=("client/testing/",)),
    Rule("client/", includes("volume/"), "only the NBD plugin hosts the engine", but=("client/nbd/", "client/testing/")),
    Rule("proto/", includes("volume/", "replica/", "client/"), "proto is what all others depend on"),
    Rule("proto/base/", includes("grpc", "google/", ".*[.]pb[.]h", "rocksdb", "prometheus", "proto/wire"),
         "proto/base depends on Abseil and ISA-L alone", but=("proto/base/patient_fs",)),
    Rule("", includes("rocksdb/"), "RocksDB stays behind Store and Catalog",
         but=("replica/store/", "volume/catalog/", "proto/base/patient_fs", "tests/")),
    Rule("", includes("prometheus/"), "components declare metrics, the process exposes them",
         but=("replica/server/", "volume/host/", "proto/metrics/", "proto/monitor/", "tests/")),

    # The engine is pure: no wire, disk, thread, clock, dice or log.
    Rule("volume/engine/", includes("grpc", "google/protobuf", ".*[.]pb[.]h", "prometheus", "proto/wire/", "proto/base/log[.]h"),
         "the engine has no wire, no metrics and no log"),
    Rule("volume/engine/", includes("thread>", "mutex>", "shared_mutex>", "condition_variable>", "future>", "atomic>",
                                    "absl/synchronization/", "absl/base/thread_annotations"),
         "the engine runs under its host's mutex and starts no thread"),
    Rule("volume/engine/", includes("chrono>", "ctime>", "time[.]h>", "sys/", "unistd[.]h", "random>", "absl/random/",
                                    "absl/time/clock[.]h"),
         "the engine reads no clock and draws no random number", tests=False),
    Rule("volume/engine/", r"\babsl::(Now|SleepFor|GetCurrentTimeNanos)\b|\bs?rand\(|\bLOG\(|\bgetenv\(",
         "the engine reads no clock, draws no random number, logs nothing", tests=False),
    Rule("volume/engine/", includes("iostream>", "fstream>", "cstdio>"), "the engine does no I/O", tests=False),

    # Of what decides, or ends what would last for ever. RPC deadlines are given as a wall clock's time, and gRPC makes them its own at once.
    *(Rule(where, r"(?<!ToChronoTime\()\babsl::Now\(", "the wall clock may be set: SteadyNow() of proto/base/steady.h", tests=False,
           but=("volume/host/provision.cc", "volume/host/snapshots.cc", "volume/host/local_host.cc", "volume/host/options.cc",  # what others read or write
                "replica/server/io_stream.cc", "replica/server/replica.cc",  # how long something took, for metrics
                "volume/catalog/testing/"))
      for where in ("volume/host/", "volume/catalog/", "replica/server/", "client/weir/")),
    Rule("", r"\w(WithTimeout|WithDeadline)\(", "Abseil waits by the wall clock, which may be set: SteadyCondVar of proto/base/steady.h",
         tests=False,
         but=("tests/", "volume/catalog/testing/",
              "volume/host/attach.cc", "client/nbd/unanswered.cc", "client/nbd_device/netlink.cc")),  # for what comes by itself

    # Everywhere.
    Rule("", r"\babsl::(ErrnoToStatus|ErrnoToStatusCode)\b", "EIO and EOPNOTSUPP need proto/base/errno.h",
         but=("proto/base/errno",)),
    Rule("", r"^\s*throw\b", "no exceptions of ours: absl::Status or CHECK"),
    Rule("", r"\busing namespace std\b", "say std::"),
    Rule("", r"\b(class|struct) \w+(Impl|Manager|Util|Utils|Helper)\b", "a name that says what it is"),
    Rule("", r"\b(rand|srand)\(", "chance is seeded: <random> with a seed that is printed"),
    Rule("", r"\bsleep_for\b|\bSleepFor\(|\busleep\(", "a test waits for what it waits for, not for time",
         but=("volume/", "replica/", "client/", "proto/", "tests/bench/", "tests/system/cluster_fixture.h")),
    Rule("", r"\b(TODO|FIXME|XXX)\b", "do it, or open an issue", comments=True, kinds=EVERY_KIND, but=("tests/lint/",)),
    Rule("", r"/(work/main|work/shared|home/\w+|root/)", "no path of one machine", comments=True, kinds=EVERY_KIND,
         but=("tests/lint/",)),
    Rule("", r"visibility:public", "private by default, a package_group a layer", kinds=("bazel",),
         but=("third_party/", "client/weir/", "client/testing/")),  # what programs outside depend on
]
