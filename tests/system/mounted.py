"""An export as a block device with a file system on it: nbdfuse, a loop device, ext4. Needs root."""

import contextlib
import hashlib
import os
import subprocess

from harness import run, wait_until


def why_no_block_device():
    """None if an export can be made a block device here, else why not."""
    if os.geteuid() != 0:
        return "needs root to mount"
    for path in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(path):
            return f"needs {path}"
    return None


def can_grow_mounted_ext4():
    """Whether the kernel would let us: some containers' root lacks CAP_SYS_RESOURCE."""
    with open("/proc/self/status") as f:
        capabilities = next(line.split()[1] for line in f if line.startswith("CapEff:"))
    return bool(int(capabilities, 16) >> 24 & 1)


class MountedExport:
    """ext4 on an export: nbdfuse, a loop device on its file, a mount."""

    def __init__(self, uri, folder):
        self.stack = contextlib.ExitStack()
        try:
            self._attach(uri, folder)
        except BaseException:
            self.stack.close()
            raise

    def _attach(self, uri, folder):
        self.fuse = os.path.join(folder, "fuse")
        self.root = os.path.join(folder, "root")
        for path in (self.fuse, self.root):
            os.makedirs(path, exist_ok=True)
        image = os.path.join(self.fuse, "nbd")
        nbdfuse = subprocess.Popen(["nbdfuse", self.fuse, uri], stderr=subprocess.DEVNULL)
        self.stack.callback(self._end_fuse, nbdfuse)
        wait_until(lambda: nbdfuse.poll() is not None or os.path.exists(image), 30, "nbdfuse mounted")
        self.device = run("losetup", "-f", "--show", "--direct-io=on", image).stdout.strip()
        self.stack.callback(run, "losetup", "-d", self.device, check=False)

    def _end_fuse(self, nbdfuse):
        run("fusermount3", "-u", "-z", self.fuse, check=False)
        try:
            nbdfuse.wait(30)
        except subprocess.TimeoutExpired:
            nbdfuse.kill()
            nbdfuse.wait()

    def mount(self):
        run("mount", self.device, self.root)
        self.stack.callback(run, "umount", "-l", self.root, check=False)

    def close(self):
        self.stack.close()


def checksums(root):
    """path -> digest, for each file below `root`."""
    found = {}
    for folder, _folders, files in os.walk(root):
        for name in files:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as f:
                    found[os.path.relpath(path, root)] = hashlib.sha256(f.read()).hexdigest()
    return found
