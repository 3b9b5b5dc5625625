{{/* What all pods have in common. Only the numbers are a value, since some clusters give their own: a pod that is not restricted is not wanted. */}}

{{- define "runnel.podSecurity" -}}
runAsNonRoot: true
{{- if .Values.podSecurity.fixedIds }}
runAsUser: 65532
runAsGroup: 65532
# Secrets are readable by this group.
fsGroup: 65532
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "runnel.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* One key of a Secret as a file: /etc/runnel/NAME/FILE. */}}
{{- define "runnel.secretVolume" -}}
- name: {{ .name }}
  secret:
    secretName: {{ .from.existingSecret }}
    # 0440
    defaultMode: 288
    items:
      - key: {{ .from.key }}
        path: {{ .file }}
{{- end -}}

{{/* A certificate with its key, and for calls between services the authority. */}}
{{- define "runnel.certificateVolume" -}}
- name: {{ .name }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 288
    items:
      {{- range .files }}
      - key: {{ . }}
        path: {{ . }}
      {{- end }}
{{- end -}}

{{- define "runnel.volumes" -}}
{{ include "runnel.secretVolume" (dict "name" "context" "from" .root.Values.contextKey "file" "key") }}
{{- if eq .service "gateway" }}
{{ include "runnel.secretVolume" (dict "name" "pepper" "from" .root.Values.pepper "file" "pepper") }}
{{- with .root.Values.tls.edge.existingSecret }}
{{ include "runnel.certificateVolume" (dict "name" "edge" "secret" . "files" (list "tls.crt" "tls.key")) }}
{{- end }}
{{- end }}
{{- if .root.Values.tls.internal.enabled }}
{{ include "runnel.certificateVolume" (dict "name" "internal" "secret" (include "runnel.internalCertificate" .) "files" (list "ca.crt" "tls.crt" "tls.key")) }}
{{- end }}
{{- if .root.Values.trustBundle.existingSecret }}
{{ include "runnel.trustVolume" .root }}
{{- end }}
{{- end -}}

{{- define "runnel.trustVolume" -}}
{{ include "runnel.secretVolume" (dict "name" "trust" "from" .Values.trustBundle "file" "ca.crt") }}
{{- end -}}

{{/* Each volume at /etc/runnel/NAME. Takes the text of the volumes. */}}
{{- define "runnel.mounts" -}}
{{- range fromYamlArray . }}
- name: {{ .name }}
  mountPath: /etc/runnel/{{ .name }}
  readOnly: true
{{- end }}
{{- end -}}

{{/* A number of bytes in units of a mebibyte; Mi and Gi are all that the schema lets through. */}}
{{- define "runnel.mebibytes" -}}
{{- if hasSuffix "Gi" . }}{{ mul (trimSuffix "Gi" . | int) 1024 }}{{ else }}{{ trimSuffix "Mi" . | int }}{{ end -}}
{{- end -}}
