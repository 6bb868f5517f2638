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

{{/* Where the agent listens. A key set to null counts as the chart's default, not as the agent's, which is loopback. */}}
{{- define "ccnode.listen" -}}{{ dig "http" "listen" ":9408" .Values.config }}{{- end }}
{{- define "ccnode.port" -}}{{ include "ccnode.listen" . | splitList ":" | last }}{{- end }}

{{/* The agent's configuration: config, with what the 2023 keys mean and where the host's folders are mounted laid over it. */}}
{{- define "ccnode.config" -}}
{{- $c := deepCopy .Values.config -}}
{{- $h := .Values.hostPaths -}}
{{- $over := dict "http" (dict "listen" (include "ccnode.listen" .)) -}}
{{- range $block := list "cdi" "state" "validations" }}{{ $_ := set $over $block (dict "directory" (get $h $block | clean)) }}{{ end -}}
{{- $_ := set $over "podResources" (dict "socket" (printf "%s/pod-resources/kubelet.sock" (clean $h.kubelet))) -}}
{{- if .Values.ccManager.defaultMode }}{{ $_ := set $over "mode" (dict "default" .Values.ccManager.defaultMode) }}{{ end -}}
{{- if not .Values.ccManager.enabled }}{{ $_ := set $over "mode" (merge (dict "manage" false) (dig "mode" (dict) $over)) }}{{ end -}}
{{- if not .Values.sandboxWorkloads.enabled }}{{ $_ := set $over "workload" (dict "default" "container") }}
{{- else if ne .Values.sandboxWorkloads.defaultWorkload "vm-passthrough" }}{{ $_ := set $over "workload" (dict "default" .Values.sandboxWorkloads.defaultWorkload) }}{{ end -}}
{{- if not .Values.vfioManager.enabled }}{{ $_ := set $over "vfio" (dict "manage" false) }}{{ end -}}
{{- if not .Values.sandboxDevicePlugin.enabled }}{{ $_ := set $over "devicePlugin" (dict "enabled" false) }}{{ end -}}
{{- toYaml (mergeOverwrite $c $over) }}
{{- end }}

{{/* Host folders the agent sees below its host root, under the names that they have on the host: name, path, read-only, type,
     propagation. All paths are below hostPaths.root but machineId: kubelet reads it in the tree that it runs in. */}}
{{- define "ccnode.hostPaths" -}}
{{- $h := .Values.hostPaths -}}
{{- $root := $h.root | trimSuffix "/" -}}
{{- $cdi := clean $h.cdi -}}
- { name: sys, at: /sys, path: {{ $root }}/sys, type: Directory }
- { name: dev, at: /dev, path: {{ $root }}/dev, type: Directory, readOnly: true, propagation: HostToContainer }
- { name: proc, at: /proc, path: {{ $root }}/proc, type: Directory, readOnly: true }
- { name: device-plugins, at: /var/lib/kubelet/device-plugins, path: {{ $root }}/var/lib/kubelet/device-plugins, type: DirectoryOrCreate }
- { name: pod-resources, at: {{ clean $h.kubelet }}/pod-resources, path: {{ $root }}{{ clean $h.kubelet }}/pod-resources, type: DirectoryOrCreate, readOnly: true }
- { name: cdi, at: {{ $cdi }}, path: {{ $root }}{{ $cdi }}, type: DirectoryOrCreate }
{{- if ne $cdi "/etc/cdi" }}
- { name: etc-cdi, at: /etc/cdi, path: {{ $root }}/etc/cdi, type: DirectoryOrCreate, readOnly: true }
{{- end }}
{{- if not (has $cdi (list "/var/run/cdi" "/run/cdi")) }}
- { name: run-cdi, at: /var/run/cdi, path: {{ $root }}/var/run/cdi, type: DirectoryOrCreate, readOnly: true }
{{- end }}
- { name: state, at: {{ clean $h.state }}, path: {{ $root }}{{ clean $h.state }}, type: DirectoryOrCreate }
- { name: validations, at: {{ clean $h.validations }}, path: {{ $root }}{{ clean $h.validations }}, type: DirectoryOrCreate }
- { name: run-ccnode, at: /run/ccnode, path: {{ $root }}/run/ccnode, type: DirectoryOrCreate }
- { name: modules, at: /lib/modules, path: {{ $root }}{{ $h.modules }}, type: DirectoryOrCreate, readOnly: true }
{{- with $h.crio }}
- { name: crio, at: /etc/crio, path: {{ $root }}{{ . }}, type: DirectoryOrCreate, readOnly: true }
{{- end }}
{{- with $h.machineId }}
- { name: machine-id, at: /etc/machine-id, path: {{ . }}, type: File, readOnly: true }
{{- end }}
{{- range $i, $path := $h.runtimeSockets }}
- { name: runtime-{{ $i }}, at: {{ clean $path }}, path: {{ $root }}{{ clean $path }}, type: DirectoryOrCreate, readOnly: true, propagation: HostToContainer }
{{- end }}
{{- end }}
