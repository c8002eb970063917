"""A short ops/chaos with a fixed seed; longer ones are for people."""

import os
import subprocess
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
# What a run may take beyond the minutes it is given: the last fault, healing, reading all of it.
SECONDS_MAX = 280


class ChaosTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Builds what the runs need, which is not to count as their time.
        subprocess.run([os.path.join(ROOT, "ops", "chaos"), "--list"], check=True, stdout=subprocess.DEVNULL)

    def chaos(self, *flags):
        done = subprocess.run([os.path.join(ROOT, "ops", "chaos"), *flags], text=True, capture_output=True,
                              timeout=SECONDS_MAX)
        return done.returncode, done.stdout, done.stderr

    def passes(self, *flags):
        code, said, why = self.chaos("--minutes=0.4", *flags)
        self.assertEqual(code, 0, said + why)
        sys.stdout.write(said[said.index("\nFAULT"):said.index("same schedule")] + "\n")

    def test_the_contract_holds_and_no_client_sees_an_error_while_everything_fails_in_turn(self):
        self.passes("--seed=1")

    def test_it_holds_while_a_volume_moves_between_frontends_and_etcd_fails(self):
        listed = self.chaos("--catalog=etcd", "--list")[1].splitlines()
        chosen = [name for name in listed if "move" in name or "etcd" in name or "two frontends" in name]
        self.assertGreater(len(chosen), 9, listed)
        self.passes("--catalog=etcd", "--seed=1", *(f"--only={name}" for name in chosen))

    def test_an_unknown_fault_is_refused(self):
        code, _, why = self.chaos("--only=meteorite")
        self.assertEqual(code, 2, why)
        self.assertIn("no fault is called 'meteorite'", why)


if __name__ == "__main__":
    unittest.main()
