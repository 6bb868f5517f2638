#!/usr/bin/env python3
"""Lays out the simulated guest of helm/ccnode/examples/attest-pod-plain.yaml: NVML that serves one GPU, RIMs, anchors, a policy.

usage: make_guest.py DIR [--nvml FILE]     FILE: the test library libnvidia-ml.so.1 (default: build/dev/lib/)
"""
import base64
import json
import os
import shutil
import sys

SOURCE = os.path.abspath(os.path.join(os.path.dirname(__file__), '../../..'))
SET = os.path.join(SOURCE, 'tests/data/attest-set')


def make(folder, nvml):
    os.makedirs(folder, exist_ok=True)
    for part in ('rims', 'trust'):
        shutil.copytree(f'{SET}/{part}', f'{folder}/{part}', dirs_exist_ok=True)
    shutil.copy(nvml, f'{folder}/libnvidia-ml.so.1')
    gpu = json.load(open(f'{SET}/gpu1.json', encoding='utf-8'))[0]
    for kind, member in (('report', 'evidence'), ('chain', 'certificate')):
        open(f'{folder}/gpu0.{kind}', 'wb').write(base64.b64decode(gpu[member]))
    shutil.copy(f'{SET}/leaf/gpu0.pem', f'{folder}/gpu0.key')
    for name, text in (('mode', '2 1 0 0'), ('ready', '0'), ('policy.json', json.dumps({
            'version': '4.0', 'authorization-rules': {
                'type': 'JWT', 'overall-claims': {'x-nvidia-overall-att-result': True}, 'detached-claims': {'measres': 'success'}}}))):
        open(f'{folder}/{name}', 'w', encoding='utf-8').write(text + '\n')


if __name__ == '__main__':
    if len(sys.argv) not in (2, 4) or sys.argv[1].startswith('-') or (len(sys.argv) == 4 and sys.argv[2] != '--nvml'):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    make(sys.argv[1], sys.argv[3] if len(sys.argv) == 4 else f'{SOURCE}/build/dev/lib/libnvidia-ml.so.1')
