#!/usr/bin/python3
"""An NBD client that writes, flushes and reads back without pause, in a process of its own.

`steady_client.py URI`: for each line on stdin, one line of JSON about the requests since the line before: how many,
the longest in seconds. It ends with stdin; an error, or data that is not what was written, ends it with exit code 1.
"""

import json
import os
import random
import select
import sys
import time

import nbd

BLOCK = 4096
BLOCKS = 256
FLUSH_EVERY = 16
# Between rounds, so that the machine also has time for the attack.
PAUSE_SECONDS = 0.002


class Client:
    def __init__(self, uri):
        self.handle = nbd.NBD()
        self.handle.set_uri_allow_local_file(True)
        self.handle.connect_uri(uri)
        self.random = random.Random(5)
        self.written = {}
        self.begin_lap()

    def begin_lap(self):
        self.requests = 0
        self.longest_seconds = 0.0

    def timed(self, call, *arguments):
        begun = time.monotonic()
        result = call(*arguments)
        self.longest_seconds = max(self.longest_seconds, time.monotonic() - begun)
        self.requests += 1
        return result

    def round(self):
        block = self.random.randrange(BLOCKS)
        self.written[block] = os.urandom(BLOCK)
        self.timed(self.handle.pwrite, self.written[block], block * BLOCK)
        if self.requests % FLUSH_EVERY == 0:
            self.timed(self.handle.flush)
        block = self.random.choice(list(self.written))
        if self.timed(self.handle.pread, BLOCK, block * BLOCK) != self.written[block]:
            raise AssertionError(f"block {block} does not read as what was written")


def main():
    client = Client(sys.argv[1])
    while True:
        client.round()
        if select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
            if not sys.stdin.readline():
                return 0
            print(json.dumps({"requests": client.requests, "longest_seconds": client.longest_seconds}), flush=True)
            client.begin_lap()


if __name__ == "__main__":
    sys.exit(main())
