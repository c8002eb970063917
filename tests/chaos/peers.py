"""Which process has the other end of a connection on the loopback.

A volume's record has one address a replica, whoever its frontend is, so that two frontends cannot be given links of
their own: a link that is to tell them apart asks the kernel.
"""

import os


def _inode(local_port, remote_port):
    # gRPC's sockets are IPv6 ones, also to 127.0.0.1.
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as lines:
            next(lines)
            for line in lines:
                fields = line.split()
                ports = [int(end.rpartition(":")[2], 16) for end in fields[1:3]]
                if ports == [local_port, remote_port]:
                    return fields[9]
    return None


def owner(local_port, remote_port, pids):
    """Of `pids`, who has the connection from the one port to the other; None: none of them."""
    inode = _inode(local_port, remote_port)
    return next((pid for pid in pids if inode and f"socket:[{inode}]" in _descriptors(pid)), None)


def _descriptors(pid):
    """What they lead to."""
    found = set()
    folder = f"/proc/{pid}/fd"
    try:
        for name in os.listdir(folder):
            try:
                found.add(os.readlink(os.path.join(folder, name)))
            except OSError:
                pass  # closed meanwhile
    except OSError:
        pass  # ended
    return found
