"""What a CSI driver has mounted, taken apart from the system's own tables.

    STATE/VOLUME/fuse/volume    a file of weir-fuse; a loop device stands on it
    STATE/VOLUME/nbd.log        of weir-nbd; the volume is a device of the kernel's NBD client

Perhaps another loop device, read-only, stands on either; their file systems, or their nodes, are mounted anywhere.
"""

import contextlib
import fcntl
import glob
import hashlib
import os
import re
import shutil
import subprocess
import time

GONE_SECONDS = 10
# linux/nbd.h: the two ioctls that the kernel takes for a device that was connected over netlink.
NBD_DISCONNECT, NBD_CLEAR_SOCK = 0xab08, 0xab04


def _unescape(text):
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), text)


def _mounts():
    """(device number, mount point, file system) of each mount, the last first."""
    with open("/proc/self/mountinfo") as f:
        lines = [line.split() for line in f]
    return [(words[2], _unescape(words[4]), words[words.index("-") + 1]) for words in reversed(lines)]


def _number(path):
    """Of a device's node, "7:3"; None: it is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"


def _loop_devices():
    """path -> the file that it stands on."""
    found = {}
    for path in glob.glob("/sys/block/loop*/loop/backing_file"):
        try:
            with open(path) as f:
                found["/dev/" + path.split("/")[3]] = f.read().rstrip("\n")
        except OSError:
            pass  # It has just gone.
    return found


def _nbd_devices(state):
    """Those that its driver has made: "weir:VOLUME:NOTE:INSTANCE", and the note begins with the folder's tag (client/csi/kernel_nbd.cc)."""
    tag = hashlib.sha256(os.path.normpath(state).encode()).hexdigest()[:8]
    found = []
    for path in glob.glob("/sys/block/nbd*/backend"):
        with contextlib.suppress(OSError):  # It has just gone.
            with open(path) as f:
                words = f.read().strip().split(":")
            if words[0] == "weir" and len(words) == 4 and words[2].startswith(tag):
                found.append("/dev/" + path.split("/")[3])
    return found


def _devices_below(state):
    """Those that stand on others first."""
    all_of_them = _loop_devices()
    ours = [d for d, file in all_of_them.items() if file.startswith(state + "/")] + _nbd_devices(state)
    return [d for d, file in all_of_them.items() if file in ours] + ours


def _end(device):
    if not device.startswith("/dev/nbd"):
        _call("losetup", "-d", device)
        return
    with contextlib.suppress(OSError), open(device, "rb") as f:
        fcntl.ioctl(f, NBD_DISCONNECT)
        fcntl.ioctl(f, NBD_CLEAR_SOCK)


def _call(*argv):
    return subprocess.run(argv, capture_output=True, text=True).returncode == 0


def _unmount(path):
    if not _call("umount", path):
        _call("umount", "-l", path)


def remove_below(state, say=print):
    """Unmounts, and ends every device, of the driver whose state directory this is."""
    devices = _devices_below(state)
    numbers = {_number(d) for d in devices}
    for number, path, fs_type in _mounts():
        if number in numbers or (fs_type in ("devtmpfs", "tmpfs") and os.path.exists(path)
                                 and not os.path.isdir(path) and _number(path) in numbers):
            say(f"unmounting {path}")
            _unmount(path)
    for device in devices:
        _end(device)
    deadline = time.monotonic() + GONE_SECONDS
    while _devices_below(state) and time.monotonic() < deadline:
        time.sleep(0.05)
    for _number_there, path, fs_type in _mounts():
        if fs_type == "fuse.weir" and path.startswith(state + "/"):
            say(f"unmounting {path}")
            _unmount(path)
    if not any(path.startswith(state + "/") for _number_there, path, _type in _mounts()):
        shutil.rmtree(state, ignore_errors=True)
