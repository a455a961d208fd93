{{/* The base of every object's name. */}}
{{- define "tocsin.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tocsin.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tocsin.labels" -}}
{{ include "tocsin.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "tocsin.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{- define "tocsin.serviceAccount" -}}
{{ default (include "tocsin.fullname" .) .Values.serviceAccount.name }}
{{- end -}}

{{/* Names of the Secrets: ours, or those handed in. */}}
{{- define "tocsin.keysSecret" -}}
{{ default (printf "%s-keys" (include "tocsin.fullname" .)) .Values.secretKeys.existingSecret }}
{{- end -}}
{{- define "tocsin.postgresSecret" -}}
{{- if .Values.postgresql.enabled -}}
{{ include "tocsin.fullname" . }}-postgres
{{- else -}}
{{ required "postgresql.enabled is false: postgresql.existingSecret must name a Secret with the key url" .Values.postgresql.existingSecret }}
{{- end -}}
{{- end -}}
{{- define "tocsin.natsSecret" -}}
{{- if .Values.nats.enabled -}}
{{ include "tocsin.fullname" . }}-nats
{{- else -}}
{{ required "nats.enabled is false: nats.existingSecret must name a Secret with the key url" .Values.nats.existingSecret }}
{{- end -}}
{{- end -}}

{{/* A value that is made once: what the cluster has under the key, else the given one, else a random one.
     Arguments: root, secret, key, value, length. */}}
{{- define "tocsin.kept" -}}
{{- $found := lookup "v1" "Secret" .root.Release.Namespace .secret -}}
{{- if .value -}}
{{ .value }}
{{- else if and $found (hasKey (default dict $found.data) .key) -}}
{{ index $found.data .key | b64dec }}
{{- else -}}
{{ randAlphaNum .length }}
{{- end -}}
{{- end -}}

{{/* The URL that links in events begin with. */}}
{{- define "tocsin.publicURL" -}}
{{- if .Values.publicURL -}}
{{ .Values.publicURL }}
{{- else if and .Values.ingress.enabled .Values.ingress.hosts -}}
{{ ternary "https" "http" (or (not (empty .Values.ingress.tlsSecret)) (not (empty .Values.certManager.issuerRef))) }}://{{ first .Values.ingress.hosts }}
{{- else if and .Values.gateway.enabled .Values.gateway.hostnames -}}
https://{{ first .Values.gateway.hostnames }}
{{- else -}}
http://{{ include "tocsin.fullname" . }}.{{ .Release.Namespace }}.svc:{{ .Values.service.port }}
{{- end -}}
{{- end -}}

{{/* The roles that get a Deployment, as a JSON list. */}}
{{- define "tocsin.deployments" -}}
{{- if eq .Values.mode "split" -}}
["indexer","updater","matcher","notifier","delivery"]
{{- else -}}
["combo"]
{{- end -}}
{{- end -}}

{{/* The role whose pods serve the API: it has the workspace that uploaded layers are kept in. */}}
{{- define "tocsin.apiRole" -}}
{{ ternary "indexer" "combo" (eq .Values.mode "split") }}
{{- end -}}

{{- define "tocsin.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Environment and mounts with which any command finds its configuration, database and NATS. */}}
{{- define "tocsin.environment" -}}
- {name: TOCSIN_CONFIG, value: /etc/tocsin/tocsin.yaml}
- {name: TOCSIN_DATABASE_URL_FILE, value: /etc/tocsin/postgres/url}
- {name: TOCSIN_NATS_URL_FILE, value: /etc/tocsin/nats/url}
- {name: TOCSIN_SECRETS_KEYS_FILE, value: /etc/tocsin/keys/keys}
- {name: TOCSIN_SHUTDOWN_DELAY, value: {{ .Values.drainSeconds }}s}
{{- end -}}
{{- define "tocsin.mounts" -}}
- {name: config, mountPath: /etc/tocsin/tocsin.yaml, subPath: tocsin.yaml, readOnly: true}
- {name: postgres, mountPath: /etc/tocsin/postgres, readOnly: true}
- {name: nats, mountPath: /etc/tocsin/nats, readOnly: true}
- {name: keys, mountPath: /etc/tocsin/keys, readOnly: true}
{{- end -}}
{{- define "tocsin.volumes" -}}
- name: config
  configMap: {name: {{ include "tocsin.fullname" . }}}
- name: postgres
  secret: {secretName: {{ include "tocsin.postgresSecret" . }}, items: [{key: url, path: url}]}
- name: nats
  secret: {secretName: {{ include "tocsin.natsSecret" . }}, items: [{key: url, path: url}]}
- name: keys
  secret: {secretName: {{ include "tocsin.keysSecret" . }}, items: [{key: keys, path: keys}]}
{{- end -}}
