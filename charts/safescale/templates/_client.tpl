{{/*
Pod of a client of the services: `helm test`, a scheduled evaluation. Takes {root, name, command, inputs, mounts, env}:
inputs and mounts are its own volumes and where they stand.
*/}}
{{- define "safescale.client" -}}
{{- $root := .root -}}
{{- $part := dict "root" $root "component" "client" -}}
{{- $files := include "safescale.files" (merge (dict "needs" (list "peers")) $part) | fromYaml -}}
{{- include "safescale.podCommon" $part }}
serviceAccountName: {{ include "safescale.fullname" $root }}
restartPolicy: Never
containers:
  - name: {{ .name }}
    image: {{ include "safescale.image" (dict "root" $root "component" (ternary "orchestration" "standalone" (eq $root.Values.mode "grid"))) }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    securityContext:
      {{- include "safescale.containerSecurity" $part | nindent 6 }}
    command:
      - /bin/sh
      - -ec
      - |
        {{- .command | nindent 8 }}
    envFrom:
      - configMapRef: {name: {{ include "safescale.fullname" $root }}-peers}
    env:
      - {name: SAFESCALE_DATA_DIR, value: /var/lib/safescale}
      {{- with $files.env }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    resources:
      requests: {cpu: 50m, memory: 192Mi}
      limits: {memory: 1Gi}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      - {name: data, mountPath: /var/lib/safescale}
      {{- toYaml (concat .mounts $files.mounts) | nindent 6 }}
volumes:
  - {name: tmp, emptyDir: {sizeLimit: 256Mi}}
  - {name: data, emptyDir: {sizeLimit: 256Mi}}
  {{- toYaml (concat .inputs $files.volumes) | nindent 2 }}
{{- end -}}
