{{- define "ccnode.name" -}}
{{- if contains "ccnode" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-ccnode" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "ccnode.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: ccnode
{{ include "ccnode.selector" . }}
{{- end }}

{{- define "ccnode.selector" -}}
app.kubernetes.io/name: ccnode
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ccnode.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "ccnode.name" .) }}{{ else }}{{ required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name }}{{ end -}}
{{- end }}

{{- define "ccnode.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end }}

{{/* The agent's configuration: config, with what the 2023 keys mean laid over it. */}}
{{- define "ccnode.config" -}}
{{- $c := deepCopy .Values.config -}}
{{- $over := dict -}}
{{- if .Values.ccManager.defaultMode }}{{ $_ := set $over "mode" (dict "default" .Values.ccManager.defaultMode) }}{{ end -}}
{{- if not .Values.sandboxWorkloads.enabled }}{{ $_ := set $over "workload" (dict "default" "container") }}
{{- else if ne .Values.sandboxWorkloads.defaultWorkload "vm-passthrough" }}{{ $_ := set $over "workload" (dict "default" .Values.sandboxWorkloads.defaultWorkload) }}{{ end -}}
{{- if not .Values.vfioManager.enabled }}{{ $_ := set $over "vfio" (dict "manage" false) }}{{ end -}}
{{- if not .Values.sandboxDevicePlugin.enabled }}{{ $_ := set $over "devicePlugin" (dict "enabled" false) }}{{ end -}}
{{- toYaml (mergeOverwrite $c $over) }}
{{- end }}

{{- define "ccnode.listen" -}}{{ dig "http" "listen" "127.0.0.1:9408" .Values.config }}{{- end }}
{{- define "ccnode.port" -}}{{ include "ccnode.listen" . | splitList ":" | last }}{{- end }}

{{/* Host folders the agent sees below its host root: name, path, read-only, type, propagation. */}}
{{- define "ccnode.hostPaths" -}}
{{- $root := .Values.hostPaths.root | trimSuffix "/" -}}
- { name: sys, at: /sys, path: {{ $root }}/sys, type: Directory }
- { name: dev, at: /dev, path: {{ $root }}/dev, type: Directory, readOnly: true, propagation: HostToContainer }
- { name: proc, at: /proc, path: {{ $root }}/proc, type: Directory, readOnly: true }
- { name: device-plugins, at: /var/lib/kubelet/device-plugins, path: {{ $root }}/var/lib/kubelet/device-plugins, type: DirectoryOrCreate }
- { name: pod-resources, at: /var/lib/kubelet/pod-resources, path: {{ $root }}{{ .Values.hostPaths.kubelet }}/pod-resources, type: DirectoryOrCreate, readOnly: true }
- { name: cdi, at: {{ dig "cdi" "directory" "/var/run/cdi" .Values.config }}, path: {{ $root }}{{ .Values.hostPaths.cdi }}, type: DirectoryOrCreate }
- { name: etc-cdi, at: /etc/cdi, path: {{ $root }}/etc/cdi, type: DirectoryOrCreate, readOnly: true }
- { name: state, at: {{ dig "state" "directory" "/var/lib/ccnode" .Values.config }}, path: {{ $root }}{{ .Values.hostPaths.state }}, type: DirectoryOrCreate }
- { name: validations, at: {{ dig "validations" "directory" "/run/nvidia/validations" .Values.config }}, path: {{ $root }}{{ .Values.hostPaths.validations }}, type: DirectoryOrCreate }
- { name: run-ccnode, at: /run/ccnode, path: {{ $root }}/run/ccnode, type: DirectoryOrCreate }
- { name: modules, at: /lib/modules, path: {{ $root }}{{ .Values.hostPaths.modules }}, type: DirectoryOrCreate, readOnly: true }
{{- range $i, $path := .Values.hostPaths.runtimeSockets }}
- { name: runtime-{{ $i }}, at: {{ $path }}, path: {{ $root }}{{ $path }}, type: DirectoryOrCreate, readOnly: true, propagation: HostToContainer }
{{- end }}
{{- end }}
