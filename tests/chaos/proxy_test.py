"""The proxy does what it says, each direction apart."""

import os
import socket
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

import proxy  # noqa: E402

# Longer than the loopback needs, shorter than what is held or delayed here.
SOON = 0.25
# Sends a line of its input through the link, and prints what comes back.
OTHER_PROCESS = """
import socket, sys
link = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
link.sendall(sys.stdin.readline().encode())
print(link.recv(4096).decode(), end="", flush=True)
"""


class EchoServer:
    """Sends back what it gets; says which connections have ended."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.received = b""
        self.ended = threading.Event()
        self._accepts = threading.Thread(target=self._accept, daemon=True)
        self._accepts.start()

    def close(self):
        """Nobody listens on its port when this returns, which close() alone does not see to while accept() waits."""
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # closed before
        self._accepts.join()
        self.listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection):
        try:
            while data := connection.recv(64 << 10):
                self.received += data
                connection.sendall(data)
        except OSError:
            pass
        connection.close()
        self.ended.set()


class ProxyTest(unittest.TestCase):
    def setUp(self):
        self.network = proxy.Network()
        self.addCleanup(self.network.close)
        self.server = EchoServer()
        self.addCleanup(self.server.close)
        self.link = self.network.link("127.0.0.1", self.server.port)
        self.client = self.connect()

    def connect(self):
        client = socket.create_connection(("127.0.0.1", self.link.port))
        self.addCleanup(client.close)
        return client

    def echo(self, data, client=None):
        """What comes back within SOON; None: nothing, b"": the end."""
        client = client or self.client
        client.settimeout(SOON)
        try:
            client.sendall(data)
            return client.recv(4096)
        except TimeoutError:
            return None
        except ConnectionError:
            return b""

    def test_bytes_pass_both_ways(self):
        self.assertEqual(self.echo(b"hello"), b"hello")

    def test_much_passes_whole_and_in_order(self):
        data = os.urandom(2 << 20)
        got = bytearray()
        sender = threading.Thread(target=self.client.sendall, args=(data,))
        sender.start()
        while len(got) < len(data):
            got += self.client.recv(64 << 10)
        sender.join()
        self.assertEqual(bytes(got), data)

    def test_what_is_held_comes_when_it_ends(self):
        for direction in proxy.DIRECTIONS:
            with self.subTest(direction):
                before = len(self.server.received)
                self.link.hold(direction)
                self.assertIsNone(self.echo(b"late"))
                arrived = len(self.server.received) - before
                self.assertEqual(arrived, 0 if direction == proxy.TO_REPLICA else 4)
                self.link.heal()
                self.client.settimeout(10)
                self.assertEqual(self.client.recv(4096), b"late")

    def test_one_process_is_cut_off_alone(self):
        other = subprocess.Popen(["/usr/bin/python3", "-c", OTHER_PROCESS, str(self.link.port)],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(other.communicate)
        self.assertEqual(self.echo(b"x"), b"x")
        self.link.cut_off(os.getpid())
        self.assertIsNone(self.echo(b"held"))
        self.assertIsNone(self.echo(b"held too", self.connect()))
        self.assertEqual(self.server.received, b"x")
        other.stdin.write("hello\n")
        other.stdin.flush()
        self.assertEqual(other.stdout.readline(), "hello\n")
        self.link.heal()
        self.client.settimeout(10)
        self.assertEqual(self.client.recv(4096), b"held")

    def test_a_delay_delays(self):
        self.link.delay(proxy.TO_REPLICA, 0.2)
        self.link.delay(proxy.TO_FRONTEND, 0.2)
        self.client.settimeout(10)
        begun = time.monotonic()
        self.client.sendall(b"slow")
        self.assertEqual(self.client.recv(4096), b"slow")
        self.assertGreaterEqual(time.monotonic() - begun, 0.4)

    def test_a_reset_ends_both_sides(self):
        self.assertEqual(self.echo(b"x"), b"x")
        self.link.reset()
        self.assertEqual(self.echo(b"y"), b"")
        self.assertTrue(self.server.ended.wait(10))
        self.assertEqual(self.echo(b"z", self.connect()), b"z")

    def test_half_open_tells_the_replica_only(self):
        self.assertEqual(self.echo(b"x"), b"x")
        self.link.half_open()
        self.assertTrue(self.server.ended.wait(10))
        self.assertIsNone(self.echo(b"y"))
        self.assertEqual(self.echo(b"z", self.connect()), b"z")

    def test_garbage_comes_beside_what_was_sent(self):
        self.assertEqual(self.echo(b"x"), b"x")
        self.link.garble(b"garbage")
        self.assertEqual(self.client.recv(4096), b"garbage")
        self.assertEqual(self.echo(b"y"), b"y")

    def test_another_target_is_for_new_connections_and_old_ones_break(self):
        self.assertEqual(self.echo(b"x"), b"x")
        other = EchoServer()
        self.addCleanup(other.close)
        self.link.lead_to("127.0.0.1", other.port)
        self.assertEqual(self.echo(b"y"), b"")
        self.assertEqual(self.echo(b"z", self.connect()), b"z")
        self.assertEqual((self.server.received, other.received), (b"x", b"z"))

    def test_nobody_behind_it_is_a_broken_connection(self):
        self.server.close()
        self.assertEqual(self.echo(b"x", self.connect()), b"")


if __name__ == "__main__":
    unittest.main()
