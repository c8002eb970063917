"""The engine's files: for the engine, and for the mutation check, which builds a copy of them."""

ENGINE_SRCS = [
    "answer_times.cc",
    "answer_times.h",
    "barrier.cc",
    "dispatch.cc",
    "engine.cc",
    "flush_run.cc",
    "flush_run.h",
    "join.cc",
    "join.h",
    "lane.cc",
    "lane.h",
    "leave.cc",
    "membership.cc",
    "op.h",
    "pins.cc",
    "repair.cc",
    "result.cc",
    "scrub.cc",
    "scrub.h",
    "slow.cc",
    "state.h",
    "state_data.h",
    "suspend.cc",
    "takeover.cc",
    "target.cc",
    "target.h",
]

ENGINE_HDRS = [
    "engine.h",
    "result.h",
    "takeover.h",
    "types.h",
    "view.h",
]
