"""A replica that no frontend was told of makes itself known, is shown as gone, and is no other one's copy."""

import json
import os
import shutil
import subprocess
import unittest

import harness
from harness import wait_until


class RegistrationTest(harness.ClusterTest):
    up_flags = ("--size=64MiB",)

    def start(self, name, folder, log):
        path = os.path.join(self.cluster.dir, log)
        with open(path, "w") as out:
            process = subprocess.Popen(
                [os.path.join(self.cluster.env["BIN"], "weir-replica"), f"--name={name}", "--listen=127.0.0.1:0",
                 f"--data_dirs={folder}", f"--frontends=127.0.0.1:1,{self.cluster.env['VOLUME_ADDR']}",
                 "--labels=zone=far", "--registration_lease=2s"],
                stdout=out, stderr=subprocess.STDOUT)
        self.addCleanup(self.end, process)
        return process, path

    def end(self, process):
        if process.poll() is None:
            process.terminate()
            process.wait(60)

    def shown(self, name):
        listed = json.loads(self.cluster.weirctl("replica", "list", "--output=json").stdout)
        rows = listed if isinstance(listed, list) else next(iter(listed.values()))
        return next((row for row in rows if row["name"] == name), {})

    def log_has(self, path, words):
        with open(path, errors="replace") as f:
            return words in f.read()

    def test_a_replica_comes_goes_and_is_not_taken_for_its_older_copy(self):
        folder, older = (os.path.join(self.cluster.dir, name) for name in ("extra", "older"))
        os.mkdir(folder)
        process, _ = self.start("extra", folder, "extra.log")
        wait_until(lambda: self.shown("extra").get("state") == "SERVING", 20, "it is known")
        self.assertEqual(self.shown("extra")["labels"], {"zone": "far"})
        self.end(process)
        wait_until(lambda: self.shown("extra").get("state") == "GONE", 20, "it is gone")
        self.assertEqual(self.shown("extra")["labels"], {"zone": "far"})
        shutil.copytree(folder, older)

        process, _ = self.start("extra", folder, "again.log")
        wait_until(lambda: self.shown("extra").get("state") == "SERVING", 20, "it is back")
        process.kill()
        process.wait(60)
        wait_until(lambda: self.shown("extra").get("state") == "GONE", 20, "it was killed, and its lease is over")
        _, log = self.start("extra", older, "older.log")
        wait_until(lambda: self.log_has(log, "older copy"), 20, "the older copy of its directory is refused")
        self.assertEqual(self.shown("extra")["state"], "GONE")


if __name__ == "__main__":
    unittest.main()
