{{/* Begin of the names of objects. Short, as a StatefulSet's name and its hash must fit into a label. */}}
{{- define "safescale.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $given := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $given .Values.fullnameOverride | trunc 30 | trimSuffix "-" -}}
{{- end -}}

{{/* Components of this mode, as JSON. */}}
{{- define "safescale.components" -}}
{{- if eq .Values.mode "grid" -}}["inference","retrieval","orchestration","scoring","gateway"]{{- else -}}["standalone"]{{- end -}}
{{- end -}}

{{/*
Values of a component over the defaults, as JSON. What cannot hold for it is taken from no default: orchestration and
standalone are one process, the gateway reads no topic. Takes {root, component}.
*/}}
{{- define "safescale.service" -}}
{{- $one := has .component (list "orchestration" "standalone") -}}
{{- $base := deepCopy .root.Values.defaults -}}
{{- if $one }}{{ $_ := set $base "replicas" 1 }}{{ $_ := set $base.autoscaling "enabled" false }}{{ end -}}
{{- if or $one (eq .component "gateway") }}{{ $_ := set $base.keda "enabled" false }}{{ end -}}
{{- mergeOverwrite $base (deepCopy (get .root.Values.services .component | default dict)) | toJson -}}
{{- end -}}

{{/* Labels that select a component's pods. Takes {root, component}. */}}
{{- define "safescale.selector" -}}
app.kubernetes.io/name: safescale
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "safescale.labels" -}}
{{ include "safescale.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name (replace "+" "_" .root.Chart.Version) }}
{{- end -}}

{{/* One of our images. Takes {root, component}. */}}
{{- define "safescale.image" -}}
{{- $image := .root.Values.image -}}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.repository }}/{{ .component }}:{{ default .root.Chart.AppVersion $image.tag }}
{{- end -}}

{{/* Name of what a model's server is made of: its id, as Kubernetes may have it. Takes a model. */}}
{{- define "safescale.modelName" -}}
{{- $slug := regexReplaceAll "[^a-z0-9-]" (lower .id) "-" -}}
{{- if and (eq $slug .id) (le (len $slug) 14) -}}
model-{{ $slug }}
{{- else -}}
model-{{ trunc 7 $slug | trimSuffix "-" }}-{{ sha256sum .id | trunc 6 }}
{{- end -}}
{{- end -}}

{{/* Where callers find a service. Takes {root, component}. */}}
{{- define "safescale.host" -}}
{{ include "safescale.fullname" .root }}-{{ .component }}
{{- end -}}

{{/* Secret with the certificate of the pods. */}}
{{- define "safescale.tlsSecret" -}}
{{- default (printf "%s-tls" (include "safescale.fullname" .)) .Values.tls.existingSecret -}}
{{- end -}}

{{- define "safescale.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "safescale.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
privileged: false
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Fields that every pod has. Takes {root, component}. */}}
{{- define "safescale.podCommon" -}}
automountServiceAccountToken: false
# Variables that Kubernetes makes of Services would be taken for settings: SAFESCALE_PORT=tcp://...
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- include "safescale.podSecurity" . | nindent 2 }}
{{- end -}}

{{/* Where pods go. Takes {root, component, service}. */}}
{{- define "safescale.placement" -}}
{{- with .service.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .service.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .service.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .service.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- $selector := include "safescale.selector" . }}
{{- with .service.spreadOver }}
topologySpreadConstraints:
  {{- range . }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- $selector | nindent 8 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Whether anybody who calls must say who it is. */}}
{{- define "safescale.authenticated" -}}
{{- if or .Values.auth.existingSecret .Values.auth.oidc.issuer }}true{{ end -}}
{{- end -}}

{{/* Model that `helm test` asks; empty where there is none. */}}
{{- define "safescale.testModel" -}}
{{- if .Values.test.model }}{{ .Values.test.model }}
{{- else if .Values.models }}{{ (first .Values.models).id }}
{{- else if eq .Values.mode "standalone" }}smollm2-135m-instruct
{{- end }}
{{- end -}}

{{/* Port of a URL, with a colon before it. */}}
{{- define "safescale.portOf" -}}
{{- $found := regexFind ":[0-9]+" (trimPrefix "http:" (trimPrefix "https:" .)) -}}
{{- default (ternary ":443" ":80" (hasPrefix "https:" .)) $found -}}
{{- end -}}

{{/* Pods of components, as peers of a NetworkPolicy. Takes {root, components}. */}}
{{- define "safescale.peersOf" -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/name: safescale
      app.kubernetes.io/instance: {{ .root.Release.Name }}
    matchExpressions:
      - {key: app.kubernetes.io/component, operator: In, values: {{ .components | toJson }}}
{{- end -}}

{{- define "safescale.dns" -}}
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- end -}}
