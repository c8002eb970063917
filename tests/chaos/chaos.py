"""Checks the contract of a volume from outside while its processes, networks and disks fail.

A cluster of ops/cluster is started in a temporary folder, clients read and write through NBD and gRPC, and faults from
a seeded schedule are caused one after the other. Each must pass: no answer may break the contract, no client may see
an error, and all replicas must be in sync again soon. Prints what it did and when, and a verdict.
Exit code 0: passed, 1: failed (the folder is kept), 2: wrong arguments.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time

import faults
from world import HEAL_SECONDS_MAX, Failed, World

# How often all must be well again before the next fault begins; else it meets what the last one has left.
HEAL_FIRST = 0.6


class Run:
    def __init__(self, arguments):
        self.arguments = arguments
        self.begun = time.monotonic()
        self.world = None
        self.problems = []
        # name -> (how often, longest wait of a request in ms, longest time to heal in s)
        self.done = {}
        self.since_healed = []  # names

    def say(self, text):
        print(f"{time.monotonic() - self.begun:7.1f} s  {text}", flush=True)

    def main(self):
        directory = tempfile.mkdtemp(prefix="weir-chaos-")
        self.say(f"{self.flags()}, folder {directory}")
        self.world = World(directory, self.arguments.catalog, self.arguments.tls, self.say)
        try:
            self.run()
            self.report()
        finally:
            self.world.unmount(keep=bool(self.problems))
            if self.problems:
                print(f"kept: {directory}")
            else:
                shutil.rmtree(directory)
        return 1 if self.problems else 0

    def run(self):
        try:
            self.world.up(self.arguments.prefix, self.arguments.other, self.arguments.seed)
            self.world.start_clients(self.arguments.driver, self.arguments.seed, self.arguments.rate)
            self.world.await_in_sync()
            self.cause_faults()
            self.heal()
            self.read_without_each_replica()
            self.end_clients()
        except Failed as failed:
            self.problems.append(str(failed))
        finally:
            if self.world.clients is not None:
                self.world.clients.finish(5)
            self.world.close()

    def flags(self):
        """Those that give this schedule again."""
        given = self.arguments
        only = "".join(f" --only='{name}'" for name in given.only or [])
        other = f" --other={given.other}" if given.other else ""
        return f"--minutes={given.minutes:g} --seed={given.seed} --catalog={given.catalog}{' --tls' if given.tls else ''}{other}{only}"

    def cause_faults(self):
        dice = random.Random(self.arguments.seed)
        chosen = [f for f in faults.all_of(self.arguments.catalog, self.arguments.tls)
                  if (not self.arguments.only or faults.name_of(f) in self.arguments.only)
                  and (f is not faults.disk_full or self.world.small_disk)]
        for fault in faults.deck(dice, chosen):
            if time.monotonic() - self.begun > self.arguments.minutes * 60:
                return
            if fault in faults.NEEDS_ALL_WELL:
                self.heal()
            self.cause(fault, dice)
            if fault in faults.NEEDS_ALL_WELL or dice.random() < HEAL_FIRST:
                self.heal()

    def cause(self, fault, dice):
        name = faults.name_of(fault)
        self.say(f"[{name}]")
        self.world.clients.take_longest()
        fault(self.world, dice)
        self.note(name, self.world.clients.take_longest())

    def heal(self):
        """Waits until all is well, and looks at what there was since it last was."""
        healed = self.world.await_in_sync()
        if not self.since_healed:
            return
        last = self.since_healed[-1]
        self.note(last, self.world.clients.take_longest(), healed)
        unanswered = self.world.take_unanswered()
        self.say(f"healed in {healed:.1f} s, {unanswered} requests unanswered")
        if unanswered and not self.world.frontend_ended:
            raise Failed(f"after {self.since_healed}: {unanswered} requests were not answered, though no frontend "
                         "had ended")
        self.world.frontend_ended = False
        self.since_healed = []

    def note(self, name, longest, healed=None):
        if healed is None:
            self.since_healed.append(name)
        count, longest_before, healed_before = self.done.get(name, (0, 0, 0.0))
        self.done[name] = (count + (healed is None), max(longest, longest_before), max(healed or 0.0, healed_before))

    def read_without_each_replica(self):
        """So that what each of them holds is seen."""
        for name in self.world.replicas:
            self.world.kill(name)
            self.world.clients.verify(HEAL_SECONDS_MAX)
            self.world.start(name)
            self.world.await_in_sync()

    def end_clients(self):
        self.say("all is read once more")
        if not self.world.clients.finish(HEAL_SECONDS_MAX):
            raise Failed("the clients did not end well")

    def report(self):
        clients = self.world.clients
        print(f"\n{'FAULT':<44}{'TIMES':>6}{'LONGEST WAIT':>14}{'HEALED IN':>12}")
        for name, (count, longest, healed) in sorted(self.done.items()):
            # "-": the next fault began before all was well.
            print(f"{name:<44}{count:>6}{longest:>11} ms{f'{healed:.1f} s' if healed else '-':>12}")
        counts = clients.counts if clients else {}
        if clients and clients.violation:
            self.problems.insert(0, clients.violation)
        if counts.get("errors"):
            self.problems.append(f"clients saw {counts['errors']} errors, the first: {clients.errors[0]}")
        caused = sum(count for count, _, _ in self.done.values())
        print(f"requests answered: {counts.get('answered', 0)} (reads {counts.get('reads', 0)}, "
              f"writes {counts.get('writes', 0)}, flushes {counts.get('flushes', 0)}); unanswered, since their "
              f"frontend ended: {counts.get('unanswered', 0)}; errors: {counts.get('errors', 0)}")
        if counts.get("no_space"):
            print(f"writes refused with ENOSPC while a disk was full: {counts['no_space']}")
        for what, milliseconds in sorted(self.world.first_io_ms.items()):
            print(f"first answer after {what} was begun: {milliseconds} ms at most")
        for problem in self.problems:
            print(f"PROBLEM {problem}")
        verdict = "FAILED" if self.problems else "passed"
        print(f"chaos: {verdict}, {caused} faults of {len(self.done)} kinds in {time.monotonic() - self.begun:.0f} s; "
              f"the same schedule: ops/chaos {self.flags()}")


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="ops/chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1, help="for how long faults are begun (1); what follows "
                        "takes half a minute")
    parser.add_argument("--seed", type=int, help="of the schedule and of the requests (drawn, and printed)")
    parser.add_argument("--catalog", choices=list(faults.CATALOGS), default="embedded", help="etcd: three members, "
                        "which fail too, and two frontends between which the volume moves (embedded)")
    parser.add_argument("--rate", type=float, default=400, help="requests a second, at most (400)")
    parser.add_argument("--tls", action="store_true", help="mutual TLS between all but etcd, and certificates change")
    parser.add_argument("--other", metavar="PREFIX", help="where another build is installed, such as the last version's: each "
                        "process that is started again is of either")
    parser.add_argument("--only", action="append", metavar="FAULT", help="this fault only; again for more")
    parser.add_argument("--list", action="store_true", help="name the faults of that catalog")
    parser.add_argument("--driver", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--prefix", required=True, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = [faults.name_of(fault) for fault in faults.all_of(arguments.catalog, arguments.tls)]
    for name in arguments.only or []:
        if name not in names:
            parser.error(f"no fault is called '{name}' with --catalog={arguments.catalog}{' --tls' if arguments.tls else ''}; see --list")
    if arguments.other and not os.path.exists(os.path.join(arguments.other, "bin", "weir-replica")):
        parser.error(f"--other={arguments.other}: nothing is installed there; ops/install --prefix does it")
    if not arguments.minutes > 0 or not arguments.rate > 0:
        parser.error("--minutes and --rate must be above 0")
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1, 1 << 31)
    return arguments


def main():
    arguments = parse_arguments()
    if arguments.list:
        print("\n".join(faults.name_of(fault) for fault in faults.all_of(arguments.catalog, arguments.tls)))
        return 0
    # What was started is stopped, as for Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return Run(arguments).main()


if __name__ == "__main__":
    sys.exit(main())
