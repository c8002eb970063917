"""What ops/install puts beside the binaries: manual pages and bash's completion, which agree with the programs."""

import os
import re
import subprocess
import unittest

from harness import ROOT, run
from weir_ops import man

PREFIX = os.path.abspath(os.environ.get("WEIR_PREFIX") or os.path.join(ROOT, "out"))
BIN = os.path.join(PREFIX, "bin")
FLAG = r"(?:^|[\s,])(--[a-z][a-z_-]*)"


def shown(name):
    """The page as man shows it, without its formatting."""
    page = os.path.join(PREFIX, "share", "man", "man1", name + ".1")
    return run("groff", "-man", "-ww", "-Tascii", "-P-cbou", "-rLL=200n", page)


def helps(program, *command):
    """(command, its help), and of each command below it."""
    text = man.help_of(os.path.join(BIN, program), *command)
    yield command, text
    for name in re.findall(r"^  ([a-z-]+)", text.partition("Subcommands:\n")[2].partition("\n\n")[0], re.MULTILINE):
        yield from helps(program, *command, name)


class ManTest(unittest.TestCase):
    def test_each_program_has_a_page_with_each_of_its_flags(self):
        for name in man.PROGRAMS:
            page = shown(name)
            self.assertEqual(page.stderr, "", name)
            known = set(re.findall(FLAG, page.stdout))
            for command, text in helps(name):
                with self.subTest(program=name, command=command):
                    flags = set(re.findall(r"^ +(?:-h,)?(--[a-z][a-z_-]*)", text, re.MULTILINE))
                    self.assertTrue(flags)
                    self.assertLessEqual(flags - {"--help"}, known)
                    self.assertIn(" ".join((name, *command)), page.stdout)

    def test_a_description_comes_with_its_flag(self):
        self.assertRegex(shown("weir-replica").stdout,
                         r"--data_dirs\n +comma-separated directories, one per disk; each is a flush\s+domain\.")
        self.assertRegex(shown("weir-replica").stdout, r"weir-replica probe\n +says what can be seen of the disk")
        self.assertRegex(shown("weirctl").stdout, r"weirctl volume create\n +make an empty volume\n")


class CompletionTest(unittest.TestCase):
    def complete(self, *words):
        """What bash would offer for the last of `words`."""
        path = os.path.join(PREFIX, "share", "bash-completion", "completions", words[0])
        function = "_" + words[0].replace("-", "_")
        script = (f'. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); {function}; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        environment = dict(os.environ, PATH=BIN + ":" + os.environ["PATH"])
        done = subprocess.run(["bash", "-c", script, "bash", path, *words], text=True, capture_output=True, env=environment, timeout=60)
        self.assertEqual(done.stderr, "")
        return done.stdout.split()

    def test_it_offers_what_may_come_next(self):
        for words, offered in (
                (("weirctl", "vol"), ["volume"]),
                (("weirctl", "volume", "sus"), ["suspend"]),
                (("weirctl", "--cluster", "=", "/tmp/x", "volume", "cre"), ["create"]),
                (("weirctl", "volume", "create", "demo", "--min"), ["--min-in-sync"]),
                (("weirctl", "volume", "create", "demo", "--out"), ["--output"]),
                (("weirctl", "--output", "=", "j"), ["json"]),
                (("weirctl", "--output", "="), ["table", "json"]),
                (("weirctl", "nonsense", "x"), []),
                (("weir-replica", "pr"), ["probe"]),
                (("weir-replica", "--data"), ["--data_dirs"]),
                (("weir-replica", "probe", "--sec"), ["--seconds"]),
                (("weir-replica", "probe", "/dev/sh"), ["/dev/shm"])):
            with self.subTest(words=words):
                self.assertEqual(self.complete(*words), offered)

    def test_every_command_is_known(self):
        text = run(os.path.join(BIN, "weirctl"), "--help").stdout
        commands = re.findall(r"^  ([a-z-]+)", text.partition("Subcommands:\n")[2].partition("\n\n")[0], re.MULTILINE)
        self.assertIn("volume", commands)
        self.assertEqual(self.complete("weirctl", ""), commands)


if __name__ == "__main__":
    unittest.main()
