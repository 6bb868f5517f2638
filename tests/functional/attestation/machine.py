"""A machine with GPUs, as the fake NVML and NSCQ libraries show it, and the services of the set with throw-away keys."""
import base64
import json
import os
import shutil
import subprocess

import common
from common import PROGRAM, SOURCE, scratch

BIN = os.path.dirname(PROGRAM)
LIB = os.path.join(os.path.dirname(BIN), 'lib')
NVML, NSCQ = f'{LIB}/libnvidia-ml.so.1', f'{LIB}/libnvidia-nscq.so.2'
TESTROOTS = f'{BIN}/ccnode-attest-testroots'
SET = os.path.join(SOURCE, 'tests/data/attest-set')
tmp = scratch()
n_machines = 0

server = subprocess.Popen([f'{BIN}/attest_services', SET], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
BASE = f'http://127.0.0.1:{server.stdout.readline().strip()}'


def stop():
    server.stdin.close()
    server.wait(60)


class Machine:
    """A folder the fake NVML serves."""

    def __init__(self, gpus=1, mode='2 1 0 0', ready=0, evidence=None, keys=True):
        global n_machines
        n_machines += 1
        self.dir = os.path.join(tmp.name, f'machine-{n_machines}')
        os.mkdir(self.dir)
        items = json.load(open(evidence or f'{SET}/gpu8.json', encoding='utf-8'))[:gpus]
        for i, item in enumerate(items):
            for kind, member in (('report', 'evidence'), ('chain', 'certificate')):
                open(f'{self.dir}/gpu{i}.{kind}', 'wb').write(base64.b64decode(item[member]))
            if keys:
                shutil.copy(f'{SET}/leaf/gpu{i}.pem', f'{self.dir}/gpu{i}.key')
        self.write('mode', mode)
        self.write('ready', str(ready))

    def write(self, name, text):
        open(f'{self.dir}/{name}', 'w', encoding='utf-8').write(text + '\n')

    def read(self, name):
        return open(f'{self.dir}/{name}', encoding='utf-8').read() if os.path.exists(f'{self.dir}/{name}') else ''

    def calls(self, function):
        return self.read('calls').split().count(function)

    def run(self, *args, program=PROGRAM, env=None):
        common.PROGRAM = program
        try:
            return common.run(*args, '--nvml', NVML, env={'FAKE_NVML': self.dir, **(env or {})})
        finally:
            common.PROGRAM = PROGRAM

    def attest(self, *args, rim='ok', ocsp='ok', env=None):
        return self.run('attest', '--rim-url', f'{BASE}/{rim}', '--ocsp-url', f'{BASE}/{ocsp}/ocsp', '--timeout', '60',
                        *args, program=TESTROOTS, env=env)


REPORT, CERT = 'nvmlDeviceGetConfComputeGpuAttestationReport', 'nvmlDeviceGetConfComputeGpuCertificate'
SET_READY = 'nvmlSystemSetConfComputeGpusReadyState'
