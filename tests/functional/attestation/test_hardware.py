#!/usr/bin/env python3
"""A read-only look at a real GPU: what ccnode-attest says is what nvidia-smi says."""
import json
import os
import shutil
import subprocess
import sys

import common
from common import Checks

if os.environ.get('CCNODE_HARDWARE') != '1':
    print('SKIPPED: CCNODE_HARDWARE=1 allows the look at real hardware')
    sys.exit(77)
if not shutil.which('nvidia-smi'):
    print('SKIPPED: no nvidia-smi here')
    sys.exit(77)


def smi(*args):
    return subprocess.run(['nvidia-smi', *args], capture_output=True, text=True, timeout=60, check=True).stdout


check = Checks()
status, out, err = common.run('status', '-o', 'json')
check(status == 0, f'status: {err}')
said = json.loads(out)
check((said['cc_mode'] == 'on') == ('CC status: ON' in smi('conf-compute', '-f')), f'CC mode: {said["cc_mode"]}')
check(said['ready_state'] == ('not-ready' not in smi('conf-compute', '-grs')), f'ready state: {said["ready_state"]}')
rows = [[field.strip() for field in line.split(',')] for line in
        smi('--query-gpu=uuid,vbios_version,driver_version,persistence_mode', '--format=csv,noheader').splitlines()]
check([[g['uuid'], g['vbios_version'].upper(), said['driver_version'], g['persistence'] == 'on'] for g in said['gpus']] ==
      [[r[0], r[1].upper(), r[2], r[3] == 'Enabled'] for r in rows], f'GPUs: {said} {rows}')
status, out, err = common.run('collect')
if said['cc_mode'] == 'off':
    check(status == 3 and out == '' and 'CC off' in err, f'collect with CC off: {status} {err}')
else:
    check(status == 0 and len(json.loads(out)) == len(rows), f'collect: {status} {err}')
print(json.dumps(said))
check.done('checks on real hardware')
