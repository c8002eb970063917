"""The installed binaries are hardened as .bazelrc asks: what readelf says of them, not what the flags were."""

import os
import re
import subprocess
import tempfile
import unittest

from harness import ROOT, run

BIN = os.path.join(os.environ.get("WEIR_PREFIX") or os.path.join(ROOT, "out"), "bin")
PROGRAMS = ("weir-replica", "weir-volume", "weirctl", "weir-csi", "weir-nbd", "weir-fuse")
PLUGIN = "nbdkit-weir-plugin.so"
UNFORTIFIED = ("weirctl", "weir-csi", "weir-nbd", "weir-fuse", PLUGIN)


def readelf(flags, path):
    return run("readelf", flags, "--wide", path).stdout


def faults(path, library):
    """What keeps it from being hardened, in words."""
    header, segments = readelf("-h", path), readelf("-l", path)
    dynamic, symbols = readelf("-d", path), readelf("--dyn-syms", path)
    found = []
    if not re.search(r"Type:\s+DYN ", header):
        found.append("it is not position-independent")
    # A program says that it is one; a library just is.
    if not library and not re.search(r"FLAGS_1\).*\bPIE\b", dynamic):
        found.append("no PIE")
    if not re.search(r"FLAGS_1\).*\bNOW\b", dynamic):
        found.append("its symbols are bound lazily, so the table of them stays writable")
    if "GNU_RELRO" not in segments:
        found.append("no RELRO")
    stack = re.search(r"GNU_STACK\s.*?\s([RWE ]{3})\s+0x\w+$", segments, re.MULTILINE)
    if not stack or "E" in stack[1]:
        found.append("an executable stack")
    if re.search(r"LOAD\s.*\sRWE\s", segments):
        found.append("a segment that is writable and executable")
    if "__stack_chk_fail" not in symbols:
        found.append("no stack protector")
    # Elsewhere the compiler may have found no call whose buffer it knows.
    if os.path.basename(path) not in UNFORTIFIED and not re.search(r"\b__\w+_chk\b", symbols):
        found.append("no fortified calls")
    if re.search(r"\((RPATH|RUNPATH)\)", dynamic):
        found.append("it looks for libraries in folders of its own")
    return found


class HardeningTest(unittest.TestCase):
    def test_every_binary_is_hardened(self):
        for name in (*PROGRAMS, PLUGIN):
            with self.subTest(name):
                self.assertEqual(faults(os.path.join(BIN, name), name == PLUGIN), [])

    def test_one_that_is_not_is_found_out(self):
        with tempfile.TemporaryDirectory(prefix="weir-soft-") as folder:
            source, path = os.path.join(folder, "a.c"), os.path.join(folder, "a")
            with open(source, "w") as f:
                f.write("int main(void) { return 0; }\n")
            subprocess.run(["clang", "-no-pie", "-fno-stack-protector", "-Wl,-z,norelro,-z,lazy,-z,execstack", "-o", path, source],
                           check=True, capture_output=True)
            self.assertEqual(faults(path, False), [
                "it is not position-independent", "no PIE", "its symbols are bound lazily, so the table of them stays writable",
                "no RELRO", "an executable stack", "no stack protector", "no fortified calls"])


if __name__ == "__main__":
    unittest.main()
