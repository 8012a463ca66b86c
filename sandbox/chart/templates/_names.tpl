{{- define "name" -}}{{ .Values.nameOverride }}{{- end }}
{{- define "selector" -}}
app: {{ include "name" . }}
app.kubernetes.io/name: {{ include "name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Values.version | default .Chart.Version }}
{{- end -}}
{{- end }}
