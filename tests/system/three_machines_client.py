#!/usr/bin/python3
"""An NBD client of three_machines_test, which may lose its machine at any moment, and what looks afterwards at what it has left.

`write URI FIRST`: in each round, from FIRST on, writes 8 of 256 blocks, flushes, and reads one back; then says "round R longest S", S being seconds of the
longest request. Each block says which it is and in which round it was written. It ends when it is killed, or with an error.
`check URI FIRST R`: all blocks as they have to be if the flush of round R was the last one that was answered. Says "newest N": the newest round of which
there is something.
"""

import itertools
import struct
import sys
import time

import nbd

BLOCK = 4096
BLOCKS = 256
A_ROUND = 8
HEAD = struct.Struct("<QQ")


def content(block, number):
    return HEAD.pack(block, number) * (BLOCK // HEAD.size)


def blocks_of(number):
    first = number * A_ROUND % BLOCKS
    return range(first, first + A_ROUND)


def last_round(block, first, newest):
    """The last one from `first` to `newest` that wrote this block, 0 if none has."""
    return max((number for number in range(max(newest - BLOCKS // A_ROUND + 1, first), newest + 1) if block in blocks_of(number)), default=0)


def connect(uri):
    handle = nbd.NBD()
    handle.set_uri_allow_local_file(True)
    handle.connect_uri(uri)
    return handle


def write(uri, first):
    handle = connect(uri)
    for number in itertools.count(first):
        longest = 0.0

        def timed(call, *arguments):
            nonlocal longest
            begun = time.monotonic()
            result = call(*arguments)
            longest = max(longest, time.monotonic() - begun)
            return result

        for block in blocks_of(number):
            timed(handle.pwrite, content(block, number), block * BLOCK)
        timed(handle.flush)
        block = number * 37 % BLOCKS
        if (was := last_round(block, first, number)) and timed(handle.pread, BLOCK, block * BLOCK) != content(block, was):
            raise AssertionError(f"block {block} is not of round {was}")
        print(f"round {number} longest {longest:.3f}", flush=True)


def check(uri, first, flushed):
    handle = connect(uri)
    newest = 0
    for block in range(BLOCKS):
        read = bytes(handle.pread(BLOCK, block * BLOCK))
        least = last_round(block, first, flushed)
        named, number = HEAD.unpack_from(read)
        if read == bytes(BLOCK):
            named, number = block, 0
        elif named != block or read != content(block, number) or block not in blocks_of(number):
            raise AssertionError(f"block {block} has what nobody has written there: {read[:32].hex()}...")
        if number < least:
            raise AssertionError(f"block {block} is of round {number}, and {least} was flushed")
        newest = max(newest, number)
    print(f"newest {newest}", flush=True)


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](sys.argv[2], *map(int, sys.argv[3:]))
