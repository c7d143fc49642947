{{/* Settings of all pods, none of them secret. Takes {root}. */}}
{{- define "safescale.peers" -}}
{{- $root := .root -}}
{{- if eq $root.Values.mode "grid" }}
{{- range list "inference" "retrieval" "orchestration" "scoring" }}
SAFESCALE_{{ upper . }}: {{ include "safescale.host" (dict "root" $root "component" .) }}:50051
{{- end }}
{{- else }}
SAFESCALE_SERVER: {{ include "safescale.host" (dict "root" $root "component" "standalone") }}:50051
{{- end }}
SAFESCALE_LOG_LEVEL: {{ $root.Values.settings.logLevel }}
{{- with $root.Values.settings.corsOrigins }}
SAFESCALE_CORS_ORIGINS: {{ . | quote }}
{{- end }}
{{- with include "safescale.allowedHosts" $root }}
SAFESCALE_ALLOWED_HOSTS: {{ . | quote }}
{{- end }}
{{- with $root.Values.tracing }}
{{- if .endpoint }}
SAFESCALE_OTLP_ENDPOINT: {{ .endpoint | quote }}
SAFESCALE_TRACE_RATIO: {{ .ratio | quote }}
{{- end }}
{{- end }}
{{- with $root.Values.auth.oidc }}
{{- if .issuer }}
SAFESCALE_OIDC_ISSUER: {{ .issuer | quote }}
SAFESCALE_OIDC_AUDIENCE: {{ .audience | quote }}
SAFESCALE_OIDC_ROLES_CLAIM: {{ .rolesClaim | quote }}
{{- end }}
{{- end }}
{{- range $name, $value := $root.Values.settings.extra }}
{{ $name }}: {{ $value | toString | quote }}
{{- end }}
{{- end -}}

{{/* Names by which the gateway may be called, with commas between; empty for any: nothing is exposed, or any name is. */}}
{{- define "safescale.allowedHosts" -}}
{{- $names := .Values.settings.allowedHosts -}}
{{- if .Values.ingress.enabled }}{{ $names = append $names .Values.ingress.host }}{{ end -}}
{{- $any := and .Values.gatewayApi.enabled (empty .Values.gatewayApi.hostnames) -}}
{{- if .Values.gatewayApi.enabled }}{{ $names = concat $names .Values.gatewayApi.hostnames }}{{ end -}}
{{- range $names }}{{ if or (empty .) (contains "*" .) }}{{ $any = true }}{{ end }}{{ end -}}
{{- if and $names (not $any) -}}
{{- $host := include "safescale.host" (dict "root" . "component" "gateway") -}}
{{- $space := printf "%s.%s" $host .Release.Namespace -}}
{{- concat $names (list $host $space (printf "%s.svc" $space) (printf "%s.svc.cluster.local" $space)) | uniq | join "," -}}
{{- end -}}
{{- end -}}

{{/* Settings of what works with the bus, the records and models. Takes {root}. */}}
{{- define "safescale.records" -}}
{{- with .root.Values.settings }}
SAFESCALE_CALL_TIMEOUT_S: {{ .callTimeoutSeconds | toString | quote }}
SAFESCALE_CELL_TIMEOUT_S: {{ .cellTimeoutSeconds | toString | quote }}
{{- end }}
{{- with .root.Values.embeddings }}
{{- if .url }}
SAFESCALE_EMBEDDINGS: {{ .url | quote }}
SAFESCALE_EMBEDDINGS_MODEL: {{ .model | quote }}
SAFESCALE_EMBEDDINGS_QUERY_PREFIX: {{ .queryPrefix | quote }}
{{- end }}
{{- end }}
{{- if eq .root.Values.mode "grid" }}
{{- with .root.Values.kafka }}
SAFESCALE_KAFKA: {{ .bootstrapServers | quote }}
SAFESCALE_KAFKA_SECURITY: {{ .security }}
SAFESCALE_KAFKA_SASL: {{ .sasl | quote }}
SAFESCALE_KAFKA_USERNAME: {{ .username | quote }}
SAFESCALE_KAFKA_PARTITIONS: {{ .partitions | toString | quote }}
SAFESCALE_KAFKA_REPLICATION: {{ .replication | toString | quote }}
SAFESCALE_KAFKA_RETENTION_HOURS: {{ .retentionHours | toString | quote }}
{{- end }}
{{- with .root.Values.elasticsearch }}
SAFESCALE_ELASTICSEARCH: {{ .urls | quote }}
SAFESCALE_ELASTICSEARCH_PREFIX: {{ .prefix }}
SAFESCALE_ELASTICSEARCH_REPLICAS: {{ .replicas | toString | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The catalog: rows without the chart's own fields, with the URLs of servers and the paths of secrets filled in. */}}
{{- define "safescale.catalog" -}}
{{- $root := .root -}}
{{- $rows := list -}}
{{- range $model := $root.Values.models -}}
{{- $row := omit (deepCopy $model) "server" "apiKeySecret" "caSecret" -}}
{{- $name := include "safescale.modelName" $model -}}
{{- $endpoint := $row.endpoint | default dict -}}
{{- with $model.server -}}
{{- $urls := list -}}
{{- $host := include "safescale.host" (dict "root" $root "component" $name) -}}
{{- range $i := until (int (.replicas | default 1)) -}}
{{- $urls = append $urls (printf "http://%s-%d.%s:8080" $host $i $host) -}}
{{- end -}}
{{- $_ := set $endpoint "urls" $urls -}}
{{- if and (eq .engine "vllm") (not $endpoint.flavour) }}{{ $_ := set $endpoint "flavour" "vllm" }}{{ end -}}
{{- if and (eq .engine "llamacpp") (not $endpoint.flavour) }}{{ $_ := set $endpoint "flavour" "llamacpp" }}{{ end -}}
{{- if and (eq .engine "llamacpp") (not $endpoint.concurrency) }}{{ $_ := set $endpoint "concurrency" (int (.slots | default 1)) }}{{ end -}}
{{- end -}}
{{- if $model.apiKeySecret }}{{ $_ := set $endpoint "api_key_file" (printf "/run/safescale/%s-key/%s" $name $model.apiKeySecret.key) }}{{ end -}}
{{- if $model.caSecret }}{{ $_ := set $endpoint "ca_file" (printf "/run/safescale/%s-ca/%s" $name $model.caSecret.key) }}
{{- else if and $root.Values.caBundle.configMap (hasPrefix "https:" (first ($endpoint.urls | default (list "")))) }}{{ $_ := set $endpoint "ca_file" (printf "/run/safescale/ca/%s" $root.Values.caBundle.key) }}{{ end -}}
{{- if $endpoint }}{{ $_ := set $row "endpoint" $endpoint }}{{ end -}}
{{- $rows = append $rows $row -}}
{{- end -}}
{{ dict "models" $rows | toYaml }}
{{- end -}}

{{/*
Files that a component reads: volumes, mounts and the variables that name them, as one YAML mapping, so that the three
cannot differ. Takes {root, component, needs}; needs is a list of: records, catalog, keys, peers, auth, own.
*/}}
{{- define "safescale.files" -}}
{{- $v := .root.Values -}}
{{- $needs := .needs -}}
{{- $volumes := list -}}{{- $mounts := list -}}{{- $env := list -}}
{{- $bundle := ternary (printf "/run/safescale/ca/%s" $v.caBundle.key) "" (ne $v.caBundle.configMap "") -}}
{{- $secrets := dict -}}
{{- if has "records" $needs -}}
{{- if eq $v.mode "grid" -}}
{{- $_ := set $secrets "kafka" (dict "secret" $v.kafka.existingSecret "files" (dict "SAFESCALE_KAFKA_PASSWORD_FILE" $v.kafka.passwordKey "SAFESCALE_KAFKA_CA_FILE" $v.kafka.caKey "SAFESCALE_KAFKA_CERTIFICATE_FILE" $v.kafka.certificateKey "SAFESCALE_KAFKA_KEY_FILE" $v.kafka.keyKey)) -}}
{{- $_ := set $secrets "elasticsearch" (dict "secret" $v.elasticsearch.existingSecret "files" (dict "SAFESCALE_ELASTICSEARCH_API_KEY_FILE" $v.elasticsearch.apiKeyKey "SAFESCALE_ELASTICSEARCH_CA_FILE" $v.elasticsearch.caKey)) -}}
{{- if and $bundle (not $v.kafka.caKey) (hasSuffix "SSL" $v.kafka.security) }}{{ $env = append $env (dict "name" "SAFESCALE_KAFKA_CA_FILE" "value" $bundle) }}{{ end -}}
{{- if and $bundle (not $v.elasticsearch.caKey) (contains "https:" $v.elasticsearch.urls) }}{{ $env = append $env (dict "name" "SAFESCALE_ELASTICSEARCH_CA_FILE" "value" $bundle) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if and (has "keys" $needs) $v.embeddings.url -}}
{{- $_ := set $secrets "embeddings" (dict "secret" $v.embeddings.existingSecret "files" (dict "SAFESCALE_EMBEDDINGS_API_KEY_FILE" $v.embeddings.apiKeyKey "SAFESCALE_EMBEDDINGS_CA_FILE" $v.embeddings.caKey)) -}}
{{- if and $bundle (not $v.embeddings.caKey) (hasPrefix "https:" $v.embeddings.url) }}{{ $env = append $env (dict "name" "SAFESCALE_EMBEDDINGS_CA_FILE" "value" $bundle) }}{{ end -}}
{{- end -}}
{{- if has "auth" $needs -}}
{{- $_ := set $secrets "tokens" (dict "secret" $v.auth.existingSecret "files" (dict "SAFESCALE_TOKENS_FILE" $v.auth.tokensKey)) -}}
{{- if $v.auth.oidc.issuer }}{{ $_ := set $secrets "oidc" (dict "secret" $v.auth.oidc.existingSecret "files" (dict "SAFESCALE_OIDC_JWKS_FILE" $v.auth.oidc.jwksKey)) }}{{ end -}}
{{- end -}}
{{- if has "peers" $needs -}}
{{- $_ := set $secrets "token" (dict "secret" $v.auth.service.existingSecret "files" (dict "SAFESCALE_TOKEN_FILE" $v.auth.service.key)) -}}
{{- if $v.tls.enabled -}}
{{- $files := dict "SAFESCALE_TLS_CA_FILE" "ca.crt" -}}
{{- if or $v.tls.mutual (has "auth" $needs) }}{{ $_ := set $files "SAFESCALE_TLS_CERTIFICATE_FILE" "tls.crt" }}{{ $_ := set $files "SAFESCALE_TLS_KEY_FILE" "tls.key" }}{{ end -}}
{{- if and $v.tls.mutual (has "auth" $needs) }}{{ $_ := set $files "SAFESCALE_TLS_CLIENT_CA_FILE" "ca.crt" }}{{ end -}}
{{- $_ := set $secrets "tls" (dict "secret" (include "safescale.tlsSecret" .root) "files" $files) -}}
{{- end -}}
{{- end -}}
{{- range $name, $one := $secrets -}}
{{- if $one.secret -}}
{{- $volumes = append $volumes (dict "name" $name "secret" (dict "secretName" $one.secret "defaultMode" 288)) -}}
{{- $mounts = append $mounts (dict "name" $name "mountPath" (printf "/run/safescale/%s" $name) "readOnly" true) -}}
{{- range $variable, $key := $one.files -}}
{{- if $key }}{{ $env = append $env (dict "name" $variable "value" (printf "/run/safescale/%s/%s" $name $key)) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if has "models" $needs -}}
{{- range $model := $v.models -}}
{{- range $kind := list "key" "ca" -}}
{{- with get $model (ternary "apiKeySecret" "caSecret" (eq $kind "key")) -}}
{{- $name := printf "%s-%s" (include "safescale.modelName" $model) $kind -}}
{{- $volumes = append $volumes (dict "name" $name "secret" (dict "secretName" .name "defaultMode" 288 "items" (list (dict "key" .key "path" .key)))) -}}
{{- $mounts = append $mounts (dict "name" $name "mountPath" (printf "/run/safescale/%s" $name) "readOnly" true) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (has "catalog" $needs) $v.models -}}
{{- $name := printf "%s-catalog%s" (include "safescale.fullname" .root) (ternary "-setup" "" (eq .component "setup")) -}}
{{- $volumes = append $volumes (dict "name" "catalog" "configMap" (dict "name" $name)) -}}
{{- $mounts = append $mounts (dict "name" "catalog" "mountPath" "/etc/safescale" "readOnly" true) -}}
{{- $env = append $env (dict "name" "SAFESCALE_MODELS_FILE" "value" "/etc/safescale/models.yaml") -}}
{{- end -}}
{{- if $bundle -}}
{{- $volumes = append $volumes (dict "name" "ca" "configMap" (dict "name" $v.caBundle.configMap)) -}}
{{- $mounts = append $mounts (dict "name" "ca" "mountPath" "/run/safescale/ca" "readOnly" true) -}}
{{- $env = append $env (dict "name" "SSL_CERT_FILE" "value" $bundle) -}}
{{- end -}}
{{ dict "volumes" $volumes "mounts" $mounts "env" $env | toYaml }}
{{- end -}}
