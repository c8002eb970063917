"""ops/systemd under a real systemd: a virtual machine with Debian's kernel and this machine's files. With --full; some minutes."""

import os
import unittest

from harness import ROOT
from virtual_machine import VirtualMachineTest

PREFIX = os.path.realpath(os.environ.get("WEIR_PREFIX") or os.path.join(ROOT, "out"))

# Its root is this machine's, on top of which it writes in memory. It has a target of its own, not what this machine may start with; and
# OPERATIONS.md's addresses.
INIT = f"""
busybox mkdir /memory /merged
busybox mount -t tmpfs -o size=2g tmpfs /memory
busybox mkdir /memory/upper /memory/work
busybox mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work overlay /merged
# By it systemd would take the guest for a container.
busybox rm -f /merged/.dockerenv
busybox rm -rf /merged/etc/systemd/system
busybox mkdir -p /merged/etc/systemd/system
for unit in systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service systemd-sysusers.service systemd-remount-fs.service \\
  systemd-modules-load.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-update-utmp.service timers.target; do
  busybox ln -s /dev/null /merged/etc/systemd/system/$unit
done
busybox cat >/merged/etc/systemd/system/weir-guest.target <<END
[Unit]
Requires=basic.target weir-guest.service
After=basic.target
END
busybox cat >/merged/etc/systemd/system/weir-guest.service <<END
[Unit]
FailureAction=poweroff-force
SuccessAction=poweroff-force
[Service]
Type=oneshot
Environment=WEIR_PREFIX={PREFIX} PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8 HOME=/root
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/usr/bin/python3 -B {ROOT}/tests/system/systemd_guest.py
ExecStopPost=/bin/sh -c 'echo "guest: exit code \\$EXIT_STATUS"'
WorkingDirectory={ROOT}
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
END
busybox printf '10.0.0.9 fe1.example.org\\n' >>/merged/etc/hosts
busybox ifconfig lo 127.0.0.1 up
for address in 10.0.0.1 10.0.0.9; do busybox ip address add $address/32 dev lo; done
for folder in proc sys dev; do busybox mount -o move /$folder /merged/$folder; done
exec busybox switch_root /merged /usr/lib/systemd/systemd
"""


class SystemdGuestTest(VirtualMachineTest):
    seconds_max = 3060

    def test_systemd_starts_and_keeps_them(self):
        said = self.boot(INIT, modules=("overlay", "autofs4"),
                         command_line="systemd.unit=weir-guest.target systemd.crash_reboot=yes systemd.show_status=error fstab=no")
        print(said[said.find("\n", said.find("test_a_")):] if "test_a_" in said else said)
        self.assertTrue("guest: exit code 0" in said)


if __name__ == "__main__":
    unittest.main()
