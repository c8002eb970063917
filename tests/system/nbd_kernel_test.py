"""The CSI driver with a real NBD client: Debian's kernel in a virtual machine, on this machine's files. With --full; some minutes."""

import os
import unittest

from harness import ROOT
from virtual_machine import VirtualMachineTest

PREFIX = os.path.realpath(os.environ.get("WEIR_PREFIX") or os.path.join(ROOT, "out"))

# Everything but the kernel is this machine's: its root, which cannot be written to, with a folder in memory for the cluster.
INIT = f"""
busybox mount -t proc proc /host/proc
busybox mount -t sysfs sysfs /host/sys
busybox mount -t devtmpfs dev /host/dev
busybox mkdir -p /host/dev/shm /host/dev/pts
busybox mount -t tmpfs -o size=2g tmpfs /host/mnt
busybox mount -t tmpfs tmpfs /host/run
busybox cp -r /modules /host/mnt/modules
busybox cp /bin/busybox /host/mnt/modules/busybox
busybox ifconfig lo 127.0.0.1 up
busybox chroot /host /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/mnt TMPDIR=/mnt \\
  LC_ALL=C.UTF-8 WEIR_PREFIX={PREFIX} PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -B {ROOT}/tests/system/nbd_guest.py /mnt/modules
echo "guest: exit code $?"
busybox poweroff -f
"""


class NbdKernelTest(VirtualMachineTest):
    seconds_max = 1560

    def test_a_guests_kernel_attaches_volumes(self):
        # The guest loads nbd itself.
        said = self.boot(INIT, modules=("ext4", "fuse", "loop", "crc32c_generic"), later=("nbd",))
        print(said[said.find("\n", said.find("test_a_")):] if "test_a_" in said else said)
        self.assertTrue("guest: exit code 0" in said)


if __name__ == "__main__":
    unittest.main()
