"""What a CSI driver has mounted, taken apart from the system's own tables.

    STATE/VOLUME/fuse/volume    a file of weir-fuse; a loop device stands on it
    STATE/VOLUME/nbd.log        of weir-nbd, which has it locked while it serves; the volume is a device of the kernel's NBD client

Perhaps another loop device, read-only, stands on either; their file systems, or their nodes, are mounted anywhere.
"""

import contextlib
import fcntl
import glob
import hashlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import time

GONE_SECONDS = 10
# For what is unmounted to be written. Whoever serves a device waits for a frontend that is away for longer.
WRITTEN_SECONDS = 20
# linux/netlink.h, linux/genetlink.h, linux/nbd-netlink.h.
NETLINK_GENERIC, NLM_F_REQUEST, NLM_F_ACK, NLMSG_ERROR = 16, 1, 4, 2
GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME = 16, 3, 1, 2
NBD_CMD_DISCONNECT, NBD_ATTR_INDEX = 2, 1


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
    """path -> volume, of those that its driver has made: "weir:VOLUME:NOTE:INSTANCE", and the note begins with the folder's tag
    (client/csi/kernel_nbd.cc)."""
    tag = hashlib.sha256(os.path.normpath(state).encode()).hexdigest()[:8]
    found = {}
    for path in glob.glob("/sys/block/nbd*/backend"):
        with contextlib.suppress(OSError):  # It has just gone.
            with open(path) as f:
                words = f.read().strip().split(":")
            if words[0] == "weir" and len(words) == 4 and words[2].startswith(tag):
                found["/dev/" + path.split("/")[3]] = words[1]
    return found


def _is_served(log):
    try:
        with open(log, "rb") as f:
            fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass  # There is none.
    return False


def _devices_below(state):
    """Those that stand on others first."""
    all_of_them = _loop_devices()
    ours = [d for d, file in all_of_them.items() if file.startswith(state + "/")] + list(_nbd_devices(state))
    return [d for d, file in all_of_them.items() if file in ours] + ours


def _ask_netlink(family, command, attribute, value):
    """What the kernel answers to a command with one attribute, behind its headers; an OSError of its refusal."""
    words = struct.pack("=BBHHH", command, 1, 0, 4 + len(value), attribute) + value.ljust(-len(value) % 4 + len(value), b"\0")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC) as s:
        s.settimeout(GONE_SECONDS)
        s.send(struct.pack("=IHHII", 16 + len(words), family, NLM_F_REQUEST | NLM_F_ACK, 1, 0) + words)
        said = s.recv(65536)
    error = -struct.unpack_from("=i", said, 16)[0]
    if struct.unpack_from("=H", said, 4)[0] == NLMSG_ERROR and error != 0:
        raise OSError(error, os.strerror(error))
    return said[20:]


def _netlink_family(name):
    said = _ask_netlink(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, name + b"\0")
    at = 0
    while at + 6 <= len(said):
        size, kind, number = struct.unpack_from("=HHH", said, at)
        if kind == CTRL_ATTR_FAMILY_ID:
            return number
        at += (size + 3) // 4 * 4
    raise OSError("the kernel does not say which netlink family that is")


def _end(device):
    """Requests of a device of the kernel's NBD client fail then."""
    if not device.startswith("/dev/nbd"):
        _call("losetup", "-d", device)
        return
    # Not by an ioctl: opening a device that nobody serves may wait.
    with contextlib.suppress(OSError):
        index = struct.pack("=I", int(device.removeprefix("/dev/nbd")))
        _ask_netlink(_netlink_family(b"nbd"), NBD_CMD_DISCONNECT, NBD_ATTR_INDEX, index)


def _end_unserved(state):
    """Unmounting would wait for ever where nobody answers what is written."""
    for device, volume in _nbd_devices(state).items():
        if not _is_served(os.path.join(state, volume, "nbd.log")):
            _end(device)


def _fail_all(state):
    """Every request fails, instead of waiting with whoever serves it."""
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # It has just ended.
            with open(path) as f:
                if any(word.startswith(f"--log={state}/") for word in f.read().split("\0")):
                    os.kill(int(path.split("/")[2]), signal.SIGKILL)
    _end_unserved(state)


def _call(*argv):
    return subprocess.run(argv, capture_output=True, text=True).returncode == 0


def _unmount(path, state, say):
    say(f"unmounting {path}")
    unmounting = subprocess.Popen(["umount", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        code = unmounting.wait(WRITTEN_SECONDS)
    except subprocess.TimeoutExpired:
        say(f"what is unmounted from {path} is not written after {WRITTEN_SECONDS} s, and is lost: is a frontend away?")
        _fail_all(state)
        code = unmounting.wait()
    if code != 0:
        _call("umount", "-l", path)


def remove_below(state, say=print):
    """Unmounts, and ends every device, of the driver whose state directory this is."""
    devices = _devices_below(state)
    numbers = {_number(d) for d in devices}
    _end_unserved(state)
    for number, path, fs_type in _mounts():
        if number in numbers or (fs_type in ("devtmpfs", "tmpfs") and os.path.exists(path)
                                 and not os.path.isdir(path) and _number(path) in numbers):
            _unmount(path, state, say)
    for device in devices:
        # One that has ended already may be another's by now.
        if not device.startswith("/dev/nbd") or device in _nbd_devices(state):
            _end(device)
    deadline = time.monotonic() + GONE_SECONDS
    while _devices_below(state) and time.monotonic() < deadline:
        time.sleep(0.05)
    for _number_there, path, fs_type in _mounts():
        if fs_type == "fuse.weir" and path.startswith(state + "/"):
            _unmount(path, state, say)
    if not any(path.startswith(state + "/") for _number_there, path, _type in _mounts()):
        shutil.rmtree(state, ignore_errors=True)
