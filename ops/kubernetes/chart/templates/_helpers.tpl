{{/* Of every object of a component. Called with (list $ "component"). */}}
{{- define "weir.labels" -}}
{{- $root := index . 0 -}}
helm.sh/chart: {{ $root.Chart.Name }}-{{ $root.Chart.Version }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{ include "weir.selector" . }}
{{- end }}

{{/* What picks a component's pods; never changes. */}}
{{- define "weir.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: weir
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "weir.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* What every pod begins with. Called with (list $ component's values). */}}
{{- define "weir.pod" -}}
{{- $root := index . 0 -}}
{{- $of := index . 1 -}}
priorityClassName: {{ $of.priorityClassName }}
{{- with $of.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* A pod that wants nothing of its node. */}}
{{- define "weir.unprivilegedPod" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "weir.unprivileged" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* A name that other pods find. Called with (list $ "service"). */}}
{{- define "weir.host" -}}
{{- $root := index . 0 -}}
{{ index . 1 }}.{{ $root.Release.Namespace }}.svc.{{ $root.Values.clusterDomain }}
{{- end }}

{{/* NAME=HOST:PORT of every replica. */}}
{{- define "weir.replicas" -}}
{{- $root := . -}}
{{- $all := list -}}
{{- range $zone := .Values.zones -}}
{{- range $i := until (int $zone.replicas) -}}
{{- $name := printf "weir-replica-%s-%d" $zone.name $i -}}
{{- $all = append $all (printf "%s=%s.%s:7701" $name $name (include "weir.host" (list $root "weir-replica"))) -}}
{{- end -}}
{{- end -}}
{{ join "," $all }}
{{- end }}

{{/* HOST:PORT of every member of the chart's own etcd. */}}
{{- define "weir.etcdEndpoints" -}}
{{- $root := . -}}
{{- $all := list -}}
{{- range $i := until (int .Values.etcd.members) -}}
{{- $all = append $all (printf "weir-etcd-%d.%s:2379" $i (include "weir.host" (list $root "weir-etcd"))) -}}
{{- end -}}
{{ join "," $all }}
{{- end }}

{{/* The flag --catalog. */}}
{{- define "weir.catalog" -}}
{{- $etcd := .Values.etcd -}}
{{- $options := list (printf "prefix=%s" $etcd.prefix) -}}
{{- if $etcd.tlsSecretName -}}
{{- $options = append $options "ca=/etc/weir/etcd/ca.crt" -}}
{{- if $etcd.clientCertificate -}}
{{- $options = concat $options (list "cert=/etc/weir/etcd/tls.crt" "key=/etc/weir/etcd/tls.key") -}}
{{- end -}}
{{- end -}}
etcd:{{ if $etcd.endpoints }}{{ join "," $etcd.endpoints }}{{ else }}{{ include "weir.etcdEndpoints" . }}{{ end }}?{{ join "&" $options }}
{{- end }}

{{/* What a process shows, and whom it lets in; without certificates it is said that the network is trusted, see SECURITY.md.
     Called with (list $ certificate key authority), files of /etc/weir/tls. */}}
{{- define "weir.tlsFlags" -}}
{{- if (index . 0).Values.tls.enabled -}}
- --tls_cert=/etc/weir/tls/{{ index . 1 }}
- --tls_key=/etc/weir/tls/{{ index . 2 }}
- --tls_ca=/etc/weir/tls/{{ index . 3 }}
{{- else -}}
- --insecure  # the pods' network is trusted
{{- end }}
{{- end }}

{{/* Of a server, called as weir.tlsFlags. */}}
{{- define "weir.serverFlags" -}}
{{ include "weir.tlsFlags" . }}
{{- if (index . 0).Values.tls.enabled }}
- --insecure_metrics  # for Prometheus and probes
{{- end }}
{{- end }}

{{/* http or https: as the chart's own etcd speaks. */}}
{{- define "weir.etcdScheme" -}}
{{ if .Values.etcd.serverSecretName }}https{{ else }}http{{ end }}
{{- end }}

{{/* Not two of a component on one node. Called with (list $ "component"). */}}
{{- define "weir.apart" -}}
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "weir.selector" . | nindent 12 }}
{{- end }}

{{/* A sidecar's container, up to its args. Called with (list $ "name"). */}}
{{- define "weir.sidecar" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
name: {{ kebabcase $name }}
image: {{ index $root.Values.sidecars $name }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
{{ include "weir.unprivileged" $root }}
resources:
  {{- toYaml $root.Values.sidecars.resources | nindent 2 }}
volumeMounts:
  - {name: socket, mountPath: /csi}
{{- end }}

{{/* Of a sidecar that leads or waits to. Called with its --http-endpoint's port. */}}
{{- define "weir.leaderProbe" -}}
ports:
  - {name: http, containerPort: {{ . }}}
livenessProbe:
  httpGet: {path: /healthz/leader-election, port: {{ . }}}
  initialDelaySeconds: 10
  periodSeconds: 20
  timeoutSeconds: 10
{{- end }}
