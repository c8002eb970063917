"""What Kubernetes' objects look like, as far as ops/kubernetes uses them: names and types of fields, those that are required.

Stricter than an API server, which lets unknown fields pass: what does not stand here is a mistake, or is to be added
here first. Types are the API's (v1.27 and later, the Prometheus operator's and the external snapshotter's v1).
"""

STRING = {"type": "string", "minLength": 1}
TEXT = {"type": "string"}
BOOL = {"type": "boolean"}
INT = {"type": "integer"}
PORT_NUMBER = {"type": "integer", "minimum": 1, "maximum": 65535}
# A port's name, which must not be longer than that, or its number.
PORT = {"anyOf": [PORT_NUMBER, {"type": "string", "pattern": "^[a-z]([-a-z0-9]{0,13}[a-z0-9])?$"}]}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}
NAME = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "maxLength": 63}
PATH = {"type": "string", "pattern": "^/"}


def one_of(*values):
    return {"enum": list(values)}


def many(item, least=1):
    return {"type": "array", "items": item, "minItems": least}


def fields(required="", **properties):
    """An object with these fields and no others. `required`: names, apart by spaces."""
    return {"type": "object", "additionalProperties": False, "required": required.split(), "properties": properties}


def words(key, value):
    return {"type": "object", "additionalProperties": False, "patternProperties": {key: value}}


LABEL = {"type": "string", "pattern": r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", "maxLength": 63}
LABELS = words(r"^([a-z0-9.-]+/)?[A-Za-z0-9][-A-Za-z0-9_.]{0,62}$", LABEL)
ANNOTATIONS = words(r"^([a-z0-9.-]+/)?[A-Za-z0-9][-A-Za-z0-9_.]{0,62}$", TEXT)
META = fields("name", name=NAME, namespace=NAME, labels=LABELS, annotations=ANNOTATIONS)
SELECTOR = fields("matchLabels", matchLabels=dict(LABELS, minProperties=1))

PROBE = dict(
    fields(httpGet=fields("path port", path=PATH, port=PORT), tcpSocket=fields("port", port=PORT),
           grpc=fields("port", port=PORT_NUMBER),  # by number alone
           initialDelaySeconds=INT, periodSeconds=INT, timeoutSeconds=INT, failureThreshold=INT),
    oneOf=[{"required": [kind]} for kind in ("httpGet", "tcpSocket", "grpc")])

CONTAINER = fields(
    "name image resources securityContext",
    name=NAME, image={"type": "string", "pattern": r"^\S+:[^\s:/]+$"}, imagePullPolicy=one_of("Always", "IfNotPresent", "Never"),
    command=many(STRING), args=many(STRING),
    env=many(dict(fields("name", name=STRING, value=TEXT,
                         valueFrom=fields("fieldRef", fieldRef=fields("fieldPath", fieldPath=one_of(
                             "metadata.name", "metadata.namespace", "spec.nodeName", "status.hostIP", "status.podIP")))))),
    ports=many(fields("containerPort", name=PORT, containerPort=PORT_NUMBER, hostPort=PORT_NUMBER)),
    startupProbe=PROBE, readinessProbe=PROBE, livenessProbe=PROBE,
    resources=fields("requests", requests=fields("cpu memory", cpu=QUANTITY, memory=QUANTITY),
                     limits=fields(cpu=QUANTITY, memory=QUANTITY)),
    securityContext=fields(privileged=BOOL, allowPrivilegeEscalation=BOOL, readOnlyRootFilesystem=BOOL, runAsUser=INT,
                           runAsNonRoot=BOOL, capabilities=fields(drop=many(STRING), add=many(STRING))),
    volumeMounts=many(fields("name mountPath", name=NAME, mountPath=PATH, readOnly=BOOL,
                             mountPropagation=one_of("None", "HostToContainer", "Bidirectional"))),
    volumeDevices=many(fields("name devicePath", name=NAME, devicePath=PATH)))

VOLUME = dict(
    fields("name", name=NAME, emptyDir=fields(), secret=fields("secretName", secretName=NAME, defaultMode=INT),
           hostPath=fields("path type", path=PATH, type=one_of("Directory", "DirectoryOrCreate")),
           persistentVolumeClaim=fields("claimName", claimName=NAME)),
    minProperties=2, maxProperties=2)

TOLERATION = fields(key=STRING, operator=one_of("Exists", "Equal"), value=TEXT, tolerationSeconds=INT,
                    effect=one_of("NoSchedule", "PreferNoSchedule", "NoExecute"))

POD = fields(
    "containers", containers=many(CONTAINER), volumes=many(VOLUME), serviceAccountName=NAME, automountServiceAccountToken=BOOL,
    hostNetwork=BOOL, hostPID=BOOL, dnsPolicy=one_of("ClusterFirst", "ClusterFirstWithHostNet"), priorityClassName=NAME,
    terminationGracePeriodSeconds=INT, nodeSelector=LABELS, tolerations=many(TOLERATION),
    imagePullSecrets=many(fields("name", name=NAME)),
    securityContext=fields(runAsNonRoot=BOOL, runAsUser=INT, runAsGroup=INT, fsGroup=INT,
                           fsGroupChangePolicy=one_of("OnRootMismatch", "Always"),
                           seccompProfile=fields("type", type=one_of("RuntimeDefault", "Unconfined"))),
    affinity=fields(
        podAntiAffinity=fields(requiredDuringSchedulingIgnoredDuringExecution=many(
            fields("topologyKey labelSelector", topologyKey=STRING, labelSelector=SELECTOR))),
        nodeAffinity=fields(requiredDuringSchedulingIgnoredDuringExecution=fields("nodeSelectorTerms", nodeSelectorTerms=many(
            fields("matchExpressions", matchExpressions=many(
                fields("key operator values", key=STRING, operator=one_of("In"), values=many(LABEL)))))))))

TEMPLATE = fields("metadata spec", metadata=fields("labels", labels=LABELS, annotations=ANNOTATIONS), spec=POD)

CLAIM = fields("accessModes resources", accessModes=many(one_of("ReadWriteOnce", "ReadWriteOncePod")), storageClassName=NAME,
               volumeMode=one_of("Filesystem", "Block"),
               resources=fields("requests", requests=fields("storage", storage=QUANTITY)),
               dataSource=fields("kind name", apiGroup=STRING, kind=one_of("VolumeSnapshot", "PersistentVolumeClaim"), name=NAME))

ROLLING = fields(maxUnavailable={"anyOf": [INT, {"type": "string", "pattern": "^[0-9]+%$"}]})
RULES = many(fields("apiGroups resources verbs", apiGroups=many(TEXT), resources=many(STRING), verbs=many(one_of(
    "get", "list", "watch", "create", "update", "patch", "delete"))))
ROLE_REF = fields("apiGroup kind name", apiGroup=STRING, kind=one_of("Role", "ClusterRole"), name=NAME)
SUBJECTS = many(fields("kind name namespace", kind=one_of("ServiceAccount"), name=NAME, namespace=NAME))


def top(spec=None, required="", **more):
    """An object's schema but for apiVersion, kind and metadata."""
    properties = dict(more, apiVersion=STRING, kind=STRING, metadata=META)
    if spec is not None:
        properties["spec"] = spec
        required += " spec"
    return fields("apiVersion kind metadata " + required, **properties)


# By apiVersion and kind.
OBJECTS = {
    ("v1", "Namespace"): top(),
    ("v1", "ServiceAccount"): top(automountServiceAccountToken=BOOL),
    ("v1", "ConfigMap"): top(required="data", data=words("^[-._a-zA-Z0-9]+$", TEXT)),
    ("v1", "Service"): top(fields(
        "selector ports", clusterIP=one_of("None"), publishNotReadyAddresses=BOOL, selector=LABELS,
        ports=many(fields("name port targetPort", name=PORT, port=PORT_NUMBER, targetPort=PORT)))),
    ("v1", "Pod"): top(fields("containers", containers=many(fields(
        "name image", **CONTAINER["properties"])), volumes=many(VOLUME))),
    ("v1", "PersistentVolumeClaim"): top(CLAIM),
    ("apps/v1", "Deployment"): top(fields("replicas selector template", replicas=INT, selector=SELECTOR, template=TEMPLATE)),
    ("apps/v1", "DaemonSet"): top(fields(
        "selector template", selector=SELECTOR, template=TEMPLATE, minReadySeconds=INT,
        updateStrategy=fields("type", type=one_of("RollingUpdate", "OnDelete"), rollingUpdate=ROLLING))),
    ("apps/v1", "StatefulSet"): top(fields(
        "serviceName replicas selector template volumeClaimTemplates", serviceName=NAME, replicas=INT, selector=SELECTOR,
        template=TEMPLATE, podManagementPolicy=one_of("Parallel", "OrderedReady"),
        updateStrategy=fields("type", type=one_of("RollingUpdate", "OnDelete")),
        volumeClaimTemplates=many(fields("metadata spec", metadata=META, spec=CLAIM)))),
    ("policy/v1", "PodDisruptionBudget"): top(fields("maxUnavailable selector", maxUnavailable=INT, selector=SELECTOR)),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): top(required="rules", rules=RULES),
    ("rbac.authorization.k8s.io/v1", "Role"): top(required="rules", rules=RULES),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): top(required="roleRef subjects", roleRef=ROLE_REF, subjects=SUBJECTS),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): top(required="roleRef subjects", roleRef=ROLE_REF, subjects=SUBJECTS),
    ("storage.k8s.io/v1", "CSIDriver"): top(fields(
        attachRequired=BOOL, podInfoOnMount=BOOL, storageCapacity=BOOL, requiresRepublish=BOOL, seLinuxMount=BOOL,
        fsGroupPolicy=one_of("File", "ReadWriteOnceWithFSType", "None"), volumeLifecycleModes=many(one_of("Persistent")))),
    ("storage.k8s.io/v1", "StorageClass"): top(
        required="provisioner", provisioner=STRING, allowVolumeExpansion=BOOL, reclaimPolicy=one_of("Delete", "Retain"),
        volumeBindingMode=one_of("Immediate", "WaitForFirstConsumer"), mountOptions=many(STRING),
        # A number that is not quoted would be refused.
        parameters=words("^.+$", TEXT)),
    ("snapshot.storage.k8s.io/v1", "VolumeSnapshotClass"): top(
        required="driver deletionPolicy", driver=STRING, deletionPolicy=one_of("Delete", "Retain"), parameters=words("^.+$", TEXT)),
    ("snapshot.storage.k8s.io/v1", "VolumeSnapshot"): top(fields(
        "source", volumeSnapshotClassName=NAME, source=fields("persistentVolumeClaimName", persistentVolumeClaimName=NAME))),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): top(fields(
        "selector endpoints", selector=SELECTOR, endpoints=many(fields(
            "port", port=PORT, path=PATH, interval={"type": "string", "pattern": "^[0-9]+(s|m)$"},
            relabelings=many(fields("targetLabel replacement", targetLabel=STRING, replacement=STRING)))))),
    ("monitoring.coreos.com/v1", "PodMonitor"): top(fields(
        "selector podMetricsEndpoints", selector=SELECTOR, podMetricsEndpoints=many(fields(
            "port", port=PORT, path=PATH, interval={"type": "string", "pattern": "^[0-9]+(s|m)$"},
            relabelings=many(fields("targetLabel replacement", targetLabel=STRING, replacement=STRING)))))),
    ("monitoring.coreos.com/v1", "PrometheusRule"): top(fields("groups", groups=many(fields("name rules", name=STRING, rules=many(
        fields("expr", record=STRING, alert=STRING, expr=STRING, labels=words("^.+$", TEXT), annotations=words("^.+$", TEXT),
               **{"for": {"type": "string", "pattern": "^[0-9]+(s|m|h)$"}})))))),
}
