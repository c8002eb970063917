"""C++ libraries from .proto files, with Debian's protoc and gRPC plugin."""

def weir_proto_library(name, srcs, deps = [], grpc = False, visibility = None, module_map = True):
    """Generates and compiles .proto files whose import root is this package.

    Args:
      name: the cc_library to make.
      srcs: .proto files, by their path below this package.
      deps: other weir_proto_library targets of this package.
      grpc: whether to generate gRPC services too.
      visibility: as usual.
      module_map: False: users of its users need not name it, and may not be checked for it.
    """
    hdrs = []
    ccs = []
    for src in srcs:
        base = src[:-len(".proto")]
        hdrs.append(base + ".pb.h")
        ccs.append(base + ".pb.cc")
        if grpc:
            hdrs.append(base + ".grpc.pb.h")
            ccs.append(base + ".grpc.pb.cc")
    root = native.package_name()
    cmd = "/usr/bin/protoc -I %s --cpp_out=$(RULEDIR)" % root
    if grpc:
        cmd += " --plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin --grpc_out=$(RULEDIR)"
    native.genrule(
        name = name + "_gen",
        srcs = srcs + [dep + "_srcs" for dep in deps],
        outs = hdrs + ccs,
        cmd = cmd + " " + " ".join(["$(location %s)" % src for src in srcs]),
    )
    native.filegroup(
        name = name + "_srcs",
        srcs = srcs + [dep + "_srcs" for dep in deps],
    )
    native.cc_library(
        name = name,
        srcs = ccs,
        hdrs = hdrs,
        copts = ["-Wno-error", "-w"],
        features = [] if module_map else ["-layering_check", "-module_maps"],
        includes = ["."],
        visibility = visibility,
        deps = deps + ["@system//:protobuf"] + (["@system//:grpc"] if grpc else []),
    )
