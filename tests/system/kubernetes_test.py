"""ops/kubernetes: the chart, what it renders to, the image, and that the rendered command lines make a cluster."""

import copy
import importlib.machinery
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import unittest
import urllib.request

import grpc
import jsonschema
import yaml

from csi_driver import Driver, mount
from harness import MIB, ROOT, run, wait_until
from kubernetes_objects import OBJECTS
from weir_ops import settings

FOLDER = os.path.join(ROOT, "ops", "kubernetes")
CHART = os.path.join(FOLDER, "chart")
BIN = os.path.join(os.environ.get("WEIR_PREFIX", os.path.join(ROOT, "out")), "bin")
OURS = "weir:"
# Of sidecars whose programs are not here, what their projects document.
SIDECAR_FLAGS = {
    "provisioner": {"csi-address", "leader-election", "timeout", "extra-create-metadata", "default-fstype", "feature-gates",
                    "enable-capacity", "capacity-ownerref-level", "http-endpoint"},
    "attacher": {"csi-address", "leader-election", "timeout", "http-endpoint"},
    "resizer": {"csi-address", "leader-election", "timeout", "handle-volume-inuse-error", "http-endpoint"},
    "snapshotter": {"csi-address", "leader-election", "timeout", "extra-create-metadata", "http-endpoint"},
    "health-monitor": {"csi-address", "leader-election", "timeout", "http-endpoint"},
    "registrar": {"csi-address", "kubelet-registration-path"},
    "livenessprobe": {"csi-address", "health-port", "probe-timeout"},
}
# What weir-csi and the chart run in the image beside Weir's own programs.
TOOLS = ("mount", "losetup", "blkid", "mkfs.ext4", "e2fsck", "resize2fs", "mkfs.xfs", "xfs_growfs", "etcd")


def _load_render():
    loader = importlib.machinery.SourceFileLoader("weir_render", os.path.join(FOLDER, "render"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def read(*path):
    with open(os.path.join(*path)) as f:
        return f.read()


def merged(base, over):
    """As Helm merges values."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return {key: merged(base[key], over[key]) if key in base and key in over else over.get(key, base.get(key))
            for key in {*base, *over}}


def pods(documents):
    """(workload, pod's spec) of whatever makes pods."""
    return [(d, d["spec"]["template"]["spec"]) for d in documents if "template" in d.get("spec", {})]


def flags_of(container):
    return [arg[2:].split("=")[0] for arg in container.get("args", [])]


class ChartCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="weir-chart-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.render = _load_render()
        cls.renderer = cls.render.build_renderer(cls.folder)
        cls.examples = [os.path.join(FOLDER, "examples", name) for name in sorted(os.listdir(os.path.join(FOLDER, "examples")))
                        if name.startswith("values-")]
        cls.sets = {"the chart's own": cls.documents()}
        cls.sets.update((os.path.basename(path), cls.documents(path)) for path in cls.examples)

    @classmethod
    def documents(cls, *values):
        return [d for d in yaml.safe_load_all(cls.render.rendered(cls.renderer, *values)) if d]


class ChartTest(ChartCase):
    def test_what_is_checked_in_is_what_the_chart_renders(self):
        for path, text in self.render.manifests(self.renderer, self.folder).items():
            self.assertEqual(read(path), text, f"{path}: run ops/kubernetes/render")

    def test_every_object_is_one_that_kubernetes_takes(self):
        sets = dict(self.sets)
        for name in ("manifests/namespace.yaml", "manifests/monitoring.yaml", "examples/claims.yaml"):
            sets[name] = list(yaml.safe_load_all(read(FOLDER, name)))
        for name, documents in sets.items():
            self.assertTrue(documents)
            names = set()
            for document in documents:
                kind = (document["apiVersion"], document["kind"])
                with self.subTest(values=name, kind=kind[1], name=document["metadata"]["name"]):
                    jsonschema.Draft7Validator(OBJECTS[kind]).validate(document)
                    self.assertNotIn((kind, document["metadata"]["name"]), names, "twice")
                    names.add((kind, document["metadata"]["name"]))

    def test_large_numbers_are_printed_as_such(self):
        # Values are floating point to Helm.
        many = os.path.join(self.folder, "many.yaml")
        with open(many, "w") as f:
            f.write("node: {maxVolumes: 1048576}")
        self.assertIn("--max-volumes=1048576\n", self.render.rendered(self.renderer, many))

    def test_a_mistake_in_an_object_is_found(self):
        good = next(d for d in self.sets["the chart's own"] if d["kind"] == "StatefulSet" and "replica" in d["metadata"]["name"])
        container = lambda d: d["spec"]["template"]["spec"]["containers"][0]
        for what, spoil in {
                "an unknown field": lambda d: d["spec"].update(replica=3),
                "a number as text": lambda d: d["spec"].update(replicas="3"),
                "no selector": lambda d: d["spec"].pop("selector"),
                "a probe of two kinds": lambda d: container(d)["readinessProbe"].update(tcpSocket={"port": 1}),
                "no resources": lambda d: container(d).pop("resources"),
                "an argument that is a number": lambda d: container(d)["args"].append(7)}.items():
            with self.subTest(what):
                bad = copy.deepcopy(good)
                spoil(bad)
                self.assertFalse(jsonschema.Draft7Validator(OBJECTS["apps/v1", "StatefulSet"]).is_valid(bad))

    def test_values_are_as_their_schema_says_and_mistakes_are_refused(self):
        schema = json.loads(read(CHART, "values.schema.json"))
        jsonschema.Draft7Validator.check_schema(schema)
        validator = jsonschema.Draft7Validator(schema)
        own = yaml.safe_load(read(CHART, "values.yaml"))
        validator.validate(own)
        for path in self.examples:
            validator.validate(merged(own, yaml.safe_load(read(path))))
        for wrong in (
                {"colour": "red"}, {"zones": []}, {"zones": [{"name": "a", "replicas": 1}]},
                {"zones": [{"name": n, "replicas": 1, "nodeSelector": {}} for n in "ab"]},
                {"zones": [{"name": "Zone A", "replicas": 1, "nodeSelector": {}}]},
                {"replica": {"disks": []}}, {"replica": {"reserveBytes": "64 MiB"}}, {"replica": {"updateStrategy": "Now"}},
                {"frontend": {"port": 0}}, {"frontend": {"leaveAfter": "soon"}},
                {"etcd": {"members": 2}}, {"etcd": {"tlsSecretName": "s"}}, {"etcd": {"clientCertificate": True}},
                {"etcd": {"endpoints": ["http://a:2379/"]}},
                {"etcd": {"serverSecretName": "s"}}, {"etcd": {"serverSecretName": "s", "tlsSecretName": "t"}}, {"tls": {"enabled": True}},
                {"tls": {"nodeDir": "tls"}},
                {"storageClasses": [{"name": "x"}]}, {"node": {"fuseScope": "yes"}}, {"node": {"attach": "iscsi"}}, {"monitoring": {"interval": "soon"}}):
            with self.subTest(wrong=wrong):
                self.assertFalse(validator.is_valid(merged(own, wrong)))

    def test_every_flag_is_one_that_its_program_has(self):
        known = {}
        seen = set()
        for name, documents in self.sets.items():
            for workload, pod in pods(documents):
                for container in pod["containers"]:
                    if not container["image"].startswith(OURS):
                        self.assertEqual(set(flags_of(container)) - SIDECAR_FLAGS[container["name"]], set())
                        continue
                    program = container["command"][0]
                    if program not in known:
                        path = program if program == "etcd" else os.path.join(BIN, program)
                        # Abseil's programs say all with --helpfull; to the others it is --help.
                        text = "".join(run(path, help, check=False).stdout for help in ("--help", "--helpfull"))
                        known[program] = set(re.findall(r"(?:^|[\s,])--([a-z][a-z_-]*)", text))
                    seen.add(program)
                    with self.subTest(values=name, workload=workload["metadata"]["name"]):
                        self.assertEqual(set(flags_of(container)) - known[program], set())
        self.assertEqual(seen, {"weir-replica", "weir-volume", "weir-csi", "etcd"})

    def test_what_objects_name_is_there(self):
        for name, documents in self.sets.items():
            named = {(d["kind"], d["metadata"]["name"]): d for d in documents}
            labels = [w["spec"]["template"]["metadata"]["labels"] for w, _ in pods(documents)]
            picks = lambda selector: [one for one in labels if selector.items() <= one.items()]
            for workload, pod in pods(documents):
                with self.subTest(values=name, workload=workload["metadata"]["name"]):
                    self.assertIn(("ServiceAccount", pod["serviceAccountName"]), named)
                    self.assertLessEqual(workload["spec"]["selector"]["matchLabels"].items(),
                                         workload["spec"]["template"]["metadata"]["labels"].items())
                    if workload["kind"] == "StatefulSet":
                        self.assertIn(("Service", workload["spec"]["serviceName"]), named)
                    volumes = {v["name"] for v in pod.get("volumes", [])}
                    volumes |= {c["metadata"]["name"] for c in workload["spec"].get("volumeClaimTemplates", [])}
                    mounted = {m["name"] for c in pod["containers"] for m in c.get("volumeMounts", [])}
                    self.assertEqual(mounted, volumes)
                    ports = {p["name"] for c in pod["containers"] for p in c.get("ports", [])}
                    for container in pod["containers"]:
                        environment = {e["name"] for e in container.get("env", [])}
                        used = set(re.findall(r"\$\((\w+)\)", " ".join(container.get("args", []))))
                        self.assertLessEqual(used, environment)
                        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                            check = container.get(probe, {})
                            port = (check.get("httpGet") or check.get("tcpSocket") or {}).get("port")
                            self.assertTrue(not isinstance(port, str) or port in ports, port)
                    for service in re.findall(r"([\w-]+)\.weir\.svc\.cluster\.local", str(pod)):
                        self.assertIn(("Service", service), named)
            for (kind, own), document in named.items():
                with self.subTest(values=name, kind=kind, name=own):
                    if kind == "Service":
                        self.assertTrue(picks(document["spec"]["selector"]))
                    if kind in ("PodDisruptionBudget",):
                        self.assertTrue(picks(document["spec"]["selector"]["matchLabels"]))
                    if kind == "ServiceMonitor":
                        self.assertEqual([s for (k, s), d in named.items() if k == "Service" and document["spec"]["selector"]
                                          ["matchLabels"].items() <= d["metadata"]["labels"].items()], [own])
                    if kind in ("RoleBinding", "ClusterRoleBinding"):
                        self.assertIn((document["roleRef"]["kind"], document["roleRef"]["name"]), named)
                        for subject in document["subjects"]:
                            self.assertIn((subject["kind"], subject["name"]), named)

    def test_no_pod_but_the_drivers_on_a_node_may_do_what_it_need_not(self):
        for documents in self.sets.values():
            for workload, pod in pods(documents):
                for container in pod["containers"]:
                    rights = container["securityContext"]
                    if (workload["metadata"]["name"], container["name"]) == ("weir-csi-node", "weir-csi"):
                        self.assertTrue(rights["privileged"])
                        continue
                    self.assertEqual((rights["allowPrivilegeEscalation"], rights["readOnlyRootFilesystem"],
                                      rights["capabilities"]), (False, True, {"drop": ["ALL"]}))
                if workload["metadata"]["name"] != "weir-csi-node":
                    self.assertTrue(pod["securityContext"]["runAsNonRoot"])

    def test_alerts_and_dashboards_come_through_unchanged(self):
        documents = self.sets["values-three-zones.yaml"]
        groups = [d for d in documents if d["kind"] == "PrometheusRule"][0]["spec"]["groups"]
        self.assertEqual(groups, [g for f in ("recording", "alerts")
                                  for g in yaml.safe_load(read(ROOT, "ops", "prometheus", f + ".yml"))["groups"]])
        boards = {key: json.loads(text) for d in documents if d["kind"] == "ConfigMap" for key, text in d["data"].items()}
        folder = os.path.join(ROOT, "ops", "grafana", "dashboards")
        self.assertEqual(boards, {"weir-" + name: json.loads(read(folder, name)) for name in os.listdir(folder)})

    def test_the_charts_version_is_the_drivers(self):
        self.assertIn(f'kVersion[] = "{yaml.safe_load(read(CHART, "Chart.yaml"))["appVersion"]}"',
                      read(ROOT, "proto", "base", "version.h"))


class ImageTest(unittest.TestCase):
    """There is no Docker here: that the Dockerfile names what the programs need."""

    def test_it_has_every_library_and_tool(self):
        text = read(FOLDER, "Dockerfile")
        stage = text[text.rindex("FROM "):]
        wanted = set(re.search(r"--no-install-recommends \\\n(.*?)&&", stage, re.DOTALL)[1].replace("\\", "").split())
        self.assertIn("systemd", wanted, "device-scope runs systemd-run")
        depends = {}
        for line in run("dpkg-query", "-W", "-f", "${Package}\t${Pre-Depends}, ${Depends}\t${Essential}\n").stdout.splitlines():
            package, needs, essential = line.split("\t")
            depends[package] = {re.split("[ :]", one.strip())[0] for one in re.split("[,|]", needs)}
            if essential == "yes":
                wanted.add(package)
        have, new = set(), wanted
        while new:
            have |= new
            new = {need for package in new for need in depends.get(package, ())} - have
        programs = re.findall(r"/opt/weir/bin/([\w-]+)", re.search(r"COPY --from=build (.*?)\n[A-Z]", stage, re.DOTALL)[1])
        self.assertEqual(set(programs), {"weir-replica", "weir-volume", "weirctl", "weir-csi", "weir-nbd", "weir-fuse"})
        files = {os.path.realpath(shutil.which(tool) or self.fail(tool)) for tool in TOOLS}
        for program in programs:
            linked = run("ldd", os.path.join(BIN, program)).stdout
            self.assertNotIn("not found", linked)
            files |= {os.path.realpath(path) for path in re.findall(r"=> (/\S+)", linked)}
        # Since /lib is /usr/lib, a package may know a file by either.
        known = run("dpkg-query", "-S", *files, *(path.removeprefix("/usr") for path in files), check=False).stdout
        owners = {}
        for line in known.splitlines():
            package, path = line.split(": ")
            owners.setdefault(os.path.realpath(path), set()).add(package.split(":")[0])
        for path in files:
            self.assertTrue(owners.get(path, set()) & have, f"{path} is in {owners.get(path)}, which the image has not")

    def test_a_device_is_served_in_a_scope_of_its_own(self):
        with tempfile.TemporaryDirectory(prefix="weir-scope-") as folder:
            for name, text in (("systemd-run", '#!/bin/sh\nfor a; do echo "[$a]"; shift; test "$a" = -- && break; done\nexec "$@"\n'),
                               ("weir-fuse", '#!/bin/sh\necho "fuse $*"\nexit 3\n'),
                               ("weir-nbd", '#!/bin/sh\necho "nbd $*"\nexit 3\n')):
                path = os.path.join(folder, name)
                with open(path, "w") as f:
                    f.write(text)
                os.chmod(path, 0o755)
            for name in ("fuse", "nbd"):
                with self.subTest(name):
                    scope = os.path.join(folder, f"weir-{name}-scope")
                    shutil.copy(os.path.join(FOLDER, "device-scope"), scope)
                    done = run(scope, "--volume=a b", "/m", check=False,
                               env=dict(os.environ, PATH=folder + ":" + os.environ["PATH"]))
                    self.assertEqual(done.returncode, 3)
                    self.assertIn("[--scope]\n", done.stdout)
                    self.assertIn(f"[--description=weir-{name} --volume=a b /m]\n", done.stdout)
                    self.assertIn(f"{name} --volume=a b /m\n", done.stdout)


class CommandLineTest(ChartCase):
    """The chart's command lines on this machine, where names become ports: a cluster, and the driver on it."""

    values = "the chart's own"
    environment = {}  # of weirctl

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="weir-kube-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.next_port = settings.free_port_base(40)
        self.ports = {}
        self.by_name = {d["metadata"]["name"]: d for d in self.sets[self.values] if "template" in d.get("spec", {})}

    def address(self, host, port):
        """Of a pod; what runs on the network of a node is at the node's."""
        key = ("node" if host == "weir-frontend" else host, port)
        if key not in self.ports:
            self.ports[key] = self.next_port
            self.next_port += 1
        return f"127.0.0.1:{self.ports[key]}"

    def start(self, workload, pod):
        container = self.by_name[workload]["spec"]["template"]["spec"]["containers"][0]
        host = "node" if self.by_name[workload]["spec"]["template"]["spec"].get("hostNetwork") else pod
        argv = []
        for word in container["command"] + container["args"]:
            word = word.replace("$(POD_NAME)", pod).replace("$(NODE_NAME)", "node").replace("$(HOST_IP)", "0.0.0.0")
            word = re.sub(r"([\w-]+)(?:\.[\w-]+)?\.weir\.svc\.cluster\.local:(\d+)", lambda m: self.address(m[1], m[2]), word)
            word = re.sub(r"0\.0\.0\.0:(\d+)", lambda m: self.address(host, m[1]), word)
            argv.append(re.sub(r"(?<![\w.])/(?=(data|csi|run|etc)/)", f"{self.dir}/{pod}/", word))
        for folder in ("data", "csi", "run"):
            os.makedirs(os.path.join(self.dir, pod, folder))
        self.mount_certificates(self.by_name[workload]["spec"]["template"]["spec"], os.path.join(self.dir, pod))
        if argv[0] != "etcd":
            argv[0] = os.path.join(BIN, argv[0])
        with open(os.path.join(self.dir, pod, "log"), "w") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT)
        self.addCleanup(self.end, process)
        return container, host

    def mount_certificates(self, spec, root):
        """What Secrets and the node's folder have, where the pod looks for it."""

    def end(self, process):
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def probes(self, container, host):
        """Whether what kubelet would ask is answered well."""
        ports = {p["name"]: str(p["containerPort"]) for p in container["ports"]}
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            (kind, check), = ((k, v) for k, v in container[name].items() if isinstance(v, dict))
            address = self.address(host, ports.get(check["port"], str(check["port"])))
            try:
                if kind == "httpGet":
                    urllib.request.urlopen(f"http://{address}{check['path']}", timeout=3).close()
                elif kind == "tcpSocket":
                    socket.create_connection(address.split(":"), timeout=3).close()
                else:
                    with grpc.insecure_channel(address) as channel:
                        answer = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=3)
                    if answer != b"\x08\x01":  # SERVING
                        return False
            except (OSError, grpc.RpcError):
                return False
        return True

    def test_they_make_a_cluster(self):
        probed = [self.start("weir-etcd", f"weir-etcd-{i}") for i in range(3)]
        probed += [self.start("weir-replica-main", f"weir-replica-main-{i}") for i in range(3)]
        probed.append(self.start("weir-frontend-main", "frontend"))
        wait_until(lambda: all(self.probes(*one) for one in probed), 60, "every probe is answered well")
        listed = json.loads(run(os.path.join(BIN, "weirctl"), f"--volume_addr={self.address('node', '7700')}", "--output=json",
                                "replica", "list", env={**os.environ, **self.environment}).stdout)
        self.assertEqual([(r["name"], r["state"], r["labels"]) for r in listed["replicas"]],
                         [(f"weir-replica-main-{i}", "SERVING", {"zone": "main"}) for i in range(3)])
        for workload, pod in (("weir-csi-controller", "controller"), ("weir-csi-node", "driver")):
            self.start(workload, pod)
        node = Driver(f"unix:{self.dir}/driver/csi/csi.sock")
        self.addCleanup(node.close)
        info = node.NodeGetInfo()
        self.assertEqual((info.node_id, dict(info.accessible_topology.segments)), ("node", {"csi.weir.dev/zone": "main"}))
        controller = Driver(f"unix:{self.dir}/controller/csi/csi.sock")
        self.addCleanup(controller.close)
        for host in ("controller", "node"):
            with urllib.request.urlopen(f"http://{self.address(host, '9702')}/metrics", timeout=3) as answer:
                self.assertIn(b"weir_csi_running_calls", answer.read())
        # What the sidecar takes for itself does not reach the driver.
        for d in self.sets[self.values]:
            if d["kind"] != "StorageClass":
                continue
            with self.subTest(storage_class=d["metadata"]["name"]):
                parameters = {k: v for k, v in d["parameters"].items() if not k.startswith("csi.storage.k8s.io/")}
                made = controller.CreateVolume(
                    name="of-" + d["metadata"]["name"], capacity_range={"required_bytes": 320 * MIB}, parameters=parameters,
                    volume_capabilities=[mount(d["parameters"]["csi.storage.k8s.io/fstype"], flags=d.get("mountOptions", []))])
                controller.DeleteVolume(volume_id=made.volume.volume_id)


class CommandLineTlsTest(CommandLineTest):
    """The same with certificates: as the values of the example say."""

    values = "values-tls.yaml"

    def setUp(self):
        super().setUp()
        self.made = os.path.join(self.dir, "made")
        here = "--host=127.0.0.1"
        for authority, name, *words in (
                ("weir", "replica", "--role=replica", here), ("weir", "frontend", "--role=frontend", here),
                ("weir", "csi", "--role=csi", "--role=client"), ("weir", "controller", "--role=csi"), ("weir", "admin", "--role=admin"),
                ("etcd", "server", "--role=viewer", here), ("etcd", "client", "--role=viewer")):
            run(os.path.join(ROOT, "ops", "certs"), f"--dir={self.made}/{authority}", f"--name={name}", *words)
        self.environment = {f"WEIR_TLS_{what}": f"{self.made}/weir/{file}"
                            for what, file in (("CERT", "admin.pem"), ("KEY", "admin.key"), ("CA", "ca.pem"))}

    def mount_certificates(self, spec, root):
        secret = lambda authority, name: {"ca.crt": f"{authority}/ca.pem", "tls.crt": f"{authority}/{name}.pem",
                                          "tls.key": f"{authority}/{name}.key"}
        secrets = {"weir-replica-tls": secret("weir", "replica"), "weir-controller-tls": secret("weir", "controller"),
                   "weir-etcd-tls": secret("etcd", "server"), "weir-etcd-client-tls": secret("etcd", "client")}
        node = {name: f"weir/{name}" for name in ("ca.pem", "frontend.pem", "frontend.key", "csi.pem", "csi.key")}
        mounts = {m["name"]: m["mountPath"] for m in spec["containers"][0]["volumeMounts"]}
        for volume in spec.get("volumes", []):
            files = secrets[volume["secret"]["secretName"]] if "secret" in volume else node if volume["name"] == "tls" else {}
            for name, source in files.items():
                os.makedirs(root + mounts[volume["name"]], exist_ok=True)
                shutil.copy(os.path.join(self.made, source), root + mounts[volume["name"]] + "/" + name)

    def test_who_has_no_certificate_gets_nothing(self):
        for number in range(3):
            self.start("weir-etcd", f"weir-etcd-{number}")
        probed = self.start("weir-replica-main", "weir-replica-main-0")
        wait_until(lambda: self.probes(*probed), 60, "the replica serves")
        for host, port in (("weir-replica-main-0", "7701"), ("weir-etcd-0", "2379")):
            with self.subTest(host), socket.create_connection(self.address(host, port).split(":"), timeout=10) as plain:
                plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4" + bytes(5))
                self.assertNotIn(b"\0\0\0\4", plain.recv(64), "it speaks HTTP/2 in plain text")


if __name__ == "__main__":
    unittest.main()
