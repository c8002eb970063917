"""Debian's kernel in virtual machines without hardware help, on this machine's files, which they can only read. For tests with --full.

Nothing of the kernel is kept: its package is fetched by apt-get, and unpacked, into the test's folder.
"""

import glob
import gzip
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from harness import FULL, run

BUSYBOX = "/bin/busybox"
QEMU = "qemu-system-x86_64"
# In the order of need; what they depend on comes before them.
MODULES = ("virtio_pci", "9pnet_virtio", "9p")

# What every guest begins with: this machine's root is /host.
INIT = """#!/bin/busybox sh
export PATH=/bin
busybox mkdir -p /proc /sys /dev /host
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
for module in {modules}; do busybox insmod /modules/$module.ko; done
busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=1048576 root /host
"""


def why_not():
    if not FULL:
        return "only with --full: a virtual machine without hardware help takes minutes"
    if os.geteuid() != 0:
        return "needs root: the guest has this machine's files as root sees them"
    for program, package in ((QEMU, "qemu-system-x86"), (BUSYBOX, "busybox-static"), ("apt-get", "apt")):
        if shutil.which(program) is None:
            return f"needs {program} (apt-get install {package})"
    if run("ldd", BUSYBOX, check=False).returncode == 0:
        return "needs a busybox that is linked statically (apt-get install busybox-static)"
    return None


def fetch_package(name, folder):
    """Unpacks Debian's package there; why that cannot be done otherwise."""
    done = run("apt-get", "download", name, cwd=folder, check=False)
    packages = glob.glob(os.path.join(folder, f"{name}_*.deb"))
    if not packages:
        return f"{name} cannot be had: {done.stderr.strip()[-200:]}"
    run("dpkg-deb", "-x", packages[0], folder)
    os.unlink(packages[0])
    return None


def fetch_kernel(folder):
    """Unpacks Debian's newest kernel there; why that cannot be done otherwise."""
    depends = run("apt-cache", "depends", "linux-image-amd64", check=False).stdout
    named = re.search(r"Depends: (linux-image-\S+)", depends)
    if named is None:
        return "no package linux-image-amd64 is known here (apt-get update)"
    return fetch_package(named[1], folder)


def needed_modules(modules, names):
    """Paths of these modules below `modules`, each after those that it depends on."""
    all_of_them, paths = {}, []
    for path in glob.glob(os.path.join(modules, "**", "*.ko"), recursive=True):
        all_of_them[os.path.basename(path).removesuffix(".ko").replace("-", "_")] = path

    def add(name):
        path = all_of_them.get(name.replace("-", "_"))
        if path is None or path in paths:  # built in, or there
            return
        with open(path, "rb") as f:
            depends = re.search(rb"\0depends=([^\0]*)\0", f.read())
        for other in filter(None, depends[1].decode().split(",") if depends else ()):
            add(other)
        paths.append(path)

    for name in names:
        add(name)
    return paths


class VirtualMachineTest(unittest.TestCase):
    """The folder of a test has the kernel; skipped where it cannot be had."""

    seconds_max = 1500  # for the runner; the guest is given a minute less

    def setUp(self):
        why = why_not()
        if why:
            self.skipTest(why)
        self.folder = tempfile.mkdtemp(prefix="weir-guest-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        why = fetch_kernel(self.folder)
        if why:
            self.skipTest(why)

    def make_initramfs(self, init, modules, later):
        top = os.path.join(self.folder, "top")
        for name in ("bin", "modules"):
            os.makedirs(os.path.join(top, name))
        shutil.copy(BUSYBOX, os.path.join(top, "bin", "busybox"))
        (below,) = glob.glob(os.path.join(self.folder, "lib", "modules", "*"))
        first = needed_modules(below, (*MODULES, *modules))
        for path in needed_modules(below, (*MODULES, *modules, *later)):
            shutil.copy(path, os.path.join(top, "modules"))
        names = [os.path.basename(path).removesuffix(".ko") for path in first]
        script = os.path.join(top, "init")
        with open(script, "w") as f:
            f.write(INIT.format(modules=" ".join(names)) + init)
        os.chmod(script, 0o755)
        files = run("find", ".", cwd=top).stdout
        made = subprocess.run([BUSYBOX, "cpio", "-o", "-H", "newc"], cwd=top, input=files.encode(), capture_output=True, check=True)
        path = os.path.join(self.folder, "initramfs.gz")
        with gzip.open(path, "wb", compresslevel=1) as f:
            f.write(made.stdout)
        return path

    def start(self, initramfs, console, command_line="", processors=2, memory_mib=3072, devices=()):
        """The process of a guest, which ends with the test. `console`: a file for what that says. `devices`: more of qemu's arguments."""
        (kernel,) = glob.glob(os.path.join(self.folder, "boot", "vmlinuz-*"))
        guest = subprocess.Popen(
            [QEMU, "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(processors), "-m", str(memory_mib), "-nodefaults", "-no-reboot",
             "-display", "none", "-serial", f"file:{console}", "-kernel", kernel, "-initrd", initramfs,
             "-append", f"console=ttyS0 quiet panic=-1 no_timer_check {command_line}",
             "-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap", *devices])
        self.addCleanup(guest.wait)
        self.addCleanup(guest.kill)
        return guest

    def boot(self, init, modules=(), later=(), command_line=""):
        """What its console said until it was off.

        `init`: the rest of the first process's script. `modules`: loaded before it, on top of what the files need; `later`: lie beside them in /modules.
        """
        console = os.path.join(self.folder, "console")
        guest = self.start(self.make_initramfs(init, modules, later), console, command_line)
        try:
            guest.wait(self.seconds_max - 60)
        except subprocess.TimeoutExpired:
            print(f"the guest has not ended within {self.seconds_max - 60} s")
        with open(console, errors="replace") as f:
            return f.read()
