"""Manual pages from what the programs say of themselves with --help, so that they cannot disagree.

Two shapes of help are understood: Abseil's, "    --flag (what it is); default: x;", and CLI11's, with sections
such as "Options:" and, for weirctl, "Subcommands:", each of which is asked in turn. For the plugin nbdkit is asked, which
has a line for each parameter: "key=VALUE  what it is".
"""

import os
import re
import subprocess
import sys

# name -> what follows "name - " in its page.
PROGRAMS = {
    "weir-replica": "serve one replica of Weir volumes",
    "weir-volume": "serve Weir volumes over gRPC and NBD",
    "weirctl": "create, use, watch and repair Weir volumes",
    "weir-csi": "Weir's driver for the Container Storage Interface",
    "weir-nbd": "make a Weir volume a block device",
    "weir-fuse": "show a Weir volume as a file",
}
# What comes before the flags that a source file defines, in Abseil's help.
ABSEIL_FILE = "  Flags from "
# Commands of programs whose help is Abseil's, which has no section for them.
UNLISTED = {"weir-replica": ("probe",)}
PLUGIN = "nbdkit-weir-plugin"
OTHERS = (*PROGRAMS, PLUGIN)


def help_of(program, *command):
    # Some say it with exit code 1: Abseil's way.
    text = subprocess.run([program, *command, "--help"], text=True, capture_output=True).stdout
    if not text:
        raise SystemExit(f"{program} {' '.join(command)} says nothing with --help")
    return text


def plugin_help(plugin):
    """(what it is, [(parameter, text)]) of a plugin of nbdkit's; None: nbdkit cannot load it."""
    text = subprocess.run(["nbdkit", "--help", plugin], text=True, capture_output=True).stdout
    _, _, own = text.partition("\nplugin: ")
    # Its name and its path, which are this machine's.
    lines = own.splitlines()[2:]
    entries = [match.groups() for match in (re.match(r"(\w+=\S+)  (.+)", line) for line in lines) if match]
    return (lines[0], entries) if entries else None


def escaped(text):
    """For roff: no backslash, dash or leading dot of ours means anything."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"(?m)^([.'])", r"\\&\1", text)


def _abseil_flags(lines):
    """(flag, text) of each "--name (text); default: value;", which is wrapped."""
    whole = " ".join(line.strip() for line in lines).strip()
    for name, text, default in re.findall(r"--(\w+) \((.*?)\);\s+default: (.*?);(?= --|$)", whole):
        yield f"--{name}", text + ("" if default in ("", '""') else f" (default: {default})")


def _cli11_entries(lines):
    """(head, text) of each entry: two spaces, its head, and its text beside or below it."""
    entries = []
    for line in lines:
        if re.match(r"  \S", line):
            head, _, text = line[2:].partition("  ")
            entries.append([head.strip(), text.strip()])
        elif line.strip() and entries:
            entries[-1][1] = (entries[-1][1] + " " + line.strip()).strip()
    return entries


def parse(text):
    """(preamble, [(section's title, [(head, text)])], the lines after them)."""
    preamble, sections, after = [], [], []
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        line = lines[at]
        begin = at + 1
        abseil = line.startswith(ABSEIL_FILE)
        cli11 = re.match(r"(Positionals|Options|Subcommands):$", line)
        if abseil or cli11:
            at = begin
            while at < len(lines) and (lines[at].startswith("  ") or (abseil and not lines[at])) and not lines[at].startswith(ABSEIL_FILE):
                at += 1
            body = lines[begin:at]
            if abseil and sections:  # flags of another file
                sections[-1][1].extend(_abseil_flags(body))
            else:
                sections.append(("Options", list(_abseil_flags(body))) if abseil else (cli11[1], _cli11_entries(body)))
            continue
        if not line.startswith(("Usage:", "Try --helpfull", "flags which include", "path.")):
            (after if sections else preamble).append(line)
        at = begin
    return "\n".join(preamble).strip(), sections, "\n".join(after).strip()


def _verbatim(text):
    return [".nf", escaped(text), ".fi"] if text else []


def _entries(entries):
    out = []
    for head, text in entries:
        out += [".TP", f"\\fB{escaped(head)}\\fR", escaped(text)]
    return [*out, ".PP"] if out else []


def _command(program, page_name, command):
    """A command of a program, and those below it."""
    preamble, sections, after = parse(help_of(program, *command))
    out = [f".SS {escaped(' '.join([page_name, *command]))}", *_verbatim(preamble)]
    below = []
    for title, entries in sections:
        if title == "Subcommands":
            below = [head.split(",")[0] for head, _ in entries]
        else:
            out += _entries([(head, text) for head, text in entries if not head.startswith("-h,")])
    out += _verbatim(after)
    for name in below:
        out += _command(program, page_name, [*command, name])
    return out


def page(program, name):
    preamble, sections, after = parse(help_of(program))
    preamble = re.sub(rf"\A(?:{name}: )+", "", preamble)
    out = [*_title(name, PROGRAMS[name]),
           ".SH SYNOPSIS", f"\\fB{name}\\fR [\\fIoptions\\fR]" + (" \\fIcommand\\fR" if name == "weirctl" else ""),
           ".SH DESCRIPTION", *_verbatim(preamble)]
    commands = []
    for title, entries in sections:
        if title == "Subcommands":
            for head, _ in entries:
                commands += _command(program, name, [head.split(",")[0]])
        else:
            out += [f".SH {title.upper()}", *_entries(entries)]
    for command in UNLISTED.get(name, ()):
        commands += _command(program, name, [command])
    if commands:
        out += [".SH COMMANDS", *commands]
    if after:
        out += [".SH NOTES", *_verbatim(after)]
    return _text([*out, *_see_also(name)])


def plugin_page(plugin):
    """None: nbdkit cannot load it."""
    found = plugin_help(plugin)
    if found is None:
        return None
    what, entries = found
    return _text([
        *_title(PLUGIN, "Weir volumes as exports of nbdkit"),
        ".SH SYNOPSIS", f"\\fBnbdkit\\fR [\\fIoptions\\fR] \\fB{escaped(PLUGIN)}.so\\fR \\fIkey\\fR=\\fIvalue\\fR...",
        ".SH DESCRIPTION", escaped(what), ".PP",
        escaped("weir-volume --nbd_socket=PATH runs nbdkit with it. Parameters of the same names are weir-volume's flags."),
        ".SH PARAMETERS", *_entries(entries), *_see_also(PLUGIN, "nbdkit")])


def _title(name, what):
    return [f'.TH {name.upper()} 1 "" "Weir" "Weir"', ".SH NAME", f"{name} \\- {escaped(what)}"]


def _see_also(name, *more):
    return [".SH SEE ALSO", ", ".join(f"\\fB{escaped(other)}\\fR(1)" for other in (*OTHERS, *more) if other != name)]


def _text(lines):
    return "\n".join(line for line in lines if line) + "\n"


def write_pages(binaries, folder):
    """PROGRAM.1 for each program of `binaries` and the plugin; folder is made."""
    os.makedirs(folder, exist_ok=True)
    pages = {name: page(os.path.join(binaries, name), name) for name in PROGRAMS}
    pages[PLUGIN] = plugin_page(os.path.join(binaries, PLUGIN + ".so"))
    for name, text in pages.items():
        if text is None:  # a sanitizer's build
            print(f"ops/install: no manual page of {name}: nbdkit cannot load it", file=sys.stderr)
            continue
        with open(os.path.join(folder, name + ".1"), "w") as f:
            f.write(text)
