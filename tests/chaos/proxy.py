"""A TCP proxy on the loopback, one a replica (and one an etcd member), that does to a connection what networks do.

TCP repairs what a network loses, so what programs see of a bad network is bytes that come late, that do not come while
a partition lasts, or a peer that is gone without a word. That is what a Link does, each direction apart, to all
connections or to those of one process.
"""

import asyncio
import contextlib
import threading

import peers

TO_REPLICA = "to the replica"
TO_FRONTEND = "to the frontend"
DIRECTIONS = (TO_REPLICA, TO_FRONTEND)

CHUNK_BYTES = 64 << 10
# What a direction holds, as sockets do, before it reads no more.
QUEUED_CHUNKS_MAX = 16


class _Direction:
    """What happens to bytes that go one way."""

    def __init__(self):
        self.delay_seconds = 0.0
        self.held = False
        self.held_of = set()  # the pids of those who are cut off alone

    def holds(self, connection):
        return self.held or (self.held_of and connection.peer_pid(self.held_of) is not None)


class Link:
    """A listening port and what it forwards to. Its methods may be called from any thread."""

    def __init__(self, network, target):
        self._network = network
        self._target = target
        self._directions = {direction: _Direction() for direction in DIRECTIONS}
        self._connections = set()
        self._server = network.call(self._listen())
        self.port = self._server.sockets[0].getsockname()[1]

    def delay(self, direction, seconds):
        """Every byte comes so much later; 0: at once."""
        self._directions[direction].delay_seconds = seconds

    def hold(self, direction, held=True):
        """A partition: bytes stay where they are until it ends. Connections are still accepted."""
        self._directions[direction].held = held

    def cut_off(self, pid):
        """A partition, both ways, from this process alone."""
        # A connection that is closed from now on has no owner any more.
        self._network.call(self._each(lambda connection: connection.peer_pid({pid})))
        for direction in self._directions.values():
            direction.held_of = {*direction.held_of, pid}

    def reset(self):
        """Breaks every connection, both ends are told."""
        self._network.call(self._each(_Connection.reset))

    def half_open(self):
        """The replica's end of every connection is gone; the frontend's end stays open, and silent, for ever."""
        self._network.call(self._each(_Connection.lose_replica))

    def heal(self):
        for direction in self._directions.values():
            direction.delay_seconds = 0.0
            direction.held = False
            direction.held_of = set()

    def garble(self, data):
        """Puts bytes of nobody's between those of the replica, on every connection."""
        self._network.call(self._each(lambda connection: connection.garble(data)))

    def lead_to(self, host, port):
        """Another target, for whoever connects from now on; the connections there are break."""
        self._target = (host, port)
        self.reset()

    def close(self):
        """Takes no more connections; those there are end with the network."""
        self._server.close()

    async def _listen(self):
        return await asyncio.start_server(self._accepted, "127.0.0.1", 0)

    async def _accepted(self, reader, writer):
        connection = _Connection(reader, writer, self._directions)
        self._connections.add(connection)
        try:
            await connection.run(*self._target)
        finally:
            self._connections.discard(connection)

    async def _each(self, what):
        for connection in list(self._connections):
            what(connection)


class _Connection:
    def __init__(self, reader, writer, directions):
        self._frontend = (reader, writer)
        self._replica = None
        self._directions = directions
        self._replica_lost = False
        self._peer_pid = None
        self._not_of = set()

    def peer_pid(self, pids):
        """Whose it is, of these, else None. It stays theirs; nobody of ours hands one on."""
        if self._peer_pid is None and not pids <= self._not_of:
            here, peer = (self._frontend[1].get_extra_info(end) for end in ("sockname", "peername"))
            self._peer_pid = peers.owner(peer[1], here[1], pids)
            self._not_of |= pids
        return self._peer_pid if self._peer_pid in pids else None

    async def run(self, host, port):
        reader, writer = self._frontend
        try:
            self._replica = await asyncio.open_connection(host, port)
            pumps = [
                asyncio.create_task(self._pump(reader, self._replica[1], TO_REPLICA)),
                asyncio.create_task(self._pump(self._replica[0], writer, TO_FRONTEND)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            if self._replica_lost:
                await self._stay_silent()
        except OSError:
            pass  # Nobody listens there: the frontend's connection breaks too.
        finally:
            self.reset()

    async def _pump(self, reader, writer, name):
        """Forwards one direction until it ends or breaks."""
        direction = self._directions[name]
        loop = asyncio.get_running_loop()
        queue = asyncio.Queue(QUEUED_CHUNKS_MAX)

        async def deliver():
            while True:
                came, data = await queue.get()
                while direction.holds(self) or loop.time() < came + direction.delay_seconds:
                    await asyncio.sleep(0.005)
                if not data:
                    return
                writer.write(data)
                await writer.drain()

        delivery = asyncio.create_task(deliver())
        try:
            data = b"-"
            while data and not delivery.done():
                data = await reader.read(CHUNK_BYTES)
                await queue.put((loop.time(), data))
            await delivery
        except OSError:
            pass  # One end is gone: so is the connection.
        finally:
            delivery.cancel()

    async def _stay_silent(self):
        with contextlib.suppress(OSError):
            while await self._frontend[0].read(CHUNK_BYTES):
                pass

    def garble(self, data):
        self._frontend[1].write(data)

    def lose_replica(self):
        self._replica_lost = True
        if self._replica:
            self._replica[1].transport.abort()

    def reset(self):
        self._replica_lost = False
        for end in (self._frontend, self._replica):
            if end:
                end[1].transport.abort()


class Network:
    """The thread that moves the bytes of all links. close() ends it and every connection."""

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()
        self._links = []

    def link(self, host, port):
        self._links.append(Link(self, (host, port)))
        return self._links[-1]

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def close(self):
        self.call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self):
        for link in self._links:
            link.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
