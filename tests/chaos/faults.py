"""The faults of a chaos run. Each is a function of the world and of a seeded random.Random, and ends what it began.

All of them are passing: while one lasts clients may have to wait, and no longer than that; none may see an error. A
frontend that ends breaks its clients' connections, which is no error of the volume.
"""

import proxy
from world import REPLACE_AFTER_SECONDS

# A replica is away for at most so long, unless its disk is gone.
AWAY_SECONDS_MAX = 5
# Beyond the frontend's --clone_deadline (10 s): a replica that is silent for so long is done without.
SILENT_SECONDS = (11, 14)


def kill_replica(world, dice):
    name = dice.choice(world.replicas)
    world.kill(name)
    world.pause(dice.uniform(0, AWAY_SECONDS_MAX))
    world.start(name)


def restart_replica(world, dice):
    name = dice.choice(world.replicas)
    world.terminate(name)
    world.pause(dice.uniform(0, 2))
    world.start(name)


def kill_replica_while_it_joins(world, dice):
    name = dice.choice(world.replicas)
    for away in (2, 0):
        world.kill(name)
        world.pause(away)
        world.start(name)
        world.pause(dice.uniform(0, 0.5))


def kill_another_while_one_joins(world, dice):
    first, second = dice.sample(world.replicas, 2)
    world.kill(first)
    world.pause(2)
    world.start(first)
    world.pause(dice.uniform(0, 0.5))
    world.kill(second)
    world.pause(dice.uniform(0, 2))
    world.start(second)


def kill_two_replicas(world, dice):
    names = dice.sample(world.replicas, 2)
    world.kill(*names)
    world.pause(dice.uniform(0, 3))
    world.start(*names)


def kill_all_replicas(world, dice):
    world.kill(*world.replicas)
    world.pause(dice.uniform(0, 2))
    world.start(*dice.sample(world.replicas, len(world.replicas)))


def freeze_replica(world, dice):
    name = dice.choice(world.replicas)
    world.freeze(name)
    world.pause(dice.uniform(0.1, AWAY_SECONDS_MAX))
    world.thaw(name)


def freeze_replica_for_long(world, dice):
    name = dice.choice(world.replicas)
    world.freeze(name)
    world.pause(dice.uniform(*SILENT_SECONDS))
    world.thaw(name)


def replace_disk(world, dice):
    """The new store takes the old one's place by itself."""
    name = dice.choice(world.replicas)
    world.kill(name)
    world.wipe(name)
    world.start(name)
    world.pause(REPLACE_AFTER_SECONDS)


def sync_of_the_store_fails(world, dice):
    """Of any file: the WAL, the floor, a table, the MANIFEST, whichever is next."""
    _fail_store(world, dice, "--op=file-sync", "--error=EIO")


def write_of_the_store_fails(world, dice):
    _fail_store(world, dice, "--op=file-write", f"--error={dice.choice(['EIO', 'ENOSPC'])}")


def _fail_store(world, dice, *flags):
    """For good: the process that has it serves no more, the next one does not start; then there is a new disk."""
    name = dice.choice(world.replicas)
    # For ever: not even that the store has failed can be synced, or written.
    count = dice.choice([1, 1, 0]) if "--op=file-sync" in flags else 1
    directory = dice.choice(["", *range(len(world.cluster.data_dirs(name)))])
    flags += (f"--count={count}", *([] if directory == "" else [f"--flush-nr={directory}"]))
    world.inject(name, *flags)
    # A compaction that finds no space is tried again and harms nothing: then the next write is to fail.
    world.await_failed_store(name, again=lambda: world.inject(name, *flags) if "--error=ENOSPC" in flags else None)
    world.pause(dice.uniform(0, 3))
    dice.choice([world.kill, world.terminate])(name)
    world.must_not_start(name)
    world.pause(dice.uniform(0, 1))
    world.wipe(name)
    world.start(name)
    world.pause(REPLACE_AFTER_SECONDS)


def disk_full(world, dice):
    """Writers are told ENOSPC, readers and flushes nothing; no copy leaves for it."""
    world.fill_disk()
    world.pause(dice.uniform(1, AWAY_SECONDS_MAX))
    world.empty_disk()


# --- the frontend ---


def kill_frontend(world, dice):
    world.kill(world.frontend)
    world.pause(dice.uniform(0, 2))
    world.start(world.frontend)


def restart_frontend(world, dice):
    world.terminate(world.frontend)
    world.start(world.frontend)


def freeze_frontend(world, dice):
    """Longer than the lease, sometimes."""
    world.freeze(world.frontend)
    world.pause(dice.uniform(0.1, AWAY_SECONDS_MAX))
    world.thaw(world.frontend)


def kill_frontend_while_a_replica_is_away(world, dice):
    name = dice.choice(world.replicas)
    world.kill(name)
    world.pause(dice.uniform(0, 1.5))
    world.kill(world.frontend)
    order = [name, world.frontend]
    dice.shuffle(order)
    world.start(*order)


def kill_everything(world, dice):
    world.kill(world.frontend, *world.replicas)
    world.start(*dice.sample(world.replicas, len(world.replicas)), world.frontend)


# --- networks ---


def partition(world, dice):
    name = dice.choice(world.replicas)
    for direction in proxy.DIRECTIONS:
        world.link(name).hold(direction)
    _heal_later(world, name, f"{name} is cut off", dice.uniform(0.1, AWAY_SECONDS_MAX))


def partition_one_way(world, dice):
    name = dice.choice(world.replicas)
    direction = dice.choice(proxy.DIRECTIONS)
    world.link(name).hold(direction)
    _heal_later(world, name, f"{name}: nothing passes {direction}", dice.uniform(0.1, AWAY_SECONDS_MAX))


def partition_for_long(world, dice):
    name = dice.choice(world.replicas)
    directions = dice.sample(proxy.DIRECTIONS, dice.randint(1, 2))
    for direction in directions:
        world.link(name).hold(direction)
    _heal_later(world, name, f"{name}: nothing passes {' and '.join(directions)}", dice.uniform(*SILENT_SECONDS))


def flapping_link(world, dice):
    name = dice.choice(world.replicas)
    for _ in range(4):
        world.link(name).hold(dice.choice(proxy.DIRECTIONS))
        _heal_later(world, name, f"{name} is cut off for a moment", dice.uniform(0.05, 0.8))
        world.pause(dice.uniform(0, 0.5))


def slow_network(world, dice):
    name = dice.choice(world.replicas)
    milliseconds = dice.randint(5, 150)
    for direction in proxy.DIRECTIONS:
        world.link(name).delay(direction, milliseconds / 1000)
    _heal_later(world, name, f"{name}: bytes take {milliseconds} ms longer each way", 3)


def connections_reset(world, dice):
    name = dice.choice(world.replicas)
    world.say(f"{name}: connections are reset")
    world.link(name).reset()
    world.pause(0.5)


def half_open(world, dice):
    name = dice.choice(world.replicas)
    world.say(f"{name}: connections are half open")
    world.link(name).half_open()
    world.pause(dice.uniform(0, 1))


def kill_frontend_while_a_replica_is_cut_off(world, dice):
    name = dice.choice(world.replicas)
    for direction in proxy.DIRECTIONS:
        world.link(name).hold(direction)
    world.say(f"{name} is cut off")
    world.pause(dice.uniform(0, 1.5))
    world.kill(world.frontend)
    world.start(world.frontend)
    _heal_later(world, name, "the new frontend may have given it up", 3)


def _heal_later(world, name, what, seconds):
    world.say(f"{what}, {seconds:.1f} s")
    world.pause(seconds)
    world.link(name).heal()


# --- answers of a replica ---


def flush_error(world, dice):
    _inject(world, dice, "--op=flush", "--error=EIO", f"--count={dice.randint(1, 4)}")


def write_error(world, dice):
    _inject(world, dice, "--op=write", f"--error={dice.choice(['EIO', 'ENOSPC'])}", f"--count={dice.randint(1, 8)}")


def read_error(world, dice):
    _inject(world, dice, "--op=read", "--error=EIO", f"--count={dice.randint(1, 8)}")


def requeue(world, dice):
    delay = dice.choice(["", ",DELAY=50"])
    _inject(world, dice, f"--op={dice.choice(['write', 'flush'])}", f"--error=REQUEUE{delay}",
            f"--count={dice.randint(1, 30)}")


def never_answered(world, dice):
    _inject(world, dice, f"--op={dice.choice(['read', 'write', 'flush'])}", "--error=DROP",
            f"--count={dice.randint(1, 3)}")


def slow_replica(world, dice):
    _inject(world, dice, f"--op={dice.choice(['read', 'write', 'flush'])}", f"--error=DELAY={dice.randint(20, 300)}",
            "--count=0")


def _inject(world, dice, *flags):
    name = dice.choice(world.replicas)
    world.inject(name, *flags)
    world.pause(3)
    world.clear_injected(name)


# --- an operator ---


def suspend(world, dice):
    world.control("volume", "suspend", "chaos", *dice.choice([(), ("--noflush",)]))
    world.pause(dice.uniform(0, 2))
    world.control("volume", "resume", "chaos")


# --- several frontends and etcd ---


def move(world, dice):
    world.move(world.other_frontend())
    world.await_first_io("a move")


def move_from_a_frozen_frontend(world, dice):
    """It goes on when another one has the volume, and must neither write nor read any more."""
    old = world.frontend
    world.freeze(old)
    world.pause(dice.uniform(0, 1))
    world.move(world.other_frontend())
    world.pause(dice.uniform(0.1, AWAY_SECONDS_MAX))
    world.thaw(old)


def move_from_a_frontend_that_is_cut_off(world, dice):
    """It lives on, as do its clients, and must answer none of them; the other one reaches all and need not wait."""
    old = world.frontend
    whom = dice.choice([world.replicas, world.etcds, world.replicas + world.etcds, dice.sample(world.replicas, 2)])
    world.cut_off_frontend(old, whom)
    world.pause(dice.uniform(0, 2))
    world.move(world.other_frontend())
    world.await_first_io("a move from a frontend that is cut off")
    world.must_not_serve(old)
    world.pause(dice.uniform(0.1, AWAY_SECONDS_MAX))
    world.heal_links(whom)
    world.must_refuse(old)


def move_from_a_killed_frontend(world, dice):
    old = world.frontend
    world.kill(old)
    world.move(world.other_frontend())
    world.pause(dice.uniform(0, 1))
    world.start(old)


def move_while_a_replica_is_away(world, dice):
    name = dice.choice(world.replicas)
    world.kill(name)
    world.pause(dice.uniform(0, 1.5))
    world.move(world.other_frontend())
    world.start(name)


def move_while_a_replica_is_cut_off(world, dice):
    name = dice.choice(world.replicas)
    direction = dice.choice(proxy.DIRECTIONS)
    world.say(f"{name}: nothing passes {direction}")
    world.link(name).hold(direction)
    world.move(world.other_frontend())
    _heal_later(world, name, f"{name} is still cut off", dice.uniform(0.1, 3))


def two_frontends_at_once(world, dice):
    world.move(*dice.sample(world.frontends, 2))


def kill_an_etcd_member(world, dice):
    name = dice.choice(world.etcds)
    world.kill(name)
    world.pause(dice.uniform(0.5, 3))
    world.start(name)


def kill_an_etcd_member_and_a_replica(world, dice):
    """The change of membership is asked for while etcd may still elect."""
    names = [dice.choice(world.etcds), dice.choice(world.replicas)]
    world.kill(*names)
    world.pause(dice.uniform(1, 4))
    world.start(*names)


def freeze_an_etcd_member(world, dice):
    name = dice.choice(world.etcds)
    world.freeze(name)
    world.pause(dice.uniform(0.5, AWAY_SECONDS_MAX))
    world.thaw(name)


def kill_etcd(world, dice):
    """Nobody needs it as long as all members are well."""
    world.kill(*world.etcds)
    world.pause(dice.uniform(0.5, 3))
    world.start(*world.etcds)


def kill_a_replica_while_etcd_is_frozen(world, dice):
    """It cannot leave before etcd answers: requests are held."""
    name = dice.choice(world.replicas)
    for etcd in world.etcds:
        world.freeze(etcd)
    world.kill(name)
    world.pause(dice.uniform(1, 3))
    for etcd in world.etcds:
        world.thaw(etcd)
    world.pause(dice.uniform(0, 1))
    world.start(name)


def kill_a_replica_while_etcd_has_no_majority(world, dice):
    etcds = dice.sample(world.etcds, 2)
    name = dice.choice(world.replicas)
    world.kill(*etcds, name)
    world.pause(dice.uniform(0.5, 3))
    order = [*etcds, name]
    dice.shuffle(order)
    world.start(*order)


def kill_frontend_and_an_etcd_member(world, dice):
    """An attach while etcd elects, perhaps."""
    name = dice.choice(world.etcds)
    world.kill(world.frontend, name)
    world.start(world.frontend)
    world.pause(dice.uniform(0, 2))
    world.start(name)


# --- TLS ---


def new_certificates(world, dice):
    """Of some, or all at once; what connects then meets both."""
    all_of_them = world.certificates()
    world.renew_certificates(dice.sample(all_of_them, dice.randint(1, len(all_of_them))))
    world.pause(dice.uniform(0, 2))
    connections_reset(world, dice)


EVERY = (
    kill_replica, restart_replica, kill_replica_while_it_joins, kill_another_while_one_joins, kill_two_replicas,
    kill_all_replicas, freeze_replica, freeze_replica_for_long, replace_disk, sync_of_the_store_fails,
    write_of_the_store_fails, disk_full,
    kill_frontend, restart_frontend, freeze_frontend, kill_frontend_while_a_replica_is_away, kill_everything,
    partition, partition_one_way, partition_for_long, flapping_link, slow_network, connections_reset, half_open,
    kill_frontend_while_a_replica_is_cut_off,
    flush_error, write_error, read_error, requeue, never_answered, slow_replica,
    suspend,
)
WITH_ETCD = (
    move, move_from_a_frozen_frontend, move_from_a_frontend_that_is_cut_off, move_from_a_killed_frontend,
    move_while_a_replica_is_away, move_while_a_replica_is_cut_off, two_frontends_at_once,
    kill_an_etcd_member, kill_an_etcd_member_and_a_replica, freeze_an_etcd_member, kill_etcd,
    kill_a_replica_while_etcd_is_frozen, kill_a_replica_while_etcd_has_no_majority, kill_frontend_and_an_etcd_member,
)
WITH_TLS = (new_certificates,)
# Begun when all is well. A disk that goes while another copy is not whole yet may be the last good one; a full one is
# to refuse writes, not to keep its replica from being brought back.
NEEDS_ALL_WELL = (replace_disk, sync_of_the_store_fails, write_of_the_store_fails, disk_full)
CATALOGS = {"embedded": EVERY, "etcd": EVERY + WITH_ETCD}


def all_of(catalog, tls):
    return CATALOGS[catalog] + (WITH_TLS if tls else ())


def name_of(fault):
    return fault.__name__.replace("_", " ")


def deck(dice, chosen):
    """Faults without end: every one in a random order, then every one in another."""
    while True:
        yield from dice.sample(chosen, len(chosen))
