"""Sample Pods, read and played: init containers, then containers, each in a mount namespace with the Pod's volumes."""
import json
import os
import re
import shlex
import subprocess


def scalar(text):
    text = re.sub(r'\s+#.*$', '', text).strip()
    if text.startswith('['):
        return [scalar(part) for part in text[1:-1].split(',')]
    return json.loads(text) if text[:1] == '"' or text in ('true', 'false') or re.fullmatch(r'-?\d+', text) else text


def block(lines, at, indent):
    """Maps and lists by indentation, plain scalars, flow lists: what the samples use. Anything else is a KeyError later."""
    value = [] if lines[at][1].startswith('- ') else {}
    while at < len(lines) and lines[at][0] == indent:
        text = lines[at][1]
        if isinstance(value, list):
            if not text.startswith('- '):
                break
            if re.match(r'- [\w./]+:( |$)', text):
                lines[at] = (indent + 2, text[2:])
                item, at = block(lines, at, indent + 2)
            else:
                item, at = scalar(text[2:]), at + 1
            value.append(item)
            continue
        key, _, rest = text.partition(':')
        if re.sub(r'^\s*#.*$', '', rest).strip():
            value[key], at = scalar(rest), at + 1
        else:
            deeper = lines[at + 1][0]
            value[key], at = block(lines, at + 1, deeper)
    return value, at


def load(path):
    lines = []
    for line in open(path, encoding='utf-8').read().splitlines():
        text = line.strip()
        if text and not text.startswith('#'):
            lines.append((len(line) - len(line.lstrip()), text))
    value, at = block(lines, 0, 0)
    if at != len(lines):
        raise AssertionError(f'{path}: {lines[at]} is beyond what this reader knows')
    return value


class Played:
    def __init__(self, pod, folder, program, host_paths, env):
        self.pod, self.folder, self.program, self.env = pod['spec'], folder, program, env
        self.sources = {}
        for volume in self.pod['volumes']:
            self.sources[volume['name']] = host_paths.get(volume.get('hostPath', {}).get('path')) or os.path.join(folder, volume['name'])
            os.makedirs(self.sources[volume['name']], exist_ok=True)

    def container(self, container, argv):
        """Status and output of argv with the container's mounts and variables; everything else of this machine."""
        root = os.path.join(self.folder, 'root')
        os.makedirs(root, exist_ok=True)
        script = ['set -e', f'mount -t tmpfs none {root}']
        keep = ['/usr', '/lib', '/lib64', '/bin', '/etc', '/proc', '/dev', os.path.dirname(os.path.dirname(self.program)), os.path.dirname(self.folder)]
        for path in keep:
            if os.path.islink(path):
                script.append(f'ln -s {os.readlink(path)} {root}{path}')
            elif os.path.isdir(path):
                script.append(f'mkdir -p {root}{path} && mount --rbind {shlex.quote(path)} {root}{path}')
        for mount in container['volumeMounts']:
            target, source = root + mount['mountPath'], shlex.quote(self.sources[mount['name']])
            script.append(f'mkdir -p {target} && mount --bind {source} {target}')
            if mount.get('readOnly'):
                script.append(f'mount -o remount,bind,ro {target}')
        script.append(f'exec chroot {root} {shlex.join(argv)}')
        env = {**os.environ, **self.env, **{e['name']: e['value'] for e in container.get('env', [])}}
        done = subprocess.run(['unshare', '--mount', '--propagation', 'private', 'sh', '-c', '\n'.join(script)], capture_output=True,
                              text=True, env=env, timeout=300)
        return done.returncode, done.stdout + done.stderr

    def run(self, workload):
        """As Kubernetes: the workload starts after every init container ended with 0. Return: list of (name, status, output)."""
        seen = []
        for container in self.pod['initContainers']:
            status, output = self.container(container, [self.program, *container['args']])
            seen.append((container['name'], status, output))
            if status:
                return seen
        for container in self.pod['containers']:
            argv = workload or [self.program, *container['args']]
            seen.append((container['name'], *self.container(container, argv)))
        return seen
