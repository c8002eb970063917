"""The simulator's files: for itself, and for the mutation check, which builds a copy of them."""

SIM_SRCS = [
    "catalog_model.cc",
    "cluster.cc",
    "cluster_catalogs.cc",
    "cluster_checks.cc",
    "cluster_damage.cc",
    "cluster_deletes.cc",
    "cluster_faults.cc",
    "cluster_members.cc",
    "cluster_restores.cc",
    "cluster_snapshots.cc",
    "contract_judge.cc",
    "frontend.cc",
    "frontend_delete.cc",
    "frontend_members.cc",
    "frontend_takeover.cc",
    "model_store.cc",
    "model_store_join.cc",
    "model_store_pins.cc",
    "network.cc",
    "replica_node.cc",
    "show.cc",
    "shrink.cc",
    "snapshot_judge.cc",
]

# A parent and its clone.
CLONE_SRCS = [
    "clone_judge.cc",
    "clone_lineage.cc",
    "clone_snapshots.cc",
    "clone_world.cc",
]

CLONE_HDRS = [
    "clone_judge.h",
    "clone_world.h",
]

SIM_HDRS = [
    "agenda.h",
    "catalog_model.h",
    "client_op.h",
    "cluster.h",
    "cluster_options.h",
    "contract_judge.h",
    "dice.h",
    "fault.h",
    "frontend.h",
    "frontend_calls.h",
    "model_store.h",
    "network.h",
    "replica_node.h",
    "replica_store.h",
    "restore.h",
    "show.h",
    "shrink.h",
    "snapshot_judge.h",
    "write_history.h",
]
