#!/usr/bin/env python3
"""The sample Pods of the chart: what they say, and played on a simulated guest."""
import json
import os
import sys

import make_guest
from common import PROGRAM, SOURCE, Checks
from machine import BASE, NVML, SET_READY, TESTROOTS, Machine, stop, tmp
from pod import Played, load

check = Checks()
EXAMPLES = os.path.join(SOURCE, 'helm/ccnode/examples')
ASAN = os.environ.get('ASAN_OPTIONS', '')


def said(name, handler):
    pod = load(f'{EXAMPLES}/attest-pod-{name}.yaml')
    spec = pod['spec']
    init, workload = spec['initContainers'][0], spec['containers'][0]
    check(pod['kind'] == 'Pod' and spec['runtimeClassName'] == handler, f'{name}: runtime class')
    check(init['resources']['limits'] == workload['resources']['limits'], f'{name}: one GPU for both')
    check('--set-ready' in init['args'] and '--gpus=1' in init['args'], f'{name}: a gate')
    check(init['securityContext']['capabilities'] == {'drop': ['ALL'], 'add': ['SYS_ADMIN']}, f'{name}: one capability')
    check(spec['volumes'][0]['emptyDir']['medium'] == 'Memory', f'{name}: the verdict stays in the guest')
    check(workload['volumeMounts'] == [{'name': 'verdict', 'mountPath': '/verdict', 'readOnly': True}], f'{name}: the workload only reads')
    text = open(f'{EXAMPLES}/attest-pod-{name}.yaml', encoding='utf-8').read()
    check('nvrc.smi.srs=1' in text and 'kernel_params' in text, f'{name}: srs is explained where one looks')
    return pod


def played(pod, name, machine, rim='ok', ocsp='ok'):
    folder = os.path.join(tmp.name, f'pod-{name}')
    os.makedirs(folder)
    env = {'FAKE_NVML': machine.dir, 'NVAT_RIM_SERVICE_BASE_URL': f'{BASE}/{rim}', 'NVAT_OCSP_BASE_URL': f'{BASE}/{ocsp}/ocsp',
           'LD_LIBRARY_PATH': os.path.dirname(NVML)}
    seen = Played(pod, folder, TESTROOTS, {}, env).run(['/bin/cat', '/verdict/verdict.json'])
    return seen, os.path.join(folder, 'verdict/verdict.json')


def gate(pod, name):
    """As written, with the search of libnvidia-ml.so.1 by name; only the services are others."""
    m = Machine(1)
    seen, _ = played(pod, f'{name}-good', m)
    check([s[:2] for s in seen] == [('attest', 0), ('workload', 0)], f'{name}: {seen}')
    verdict = json.loads(seen[-1][2]) if len(seen) == 2 else {}
    check(verdict.get('result_code') == 0 and len(verdict['detached_eat'][1]) == 1 and m.read('ready') == '1\n', f'{name}: {seen[0][2]}')
    m = Machine(1)
    seen, path = played(pod, f'{name}-revoked', m, ocsp='revoked')
    check([s[:2] for s in seen] == [('attest', 1)] and m.read('ready') == '0\n', f'{name}: revoked: {seen}')
    check(json.load(open(path, encoding='utf-8'))['result_code'] != 0, f'{name}: the verdict says why')
    m = Machine(2)
    seen, _ = played(pod, f'{name}-two', m)
    check([s[:2] for s in seen] == [('attest', 3)] and '--gpus' in seen[0][2], f'{name}: another number of GPUs: {seen}')
    m = Machine(1, ready=1)
    seen, _ = played(pod, f'{name}-srs', m)
    check(len(seen) == 2 and 'nvrc.smi.srs' in seen[0][2] and m.calls(SET_READY) == 0, f'{name}: opened by the guest init: {seen}')


def plain():
    pod = load(f'{EXAMPLES}/attest-pod-plain.yaml')
    guest = os.path.join(tmp.name, 'guest')
    make_guest.make(guest, NVML)

    def run(name):
        folder = os.path.join(tmp.name, f'plain-{name}')
        os.makedirs(folder)
        return Played(pod, folder, PROGRAM, {'/var/lib/ccnode-guest': guest}, {}).run(None)

    seen = run('good')
    check([s[:2] for s in seen] == [('attest', 0), ('workload', 0)] and 'ACCEPTED' in seen[-1][2], f'plain: {seen}')
    open(f'{guest}/mode', 'w', encoding='utf-8').write('0 0 0 0\n')
    seen = run('off')
    check([s[:2] for s in seen] == [('attest', 3)] and 'disabled' in seen[0][2], f'plain, CC off: {seen}')
    open(f'{guest}/mode', 'w', encoding='utf-8').write('2 1 0 0\n')
    os.remove(f'{guest}/gpu0.key')  # the old report answers another nonce
    seen = run('replay')
    check([s[:2] for s in seen] == [('attest', 1)], f'plain, replayed report: {seen}')


if os.geteuid() != 0:
    print('SKIPPED: volumes are mounted, which needs root')
    stop()
    sys.exit(77)
try:
    gate(said('snp', 'kata-qemu-nvidia-gpu-snp'), 'snp')
    gate(said('tdx', 'kata-qemu-nvidia-gpu-tdx'), 'tdx')
    plain()
finally:
    stop()
check.done('checks')
