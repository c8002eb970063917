#!/usr/bin/python3
"""Copies sources with marks of rare branches, and deliberate bugs each behind a switch, built in.

    mutate.py MARKS MUTANTS OUT TABLE FILE...

Each FILE is copied to OUT/FILE, and its #includes of other copied files name the copies. TABLE
gets one C++ initializer a mutant: {"name", "rule", script, seed}. A mutant reads in MUTANTS:

    [name] The rule of the design that it breaks.
    [name script=NAME] For one that only clusters of that script come to; clones: one that is tried with a parent and its clone;
    deletes, restores, replaces: with clusters whose volume is deleted, or restored, or whose members are replaced.
    [name seed=N] For one that is rarer than all seeds that a check tries: N is tried first.
    path/of/file.cc
    -  lines of that file, which must occur there once (spaces at their ends do not matter)
    +  what stands in their place; MUTANT is true while this mutant is the active one

It may have several such changes. MARKS, without names, is put in first. A change that fits its
file no more is an error: mend the list.
"""

import os
import re
import sys


class Edit:
    def __init__(self, path, number):
        self.path, self.number, self.old, self.new = path, number, [], []


def parse(text):
    mutants, edits, path = [], [], None
    for number, line in enumerate(text.split("\n"), 1):
        head = re.match(r"\[([a-z0-9-]+)(?: script=([a-z-]+))?(?: seed=([0-9]+))?\] (.+)$", line)
        if head:
            mutants.append(head.groups())
        elif re.match(r"\S+\.(cc|h)$", line):
            path = line
            edits.append((len(mutants), Edit(path, number)))
        elif line.startswith("-"):
            if edits[-1][1].new:
                edits.append((len(mutants), Edit(path, number)))
            edits[-1][1].old.append(line[1:].strip())
        elif line.startswith("+"):
            edits[-1][1].new.append(line[1:])
        elif line.strip() and not line.startswith("#"):
            sys.exit(f"line {number}: not understood: {line}")
    return mutants, edits


def places(lines, old):
    stripped = [line.strip() for line in lines]
    return [i for i in range(len(lines)) if stripped[i:i + len(old)] == old]


def main():
    marks_path, mutants_path, out, table, *files = sys.argv[1:]
    with open(marks_path) as f:
        edits = [(marks_path, index, edit) for index, edit in parse(f.read())[1]]
    with open(mutants_path) as f:
        mutants, changes = parse(f.read())
    edits += [(mutants_path, index, edit) for index, edit in changes]
    texts = {}
    for path in files:
        with open(path) as f:
            texts[path] = f.read().split("\n")
    for list_path, index, edit in edits:
        lines = texts.get(edit.path)
        found = places(lines, edit.old) if lines else []
        if len(found) != 1:
            sys.exit(f"{list_path}:{edit.number}: no longer fits {edit.path}, these lines occur "
                     f"{len(found)} times there: {edit.old}")
        active = f"::weir::MutantIs({index})"
        lines[found[0]:found[0] + len(edit.old)] = [n.replace("MUTANT", active) for n in edit.new]
    for path, lines in texts.items():
        headers = [f'#include "tests/mutation/{h}.h"' for h in ("mark", "mutant")]
        text = "\n".join(headers + lines)
        for header in files:
            text = text.replace(f'#include "{header}"', f'#include "tests/mutation/copy/{header}"')
        target = os.path.join(out, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w") as f:
            f.write(text)
    with open(table, "w") as f:
        for name, script, seed, rule in mutants:
            f.write(f'{{"{name}", R"({rule})", "{script or ""}", {seed or 0}}},\n')


if __name__ == "__main__":
    main()
