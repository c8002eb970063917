"""Tables by hand: a member leaves, stays out and is brought back, as OPERATIONS.md says; and what weirctl says to programs."""

import base64
import json
import os
import re
import shlex
import tempfile

import harness
from harness import ROOT, run, wait_until

BLOCK = 4096


class TableTest(harness.ClusterTest):
    up_flags = ("--size=64MiB",)

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="weir-table-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def json(self, *arguments):
        return json.loads(self.cluster.weirctl(*arguments, "--output=json").stdout)

    def state(self, replica):
        targets = self.json("volume", "show", "demo")["table"]["targets"]
        return next(t["state"] for t in targets if t["replica"] == replica)

    def operations(self):
        """The commands of OPERATIONS.md, "Taking a member out"."""
        with open(os.path.join(ROOT, "OPERATIONS.md")) as f:
            section = f.read().split("**Taking a member out**")[1]
        commands = re.findall(r"^    (weirctl .*)$", section.split("\n\n")[1], re.MULTILINE)
        self.assertEqual([c.split()[1:3] for c in commands],
                         [["volume", "suspend"], ["table", "show"], ["table", "load"], ["volume", "resume"]])
        return commands

    def swap(self, replica, old, new):
        """Runs them, and writes `new` where `old` stands, as the comment there asks for."""
        weirctl = shlex.join([os.path.join(self.cluster.env["BIN"], "weirctl"), f"--cluster={self.cluster.dir}"])
        for command in self.operations():
            run("sh", "-ec", command.replace("weirctl", weirctl, 1), cwd=self.folder)
            if " table show " not in command:
                continue
            path = os.path.join(self.folder, "table.txt")
            with open(path) as f:
                text = f.read()
            changed = re.sub(rf"( {replica} \S+) {old}$", rf"\1 {new}", text, flags=re.MULTILINE)
            self.assertNotEqual(changed, text)
            with open(path, "w") as f:
                f.write(changed)

    def test_a_member_that_was_taken_out_is_brought_back_by_a_table_that_says_joining(self):
        handle = self.cluster.connect()
        handle.pwrite(b"a" * BLOCK, 0)
        self.swap("replica2", "in_sync", "out")
        self.assertEqual(self.state("replica2"), "out")
        handle.pwrite(b"b" * BLOCK, 0)
        handle.flush()
        self.assertIn("load a table that says it is joining", " ".join(self.cluster.weirctl("explain", "demo").stdout.split()))
        self.assertEqual(self.state("replica2"), "out")
        self.swap("replica2", "out", "joining")
        wait_until(lambda: self.state("replica2") == "in_sync", 60, "replica2 is in sync again")
        # It has what was written without it: all replicas have the same.
        scrub = self.json("scrub", "demo", "--wait")
        self.assertEqual((scrub["state"], scrub["bytes_done"], scrub["bad_blocks"]), ("finished", str(64 << 20), "0"))
        self.assertEqual(handle.pread(BLOCK, 0), b"b" * BLOCK)

    def test_what_answers_nothing_is_a_json_object_too(self):
        done = lambda result: {"volume": "small", "result": result}
        self.cluster.weirctl("volume", "create", "small", "--size=16MiB")
        self.assertEqual(self.json("volume", "attach", "small"), done("attached"))
        self.assertEqual(self.json("volume", "suspend", "small"), done("suspended"))
        table = os.path.join(self.folder, "table.json")
        with open(table, "w") as f:
            json.dump(self.json("table", "show", "small"), f)
        self.assertEqual(self.json("table", "load", "small", f"--file={table}"), done("loaded"))
        self.assertEqual(self.json("volume", "resume", "small"), done("resumed"))
        self.cluster.weirctl("io", "write", "small", "--length=8KiB", "--pattern=0x5a")
        read = self.json("io", "read", "small", "--offset=4KiB", "--length=8KiB")
        self.assertEqual(base64.b64decode(read.pop("data")), b"\x5a" * BLOCK + bytes(BLOCK))
        self.assertEqual(read, {"volume": "small", "offset_bytes": BLOCK, "length_bytes": 2 * BLOCK})
        self.cluster.weirctl("snapshot", "create", "small@one")
        self.assertEqual(self.json("snapshot", "delete", "small@one"), {**done("deleted"), "snapshot": "one"})
        self.assertEqual(self.json("volume", "detach", "small"), done("detached"))
        self.assertEqual(self.json("volume", "delete", "small"), done("deleted"))

    def test_a_drill_is_one_json_object(self):
        said = self.json("chaos", "demo", "--replica=replica3", "--duration=1s")
        self.assertEqual((said["volume"], said["replica"], said["fault"]), ("demo", "replica3", "out"))
        states = {when: {t["replica"]: t["state"] for t in said[when]["table"]["targets"]}
                  for when in ("before", "during", "after")}
        self.assertEqual(states["during"], {"replica1": "in_sync", "replica2": "in_sync", "replica3": "out"})
        self.assertEqual(set(states["after"].values()) | set(states["before"].values()), {"in_sync"})
        self.assertGreater(said["during"]["flushes"], 0)
        self.assertGreater(said["after"]["in_sync_after_ms"], 0)
