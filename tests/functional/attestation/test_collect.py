#!/usr/bin/env python3
"""Collecting, the gate, protected PCIe, the remote verifier: against fake NVML and NSCQ libraries."""
import base64
import json
import os
import shutil

import common
from common import Checks, shared
from machine import BASE, CERT, NSCQ, REPORT, SET, SET_READY, TESTROOTS, Machine, stop, tmp

check = Checks()


def collecting():
    m = Machine(8)
    status, out, err = m.run('collect', '--nonce', '5a' * 32)
    check(status == 0, f'collect: {err}')
    items = json.loads(out)
    check(len(items) == 8 and all(i['nonce'] == '5a' * 32 and base64.b64decode(i['evidence'])[4:36] == b'\x5a' * 32
                                  for i in items), 'eight GPUs answer the nonce')
    check(m.calls(REPORT) == 8 and m.calls(CERT) == 8, 'one report and one certificate call a GPU')
    check(m.read('calls').split()[-1] == 'nvmlShutdown', 'NVML is shut down')
    status, out, _ = m.run('collect', '--format', 'coco')
    coco = json.loads(out)
    check(list(coco) == ['device_evidence_list'] and sorted(coco['device_evidence_list'][0]) ==
          ['arch', 'certificate', 'evidence', 'uuid'], f'CoCo form: {sorted(coco["device_evidence_list"][0])}')
    one, two = (json.loads(m.run('collect')[1])[0]['nonce'] for _ in range(2))
    check(one != two and len(one) == 64, 'a fresh nonce each time')
    target = os.path.join(tmp.name, 'evidence.json')
    status, out, _ = m.run('collect', '--output-file', target)
    check(status == 0 and out == '' and len(json.load(open(target, encoding='utf-8'))) == 8, 'output file')
    status, _, err = m.run('collect', '--output-file', '/nonexistent/x')
    check(status == 3 and '/nonexistent' in err, f'unwritable output: {err}')


def collection_faults():
    def refused(what, machine, word, *args):
        status, out, err = machine.run('collect', *args)
        check(status == 3 and out == '' and word in err, f'{what}: {status} {out[:80]} {err}')
        check(machine.calls(REPORT) <= 1, f'{what}: the report call was repeated')

    for code in (1, 2, 3, 4, 6, 9, 10, 12, 13, 15, 16, 17, 18, 19, 20, 23, 27, 28, 29, 999):
        for function in (REPORT, 'nvmlInit_v2') if code in (2, 9, 15, 999) else (REPORT,):
            m = Machine(1)
            m.write('fault', f'{function} {code}')
            refused(f'{function} {code}', m, str(code))
    for function in (CERT, 'nvmlSystemGetDriverVersion', 'nvmlDeviceGetUUID', 'nvmlDeviceGetCount_v2'):
        m = Machine(1)
        m.write('fault', f'{function} 15')
        refused(function, m, function)
    for what, line, word in (('report of 0 bytes', 'report-size 0', '0 bytes'), ('of 9000', 'report-size 9000', '9000'),
                             ('chain of 0 bytes', 'chain-size 0', '0 bytes'), ('of 6000', 'chain-size 6000', '6000')):
        m = Machine(1)
        m.write('fault', line)
        refused(what, m, word)
    m = Machine(2)
    m.write('fault', f'{REPORT} 15 2')
    status, out, err = m.run('collect')
    check(status == 3 and out == '' and 'GPU 1' in err, f'second GPU lost: {err}')
    refused('no GPU', Machine(0), 'no GPU')
    refused('fewer than configured', Machine(1), 'expected', '--gpus', '2')
    refused('CC off', Machine(1, '2 0 0 0'), 'disabled')
    refused('simulation', Machine(1, '1 1 0 0'), 'not production')
    refused('devtools', Machine(1, '1 1 1 0'), 'DevTools')
    status, _, err = Machine(1, '1 1 1 0').run('collect', '--allow-devtools')
    check(status == 0, f'devtools allowed: {err}')
    m = Machine(1)
    m.write('fault', 'nvmlSystemGetConfComputeSettings 25')
    check(m.run('collect')[0] == 0 and m.calls('nvmlSystemGetConfComputeState') == 1, 'old driver: the State call')
    status, _, err = common.run('collect', '--host-root', tmp.name)
    check(status == 3 and 'libnvidia-ml.so.1' in err and 'CDI' in err, f'no library: {err}')


def state():
    status, out, _ = Machine(1).run('status')
    check(status == 0 and 'CC mode: on' in out and 'not ready' in out and 'persistence on' in out, out)
    check('CC mode: off' in Machine(1, '0 0 0 0').run('status')[1], 'off')
    check('CC mode: protected-pcie' in Machine(1, '2 0 0 1').run('status')[1], 'protected PCIe')
    check('CC mode: devtools' in Machine(1, '1 1 1 0').run('status')[1], 'devtools')
    m = Machine(1)
    m.write('fault', 'persistence-off 1')
    check('nvidia-persistenced' in m.run('status')[1], 'missing persistenced is named')
    root = os.path.join(tmp.name, 'root')
    os.makedirs(f'{root}/proc', exist_ok=True)
    open(f'{root}/proc/crypto', 'w', encoding='utf-8').write('name         : ecdh-nist-p384\n')
    out = Machine(1).run('status', '--host-root', root)[1]
    check('no ecdsa' in out and 'ecdsa_generic' in out, f'missing LKCA module is named: {out}')
    check(json.loads(Machine(1).run('status', '-o', 'json')[1])['cc_mode'] == 'on', 'JSON')
    check(Machine(1, ready=1).run('ready')[1] == 'ready\n' and Machine(1).run('ready', 'get')[1] == 'not ready\n', 'ready get')


def gate():
    m = Machine(8)
    status, out, err = m.attest('--set-ready')
    check(status == 0 and m.read('ready') == '1\n' and m.calls(SET_READY) == 1, f'gate opens once: {status} {out[-300:]} {err}')
    check(m.calls(REPORT) == 8, 'one report call a GPU')
    status, _, err = Machine(1).run('ready', 'set', '--rim-url', f'{BASE}/ok', '--ocsp-url', f'{BASE}/ok/ocsp', program=TESTROOTS)
    check(status == 0, f'ready set: {err}')
    m = Machine(1, ready=1)
    status, _, err = m.attest('--set-ready')
    check(status == 0 and 'nvrc.smi.srs' in err and m.calls(SET_READY) == 0, f'open before: {err}')


def gate_stays_closed():
    def closed(what, machine, status, *args, **kw):
        got, _, err = machine.attest('--set-ready', *args, **kw)
        check(got == status and machine.read('ready') == '0\n' and machine.calls(SET_READY) == 0, f'{what}: {got} {err}')

    closed('measurements of another RIM', Machine(1), 1, rim='404')
    closed('RIM service away', Machine(1), 4, rim='503')
    closed('revoked', Machine(1), 1, ocsp='revoked')
    m = Machine(2)
    shutil.copy(f'{m.dir}/gpu0.key', f'{m.dir}/gpu1.key')  # the second GPU's signature is wrong
    closed('second GPU bad', m, 1)
    m = Machine(2)
    m.write('fault', f'{REPORT} 15 2')
    closed('second GPU lost', m, 3)
    m = Machine(2)
    for kind in ('report', 'chain', 'key'):
        shutil.copy(f'{m.dir}/gpu0.{kind}', f'{m.dir}/gpu1.{kind}')
    closed('the same GPU twice', m, 1)
    m = Machine(2)
    m.write('fault', 'count-after 1')
    closed('a GPU vanished between verification and gate', m, 6)
    policy = os.path.join(tmp.name, 'never.json')
    json.dump({'version': '1.0', 'authorization-rules': {'x-nv-gpu-available': False}}, open(policy, 'w', encoding='utf-8'))
    closed('policy', Machine(1), 5, '--policy', policy)
    closed('devtools', Machine(1, '1 1 1 0'), 3)
    m = Machine(1)
    m.write('fault', f'{SET_READY} 2')
    got, _, err = m.attest('--set-ready')
    check(got == 6 and 'final' in err, f'terminal state: {got} {err}')
    # open before and bad: only closed when asked for, because that is final
    m = Machine(1, ready=1)
    check(m.attest('--set-ready', ocsp='revoked')[0] == 1 and m.read('ready') == '1\n', 'an open gate is left open')
    m = Machine(1, ready=1)
    check(m.attest('--set-ready', '--revoke-on-failure', ocsp='revoked')[0] == 1 and m.read('ready') == '0\n', 'revoked')
    for weak in (['--device-root', f'{SET}/trust/device-root.pem'], ['--rim-root', f'{SET}/trust/rim-root.pem'],
                 ['--at', '2026-11-23T12:00:00Z'], ['--revocation', 'off'], ['--evidence', f'{SET}/gpu1.json']):
        m = Machine(1)
        got, _, err = m.attest('--set-ready', *weak)
        check(got == 2 and m.read('calls') == '' and weak[0] in err, f'{weak[0]} with --set-ready: {got} {err}')
    # without revocation the built-in policy of attest says no
    status, _, _ = Machine(1).attest('--revocation', 'off')
    check(status == 5, f'attest without revocation: {status}')


def guide_log():
    status, out, _ = Machine(1).attest('-o', 'log')
    want = open(os.path.join(os.path.dirname(__file__), 'guide.log'), encoding='utf-8').read()
    check(status == 0 and out == want, f'log:\n{out}')


def remote():
    m = Machine(2)
    for fault, status in (('ok', 0), ('nras-fewer', 1), ('nras-false', 1), ('nras-submodule-fails', 1),
                          ('nras-submodule-nonce', 1), ('nras-other-kid', 1), ('503', 4), ('html', 4), ('huge', 4), ('stalled', 4)):
        got, out, err = m.run('attest', '--verifier', 'remote', '--nras-url', f'{BASE}/{fault}', '--timeout', '5' if fault == 'stalled' else '60',
                              '-o', 'json')
        check(got == status, f'remote, {fault}: {got} {out[-400:]} {err}')
        if fault == 'ok':
            check(len(json.loads(out)['detached_eat'][1]) == 2, 'the tokens of the service are handed on')


def protected_pcie():
    t = shared()
    nonce = json.load(open(f'{t}/evidence/ppcie/gpu_evidence.json', encoding='utf-8'))[0]['nonce']
    m = Machine(8, '2 0 0 1', evidence=f'{t}/evidence/ppcie/gpu_evidence.json', keys=False)
    m.write('versions', '590.12 96.00.A5.00.01')
    for i, item in enumerate(json.load(open(f'{t}/evidence/ppcie/switch_evidence.json', encoding='utf-8'))):
        open(f'{m.dir}/switch{i}.report', 'wb').write(base64.b64decode(item['evidence']))
        open(f'{m.dir}/switch{i}.chain', 'wb').write(base64.b64decode(item['certificate']))
    env = {'FAKE_NSCQ': m.dir}
    args = ['attest', '--nscq', NSCQ, '--nonce', nonce, '--rim-dir', f'{t}/synthetic/ppcie', '--rim-root',
            f'{t}/synthetic/trust/test-rim-root.pem', '--revocation', 'off', '--at', common.CLOCK, '--policy', os.path.join(tmp.name, 'measres.json'), '-o', 'json']
    json.dump({'version': '4.0', 'authorization-rules': {
        'type': 'JWT', 'overall-claims': {'x-nvidia-overall-att-result': True}, 'detached-claims': {'measres': 'success'}}},
        open(os.path.join(tmp.name, 'measres.json'), 'w', encoding='utf-8'))
    status, out, err = m.run(*args, env=env)
    check(status == 0 and len(json.loads(out)['claims']) == 12, f'8 GPUs and 4 switches: {status} {err} {out[-300:]}')
    os.rename(f'{m.dir}/switch3.report', f'{m.dir}/hidden')
    status, out, err = m.run(*args, env=env)
    check(status == 1 and 'topology.count' in out, f'three switches: {status} {err}')
    os.rename(f'{m.dir}/hidden', f'{m.dir}/switch3.report')
    for line, word in (('create -1', 'session'), ('uuid -8', 'uuid'), ('arch -127', 'arch'), ('tnvl 1', 'not locked'),
                       ('certificate -2', 'certificate'), ('attestation_report -128', 'attestation_report'),
                       ('size 0', '0 bytes'), ('size 9000', '9000')):
        m.write('fault', line.replace('size', 'size'))
        os.environ.pop('FAKE_NVML', None)
        # the GPU library reads the same file and knows none of these names
        status, out, err = m.run(*args, env=env)
        check(status == 3 and word in err, f'NSCQ {line}: {status} {err}')
    os.remove(f'{m.dir}/fault')
    status, out, err = m.run('collect', '--device', 'nvswitch', '--nscq', NSCQ, '--nonce', nonce, env=env)
    check(status == 0 and len(json.loads(out)) == 4, f'switches alone: {err}')


try:
    for part in (collecting, collection_faults, state, gate, gate_stays_closed, guide_log, remote, protected_pcie):
        part()
finally:
    stop()
check.done('checks')
