{{/* Probes of a container. Takes {root, component}. Kubelet asks gRPC health without TLS alone, so with TLS a command asks. */}}
{{- define "safescale.probes" -}}
{{- $tls := .root.Values.tls.enabled -}}
{{- $gateway := eq .component "gateway" -}}
{{- range $kind, $numbers := dict "startupProbe" (list 5 120) "readinessProbe" (list 10 3) "livenessProbe" (list 20 6) }}
{{ $kind }}:
  {{- if $gateway }}
  httpGet: {path: {{ ternary "/readyz" "/healthz" (eq $kind "readinessProbe") }}, port: http, scheme: {{ ternary "HTTPS" "HTTP" $tls }}}
  {{- else if $tls }}
  exec: {command: [python, -m, safescale.probe]}
  {{- else }}
  grpc: {port: 50051}
  {{- end }}
  periodSeconds: {{ first $numbers }}
  failureThreshold: {{ last $numbers }}
  timeoutSeconds: {{ ternary 8 5 (and $tls (not $gateway)) }}
{{- end }}
{{- end -}}

{{/* A container of ours. Takes {root, component, service, files}. */}}
{{- define "safescale.container" -}}
{{- $root := .root -}}
{{- $gateway := eq .component "gateway" -}}
- name: {{ .component }}
  image: {{ include "safescale.image" . }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  securityContext:
    {{- include "safescale.containerSecurity" . | nindent 4 }}
  envFrom:
    - configMapRef: {name: {{ include "safescale.fullname" $root }}-peers}
    {{- if not $gateway }}
    - configMapRef: {name: {{ include "safescale.fullname" $root }}-records}
    {{- end }}
  env:
    - {name: SAFESCALE_DATA_DIR, value: /var/lib/safescale}
    {{- if has .component (list "inference" "standalone") }}
    - {name: SAFESCALE_DRAIN_TIMEOUT_S, value: {{ $root.Values.settings.cellTimeoutSeconds | toString | quote }}}
    {{- end }}
    {{- if eq .component "orchestration" }}
    - {name: SAFESCALE_INSTANCE, value: {{ include "safescale.host" . }}}
    {{- else if not (or $gateway (eq .component "standalone")) }}
    - name: SAFESCALE_INSTANCE
      valueFrom: {fieldRef: {fieldPath: metadata.name}}
    {{- end }}
    {{- if eq $root.Values.mode "standalone" }}
    # In the same pod; by a name that the certificate holds. Commands in the pod find by it whose data folder is there.
    - {name: SAFESCALE_SERVER, value: "{{ ternary "localhost" "127.0.0.1" $root.Values.tls.enabled }}:50051"}
    {{- end }}
    {{- with concat .files.env .service.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    {{- if $gateway }}
    - {name: http, containerPort: 8080}
    {{- else }}
    - {name: grpc, containerPort: 50051}
    - {name: metrics, containerPort: 9464}
    {{- end }}
  {{- include "safescale.probes" . | nindent 2 }}
  lifecycle:
    # Endpoints forget the pod first; then SIGTERM drains.
    preStop: {exec: {command: [sleep, {{ .service.preStopSeconds | toString | quote }}]}}
  resources: {{- toYaml .service.resources | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp{{ if $gateway }}, subPath: gateway{{ end }}}
    - {name: {{ ternary "home" "data" (and $gateway (eq $root.Values.mode "standalone")) }}, mountPath: /var/lib/safescale}
    {{- with .files.mounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* What a component reads from files. */}}
{{- define "safescale.needs" -}}
{{- if eq .component "gateway" -}}["peers","auth"]
{{- else if has .component (list "inference" "standalone") -}}["records","keys","catalog","models","peers","auth"]
{{- else -}}["records","keys","peers","auth"]
{{- end -}}
{{- end -}}

{{/* The pod of a component. Takes {root, component, service}. */}}
{{- define "safescale.pod" -}}
{{- $root := .root -}}
{{- $files := include "safescale.files" (merge (dict "needs" (include "safescale.needs" . | fromJsonArray)) .) | fromYaml -}}
metadata:
  labels:
    {{- include "safescale.labels" . | nindent 4 }}
    {{- with .service.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A change of what a pod reads at its start starts it anew.
    checksum/settings: {{ printf "%s\n%s" (include "safescale.peers" .) (include "safescale.records" .) | sha256sum }}
    {{- if has .component (list "inference" "standalone") }}
    checksum/catalog: {{ include "safescale.catalog" . | sha256sum }}
    {{- end }}
    {{- with .service.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "safescale.podCommon" . | nindent 2 }}
  serviceAccountName: {{ include "safescale.fullname" $root }}
  # Inference may have a whole cell in flight; the others give their work ten seconds. Who is done sooner ends sooner.
  terminationGracePeriodSeconds: {{ add .service.preStopSeconds 60 (ternary $root.Values.settings.cellTimeoutSeconds 0 (has .component (list "inference" "standalone"))) }}
  {{- include "safescale.placement" . | nindent 2 }}
  containers:
    {{- include "safescale.container" (merge (dict "files" $files) .) | nindent 4 }}
    {{- if eq .component "standalone" }}
    {{- $gateway := dict "root" $root "component" "gateway" "service" (include "safescale.service" (dict "root" $root "component" "gateway") | fromJson) }}
    {{- include "safescale.container" (merge (dict "files" (include "safescale.files" (merge (dict "needs" (include "safescale.needs" $gateway | fromJsonArray)) $gateway) | fromYaml)) $gateway) | nindent 4 }}
    {{- end }}
  volumes:
    - {name: tmp, emptyDir: {sizeLimit: 1Gi}}
    {{- if and (eq .component "standalone") $root.Values.persistence.enabled }}
    - name: data
      persistentVolumeClaim:
        claimName: {{ default (printf "%s-data" (include "safescale.fullname" $root)) $root.Values.persistence.existingClaim }}
    {{- else }}
    - {name: data, emptyDir: {sizeLimit: 2Gi}}
    {{- end }}
    {{- if eq .component "standalone" }}
    - {name: home, emptyDir: {sizeLimit: 256Mi}}
    {{- end }}
    {{- with $files.volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
