{{/* The variables of each process, one by one. They stand in the pods and not in a ConfigMap, so that every change is a rollout and every
     rollback brings back what was. */}}

{{- define "runnel.secretEnv" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .from.existingSecret }}
      key: {{ .from.key }}
{{- end -}}

{{/* What every process logs, and whom it trusts. */}}
{{- define "runnel.baseEnv" -}}
- name: RUNNEL_LOG
  value: {{ .Values.log.filter | quote }}
- name: RUNNEL_LOG_FORMAT
  value: json
{{- if .Values.trustBundle.existingSecret }}
- name: SSL_CERT_FILE
  value: /etc/runnel/trust/ca.crt
{{- end }}
{{- end -}}

{{/* What every service has: ports, the context key, its database user, telemetry. */}}
{{- define "runnel.serviceEnv" -}}
{{ include "runnel.baseEnv" .root }}
- name: RUNNEL_LISTEN
  value: {{ printf "%s:7070" .root.Values.listenAddress | quote }}
- name: RUNNEL_OPS_LISTEN
  value: {{ printf "%s:9464" .root.Values.listenAddress | quote }}
- name: RUNNEL_CONTEXT_KEY_FILE
  value: /etc/runnel/context/key
- name: RUNNEL_POSTGRES_CONNECTIONS
  value: {{ .root.Values.postgres.connections | quote }}
# The migration has run before.
- name: RUNNEL_POSTGRES_NO_MIGRATION
  value: "true"
{{- with .root.Values.otlp }}
{{- if .endpoint }}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
- name: OTEL_SERVICE_NAME
  value: runnel-{{ $.service }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: {{ printf "k8s.namespace.name=%s,k8s.pod.name=$(POD_NAME)" $.root.Release.Namespace }}
  {{- with .resourceAttributes }},{{ . }}{{ end }}
{{- end }}
{{- end }}
{{ include (printf "runnel.%sEnv" .service) .root }}
{{- end -}}

{{- define "runnel.gatewayEnv" -}}
{{ include "runnel.secretEnv" (dict "name" "RUNNEL_POSTGRES" "from" .Values.postgres.users.admin) }}
- name: RUNNEL_PEPPER_FILE
  value: /etc/runnel/pepper/pepper
{{- range $service := list "ingest" "funnel" "segmentation" }}
- name: RUNNEL_{{ upper $service }}
  value: {{ include "runnel.address" (dict "root" $ "service" $service) }}
{{- end }}
{{- if .Values.redis.existingSecret }}
{{ include "runnel.secretEnv" (dict "name" "RUNNEL_REDIS" "from" .Values.redis) }}
{{- end }}
{{- if .Values.gateway.allowedOrigins }}
- name: RUNNEL_ALLOWED_ORIGINS
  value: {{ join "," .Values.gateway.allowedOrigins | quote }}
{{- end }}
{{- if .Values.gateway.reflection }}
- name: RUNNEL_REFLECTION
  value: "true"
{{- end }}
{{- if .Values.tls.edge.existingSecret }}
- name: RUNNEL_TLS_CERT_FILE
  value: /etc/runnel/edge/tls.crt
- name: RUNNEL_TLS_KEY_FILE
  value: /etc/runnel/edge/tls.key
{{- end }}
{{- if .Values.tls.internal.enabled }}
- name: RUNNEL_PEER_CA_FILE
  value: /etc/runnel/internal/ca.crt
- name: RUNNEL_PEER_CERT_FILE
  value: /etc/runnel/internal/tls.crt
- name: RUNNEL_PEER_KEY_FILE
  value: /etc/runnel/internal/tls.key
{{- end }}
{{- end -}}

{{- define "runnel.ingestEnv" -}}
{{ include "runnel.secretEnv" (dict "name" "RUNNEL_POSTGRES" "from" .Values.postgres.users.ingest) }}
{{ include "runnel.secretEnv" (dict "name" "RUNNEL_POSTGRES_COMPACTION" "from" .Values.postgres.users.compaction) }}
{{ include "runnel.secretEnv" (dict "name" "RUNNEL_POSTGRES_QUERY" "from" .Values.postgres.users.query) }}
{{- include "runnel.internalServerEnv" . }}
{{- end -}}

{{- define "runnel.funnelEnv" -}}
{{ include "runnel.secretEnv" (dict "name" "RUNNEL_POSTGRES" "from" .Values.postgres.users.query) }}
{{ include "runnel.secretEnv" (dict "name" "RUNNEL_POSTGRES_ADMIN" "from" .Values.postgres.users.admin) }}
- name: RUNNEL_MEMORY_MB
  value: {{ .Values.funnel.memoryMb | quote }}
{{- include "runnel.internalServerEnv" . }}
{{- end -}}

{{- define "runnel.segmentationEnv" -}}
{{ include "runnel.secretEnv" (dict "name" "RUNNEL_POSTGRES" "from" .Values.postgres.users.query) }}
{{ include "runnel.secretEnv" (dict "name" "RUNNEL_POSTGRES_ADMIN" "from" .Values.postgres.users.admin) }}
- name: RUNNEL_MEMORY_MB
  value: {{ .Values.segmentation.memoryMb | quote }}
{{- if .Values.redis.existingSecret }}
{{ include "runnel.secretEnv" (dict "name" "RUNNEL_REDIS" "from" .Values.redis) }}
{{- end }}
{{- include "runnel.internalServerEnv" . }}
{{- end -}}

{{/* Services let the gateway in and nobody else. */}}
{{- define "runnel.internalServerEnv" -}}
{{- if .Values.tls.internal.enabled }}
- name: RUNNEL_TLS_CERT_FILE
  value: /etc/runnel/internal/tls.crt
- name: RUNNEL_TLS_KEY_FILE
  value: /etc/runnel/internal/tls.key
- name: RUNNEL_TLS_CLIENT_CA_FILE
  value: /etc/runnel/internal/ca.crt
- name: RUNNEL_TLS_CLIENT_NAME
  value: {{ include "runnel.host" (dict "root" . "service" "gateway") }}
{{- end }}
{{- end -}}

{{- define "runnel.migrateEnv" -}}
{{ include "runnel.baseEnv" . }}
{{ include "runnel.secretEnv" (dict "name" "RUNNEL_POSTGRES" "from" .Values.postgres.users.owner) }}
{{- range $user := list "ingest" "compaction" "query" "admin" }}
{{ include "runnel.secretEnv" (dict "name" (printf "RUNNEL_POSTGRES_%s" (upper $user)) "from" (index $.Values.postgres.users $user)) }}
{{- end }}
{{- end -}}
