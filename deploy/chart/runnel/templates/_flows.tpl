{{/* Ways out of a pod, as rules of a NetworkPolicy. */}}

{{- define "runnel.toDns" -}}
- ports:
    {{- range .Values.networkPolicy.dnsPorts }}
    - { port: {{ . }}, protocol: UDP }
    - { port: {{ . }}, protocol: TCP }
    {{- end }}
  {{- with .Values.networkPolicy.dns }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "runnel.toPostgres" -}}
- ports:
    {{- range .Values.networkPolicy.postgres.ports }}
    - { port: {{ . }}, protocol: TCP }
    {{- end }}
  {{- with .Values.networkPolicy.postgres.peers }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "runnel.toRedis" -}}
- ports:
    {{- range .Values.networkPolicy.redis.ports }}
    - { port: {{ . }}, protocol: TCP }
    {{- end }}
  {{- with .Values.networkPolicy.redis.peers }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* The port that traces, metrics and logs go to. */}}
{{- define "runnel.otlpPort" -}}
{{- $host := (urlParse .Values.otlp.endpoint).host -}}
{{- if not (regexMatch ":[0-9]+$" $host) }}{{ fail "otlp.endpoint names no port" }}{{ end -}}
{{- regexFind "[0-9]+$" $host -}}
{{- end -}}

{{- define "runnel.toOtlp" -}}
- ports:
    - { port: {{ include "runnel.otlpPort" . }}, protocol: TCP }
  {{- with .Values.networkPolicy.otlp.peers }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
