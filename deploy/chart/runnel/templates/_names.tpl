{{/* Names and labels. Every template takes the root context or, where it is about one service, a dict of `root` and `service`. */}}

{{- define "runnel.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* The prefix of all names. Short enough for the longest suffix within 63 characters. */}}
{{- define "runnel.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "runnel.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "runnel.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What the pods of a release are known by. It never changes: a Deployment's selector cannot. */}}
{{- define "runnel.selector" -}}
app.kubernetes.io/name: {{ include "runnel.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "runnel.labels" -}}
{{ include "runnel.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "runnel.serviceSelector" -}}
{{ include "runnel.selector" .root }}
app.kubernetes.io/component: {{ .service }}
{{- end -}}

{{- define "runnel.serviceLabels" -}}
{{ include "runnel.labels" .root }}
app.kubernetes.io/component: {{ .service }}
{{- end -}}

{{- define "runnel.serviceName" -}}
{{ include "runnel.fullname" .root }}-{{ .service }}
{{- end -}}

{{/* The name by which a service is dialled, and which its certificate carries. */}}
{{- define "runnel.host" -}}
{{ include "runnel.serviceName" . }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
{{- end -}}

{{/* Where the gateway finds a service. */}}
{{- define "runnel.address" -}}
{{ ternary "https" "http" .root.Values.tls.internal.enabled }}://{{ include "runnel.host" . }}:7070
{{- end -}}

{{/* The Secret with a service's certificate for calls between services. */}}
{{- define "runnel.internalCertificate" -}}
{{- $named := index .root.Values.tls.internal.existingSecrets .service -}}
{{- if .root.Values.tls.internal.certManager.enabled -}}
{{- if $named }}{{ fail "tls.internal.existingSecrets and tls.internal.certManager.enabled exclude each other" }}{{ end -}}
{{ include "runnel.serviceName" . }}-internal-tls
{{- else -}}
{{- required (printf "tls.internal.existingSecrets.%s names no Secret, and cert-manager is not to make one" .service) $named -}}
{{- end -}}
{{- end -}}

{{- define "runnel.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}
