"""What ops/install puts beside the binaries, manual pages and bash's completion, and OPERATIONS.md's flags agree with the programs."""

import os
import re
import subprocess
import unittest

from harness import ROOT, run
from weir_ops import man

PREFIX = os.path.abspath(os.environ.get("WEIR_PREFIX") or os.path.join(ROOT, "out"))
BIN = os.path.join(PREFIX, "bin")
# Of flags, and of the code: seconds, bytes.
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "MiB": 1 << 20,
         "Milliseconds": 0.001, "Seconds": 1, "Minutes": 60, "Hours": 3600, "": 1}
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


def flags_of(text):
    """{flag: default} of a help; "" where it says none. Of two spellings the first one."""
    found = {}
    for title, entries in man.parse(text)[1]:
        if title == "Options":
            for head, what in entries:
                name = re.search(r"--[a-z][a-z_-]*", head)[0]
                default = re.search(r"\(default: ([^()]*)\)$", what) or re.search(r"=([^\s,]+)$", head)
                found[name] = default[1].strip('"') if default else ""
    for of_any_program in ("--help", "--version"):
        found.pop(of_any_program, None)
    return found


def parameters():
    """Those of the plugin, as it says them to programs."""
    shown = run("nbdkit", "--dump-plugin", os.path.join(BIN, man.PLUGIN + ".so")).stdout
    return set(re.findall(r"^weir_key_(\w+)=", shown, re.MULTILINE))


def operations(program):
    """(text, {flag: default}) of a program's part of OPERATIONS.md, "Every flag"."""
    with open(os.path.join(ROOT, "OPERATIONS.md")) as f:
        section = f.read().split("\n## Every flag\n")[1].split("\n## ")[0]
    part = section.split(f"\n### {program}\n")[1].split("\n### ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| (?:`([^`]*)`)?[^|]* \| \S.* \|$", part, re.MULTILINE)
    names = re.findall(r"^\| `([^`]+)` ", part, re.MULTILINE)
    assert len(names) == len(rows) and len(set(names)) == len(names), (program, names)
    return re.sub(r"^\|.*\n", "", part, flags=re.MULTILINE), dict(rows)


class OperationsTest(unittest.TestCase):
    """OPERATIONS.md, "Every flag"."""

    def test_it_has_every_flag_with_its_default_and_no_other(self):
        for program in (*man.PROGRAMS, "weir-replica probe"):
            with self.subTest(program=program):
                name, *command = program.split()
                flags = flags_of(man.help_of(os.path.join(BIN, name), *command))
                self.assertTrue(flags)
                _, table = operations(program)
                self.assertEqual(set(table), set(flags))
                said = {flag: default for flag, default in flags.items() if default not in ("", "false")}
                self.assertEqual({flag: table[flag] for flag in said}, said)

    def test_the_defaults_of_a_frontend_which_it_does_not_say_are_those_of_the_code(self):
        with open(os.path.join(ROOT, "volume", "host", "host.h")) as f:
            options = f.read().split("struct HostOptions {")[1].split("\n};")[0]
        _, table = operations("weir-volume")
        found = re.findall(r"^  (?:absl::Duration|uint64_t) (\w+) = (?:absl::(\w+)\()?([\d *<]+)\)?;", options, re.MULTILINE)
        self.assertGreater(len(found), 10)
        for name, unit, number in found:
            with self.subTest(name):
                value, suffix = re.fullmatch(r"(\d+)([A-Za-z]+)", table["--" + name]).groups()
                self.assertEqual(int(value) * UNITS[suffix], eval(number) * UNITS[unit])  # such as 64 << 20, 7 * 24

    def test_the_plugins_parameters_are_the_frontends_flags_but_those_that_it_names(self):
        text, table = operations(man.PLUGIN)
        _, volume = operations("weir-volume")
        but = {flag[2:] for flag in re.findall(r"`(--\w+)`", text)}
        own = {name.rstrip("=") for name in table}
        self.assertLessEqual(but, {flag[2:] for flag in volume})
        self.assertEqual(({flag[2:] for flag in volume} - but) | own, parameters())


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

    def test_the_plugin_has_a_page_with_each_of_its_parameters(self):
        page = shown(man.PLUGIN)
        self.assertEqual(page.stderr, "")
        self.assertEqual(set(re.findall(r"^ +(\w+)=\S+$", page.stdout, re.MULTILINE)), parameters())


class CompletionTest(unittest.TestCase):
    def complete(self, *words):
        """What bash would offer for the last of `words`."""
        path = os.path.join(PREFIX, "share", "bash-completion", "completions", words[0])
        script = ('. "$1"; shift; function=$(complete -p "$1" | sed -n "s/.*-F \\([^ ]*\\).*/\\1/p"); '
                  'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); "$function"; printf "%s\\n" "${COMPREPLY[@]}"')
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
                (("weir-replica", "probe", "/dev/sh"), ["/dev/shm"]),
                (("weir-replica", "probe", "--output", "="), ["table", "json"]),
                (("weir-replica", "--config", "=", "/dev/sh"), ["/dev/shm"]),
                (("weir-volume", "--nbd_s"), ["--nbd_socket"]),
                (("weir-volume", "--catalog", "=", "/dev/sh"), ["/dev/shm"]),
                (("weir-csi", "--node"), ["--node-id"]),
                (("weir-csi", "--mode", "=", "n"), ["node"]),
                (("weir-csi", "--attach", "="), ["auto", "nbd", "fuse-loop"]),
                (("weir-nbd", "--read"), ["--read_only"]),
                (("weir-fuse", "--read"), ["--read_only"]),
                (("weir-fuse", "--read_only", "/dev/sh"), ["/dev/shm"])):
            with self.subTest(words=words):
                self.assertEqual(self.complete(*words), offered)

    def test_every_flag_is_offered(self):
        for name in ("weir-replica", "weir-volume", "weir-csi", "weir-nbd", "weir-fuse"):
            with self.subTest(program=name):
                self.assertEqual(set(self.complete(name, "--")) - {"--help", "--version"}, set(flags_of(man.help_of(os.path.join(BIN, name)))))

    def test_every_command_is_known(self):
        text = run(os.path.join(BIN, "weirctl"), "--help").stdout
        commands = re.findall(r"^  ([a-z-]+)", text.partition("Subcommands:\n")[2].partition("\n\n")[0], re.MULTILINE)
        self.assertIn("volume", commands)
        self.assertEqual(self.complete("weirctl", ""), commands)


if __name__ == "__main__":
    unittest.main()
