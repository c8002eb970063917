"""Fuzz targets: the seeds of each as a unit test, and a libFuzzer binary that ops/fuzz builds."""

_COPTS = [
    "-fsanitize=fuzzer-no-link,address,undefined",
    "-fno-sanitize=vptr,function",
    "-fno-sanitize-recover=all",
]

def instrumented(name, deps, srcs = None):
    """What parses, compiled once more, with coverage and sanitizers.

    `srcs`: as exported by the folders that own them. `deps` have the same objects without; these
    are linked whole and first, so that none of those is taken. All that does not parse stays as it
    is: a build of everything with other flags would take minutes, and replace the usual one.
    """
    native.cc_library(
        name = name,
        testonly = True,
        srcs = srcs,
        copts = _COPTS,
        tags = ["manual"],
        deps = deps,
        alwayslink = True,
    )

def fuzz_target(name, subjects, deps):
    """NAME_fuzz.cc, its seeds in corpus/NAME; `subjects`: which instrumented() it tries."""
    srcs = [name + "_fuzz.cc", "input.h"]
    native.cc_test(
        name = name + "_seeds_test",
        size = "small",
        srcs = srcs + ["replay_main.cc"],
        args = [native.package_name() + "/corpus/" + name],
        data = native.glob(["corpus/" + name + "/*"]),
        deps = deps,
    )
    native.cc_binary(
        name = name,
        testonly = True,
        srcs = srcs,
        copts = _COPTS,
        linkopts = [
            "-fsanitize=fuzzer,address,undefined",
            "-fno-sanitize=vptr,function",
        ],
        tags = ["manual"],
        deps = subjects + deps,
    )
