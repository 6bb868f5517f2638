#!/usr/bin/env python3
"""The gate's order and limits, every answer of the driver at every call, the remote verifier's versions."""
import json
import os
import shutil

import common
from common import Checks
from machine import BASE, CERT, NSCQ, REPORT, SET, SET_READY, TESTROOTS, Machine, stop, tmp

check = Checks()
GET_READY = 'nvmlSystemGetConfComputeGpusReadyState'


def told_before_opened():
    """What can't be written down is no success: the gate stays closed."""
    m = Machine(1)
    status, _, err = m.attest('--set-ready', '--output-file', '/nonexistent/verdict.json')
    check(status == 2 and m.read('ready') == '0\n' and m.calls(SET_READY) == 0, f'verdict unwritable: {status} {err}')
    m = Machine(1)
    status, _, err = m.attest('--set-ready', '--evidence-out', '/nonexistent/evidence.json')
    check(status == 3 and m.calls(SET_READY) == 0, f'evidence unwritable: {status} {err}')
    m = Machine(2)
    verdict = os.path.join(tmp.name, 'verdict.json')
    status, out, err = m.attest('--set-ready', '-o', 'json', '--output-file', verdict)
    told = json.load(open(verdict, encoding='utf-8'))
    check(status == 0 and out == '' and told['result_code'] == 0 and len(told['detached_eat'][1]) == 2, f'verdict file: {err}')
    check(m.read('ready') == '1\n', 'gate open')
    calls = m.read('calls').split()
    check(calls[-3:] == [SET_READY, GET_READY, 'nvmlShutdown'], f'set, read back, shut down: {calls[-4:]}')
    check(calls.index(SET_READY) > max(i for i, c in enumerate(calls) if c == 'nvmlDeviceGetUUID'), 'uuids are read again before')


def log_line():
    line = '\tSetting the GPU Ready State to READY.\n'
    out = Machine(2).attest('--set-ready', '-o', 'log')[1]
    check(out.count(line) == 1 and out.index(line) > out.index('GPU 0 verified') and
          out.index(line) < out.index('GPU 1 verified'), f'said once, with the last GPU: {out}')
    check(line not in Machine(1).attest('-o', 'log')[1], 'not without a gate')
    check(line not in Machine(1, ready=1).attest('--set-ready', '-o', 'log')[1], 'not when it was open')
    check(line not in Machine(1).attest('--set-ready', '-o', 'log', ocsp='revoked')[1], 'not after a failure')


def last_look():
    m = Machine(2)
    m.write('fault', 'uuid-after 2')
    status, _, err = m.attest('--set-ready')
    check(status == 6 and m.calls(SET_READY) == 0 and 'GPU 0 is' in err, f'other GPUs before the gate: {status} {err}')
    m = Machine(2)
    m.write('fault', 'nvmlDeviceGetCount_v2 15 2')
    status, _, err = m.attest('--set-ready')
    check(status == 6 and m.calls(SET_READY) == 0, f'device lost between verification and gate: {status} {err}')
    m = Machine(1)
    m.write('fault', f'{GET_READY} 15 2')
    status, _, err = m.attest('--set-ready')
    check(status == 6 and m.calls(SET_READY) == 1, f'read back fails: {status} {err}')
    m = Machine(1)
    m.write('fault', f'{GET_READY} 3')
    status, _, err = m.attest('--set-ready')
    check(status == 6 and m.calls(REPORT) == 0, f'no ready state at all: {status} {err}')
    status, _, err = m.attest()
    check(status == 0 and 'ready state is unknown' in err, f'without a gate it is a warning: {status} {err}')


def open_before():
    """TRUE before us: FALSE is final, so it happens only when asked for."""
    for what, fault, args, left in (('lost GPU', f'{REPORT} 15 2', [], '1\n'),
                                    ('lost GPU, revoke', f'{REPORT} 15 2', ['--revoke-on-failure'], '0\n')):
        m = Machine(2, ready=1)
        m.write('fault', fault)
        status, _, err = m.attest('--set-ready', *args)
        check(status == 3 and m.read('ready') == left, f'{what}: {status} {m.read("ready")} {err}')
    m = Machine(1)
    status, _, err = m.attest('--set-ready', '--revoke-on-failure', ocsp='revoked')
    check(status == 1 and m.calls(SET_READY) == 0, 'a closed flag is left alone')
    m = Machine(1, ready=1)
    check(m.attest('--set-ready', '--revoke-on-failure')[0] == 0 and m.read('ready') == '1\n', 'success revokes nothing')


def nothing_weak():
    for args, word in ((['--verifier', 'remote', '--nras-url', BASE + '/ok'], 'TLS'),
                       (['--verifier', 'remote', '--ca-file', '/etc/hostname'], 'ca-file'),
                       (['--verifier', 'remote', '--issuer', 'me'], 'issuer'),
                       (['--allow-missing-fwid'], 'allow-missing-fwid'),
                       (['--gpu-evidence-source', 'file'], 'gpu-evidence-source')):
        m = Machine(1)
        status, _, err = m.attest('--set-ready', *args)
        check(status == 2 and word in err and m.read('calls') == '', f'{args}: {status} {err}')
    m = Machine(1)
    status, _, err = m.run('attest', '--set-ready', '--verifier', 'remote', env={'NVAT_NRAS_BASE_URL': BASE + '/ok'}, program=TESTROOTS)
    check(status == 2 and m.read('calls') == '', f'from the environment: {status} {err}')
    # dev-tools mode: never without being asked
    m = Machine(1, '1 1 1 0')
    check(m.attest('--set-ready')[0] == 3 and m.read('ready') == '0\n', 'devtools')
    check(m.attest('--set-ready', '--allow-devtools')[0] == 0 and m.read('ready') == '1\n', 'devtools when asked')


def every_answer():
    """Each code at each call: refused, named, and no call that ends the CC session is repeated."""
    calls = ['nvmlInit_v2', 'nvmlSystemGetDriverVersion', 'nvmlDeviceGetCount_v2', 'nvmlDeviceGetHandleByIndex_v2',
             'nvmlDeviceGetUUID', 'nvmlDeviceGetVbiosVersion', 'nvmlDeviceGetArchitecture', CERT, REPORT]
    codes = [1, 2, 3, 4, 6, 7, 9, 10, 12, 13, 15, 16, 17, 18, 19, 20, 23, 25, 27, 28, 29, 999]
    for i, code in enumerate(codes):
        function = calls[i % len(calls)]
        m = Machine(1)
        m.write('fault', f'{function} {code}')
        status, out, err = m.run('collect')
        check(status == 3 and out == '' and f'{function}: NVML says {code} ' in err and m.calls(REPORT) <= 1 and m.calls(CERT) <= 1,
              f'{function} {code}: {status} {err}')
        check(function == 'nvmlInit_v2' or m.read('calls').split()[-1] == 'nvmlShutdown', f'{function} {code}: not shut down')
    for function in ('nvmlSystemGetDriverVersion', 'nvmlDeviceGetUUID', 'nvmlDeviceGetVbiosVersion'):
        m = Machine(1)
        m.write('fault', f'{function} 7 1')
        check(m.run('collect')[0] == 0 and m.calls(function) == 2, f'{function}: one larger try')
    for code, word in ((4, 'root'), (9, 'ecdsa_generic'), (12, 'LKCA'), (18, 'different versions'), (15, 'Xid'), (999, 'CC off')):
        m = Machine(1)
        m.write('fault', f'nvmlInit_v2 {code}' if code != 999 else f'{CERT} 999')
        err = m.run('collect')[2]
        check(word in err, f'cure of {code}: {err}')
    for code, state in ((13, 1), (25, 1), (3, 1), (4, 0)):
        m = Machine(1)
        m.write('fault', f'nvmlSystemGetConfComputeSettings {code}')
        status = m.run('collect')[0]
        check((status == 0) == bool(state) and m.calls('nvmlSystemGetConfComputeState') == state, f'Settings answers {code}')


def libraries():
    folder = os.path.join(tmp.name, 'open-to-all')
    os.mkdir(folder)
    os.chmod(folder, 0o1777)
    os.symlink('/nonexistent', f'{folder}/libnvidia-ml.so.1')
    m = Machine(1)
    status, _, err = common.run('collect', '--nvml', f'{folder}/libnvidia-ml.so.1')
    check(status == 3 and 'writable for everybody' in err, f'library in a folder of everybody: {status} {err}')
    status, _, err = common.run('collect', '--nvml', NSCQ)
    check(status == 3 and 'nvmlInit_v2' in err, f'a library that is no NVML: {status} {err}')
    m.write('fault', 'uuid 1')
    status, _, err = m.run('collect', '--device', 'nvswitch', '--nscq', NSCQ, env={'FAKE_NSCQ': m.dir})
    check(status == 3 and 'no NVSwitch' in err, f'no switch: {status} {err}')


def missing():
    """What usually is missing, by name: where the failure is, not only in status."""
    root = os.path.join(tmp.name, 'kernel')
    os.makedirs(f'{root}/proc')
    for there, word in (('name         : ecdsa-nist-p384\n', 'no ecdh'), ('name         : ecdh-nist-p384\n', 'no ecdsa'),
                        ('name         : sha384\n', 'no ecdsa and no ecdh')):
        open(f'{root}/proc/crypto', 'w', encoding='utf-8').write(there)
        m = Machine(1)
        m.write('fault', f'{CERT} 999')
        for command in ('collect', 'attest'):
            err = m.run(command, '--host-root', root)[2]
            check(word in err and 'ecdsa_generic' in err and 'CONFIG_CRYPTO_ECDH' in err, f'{command}, {word}: {err}')
    check('LKCA:' not in Machine(1, '2 0 0 0').run('collect', '--host-root', root)[2], 'CC off is reason enough')
    open(f'{root}/proc/crypto', 'w', encoding='utf-8').write('name         : ecdsa-nist-p384\nname         : ecdh-nist-p384\n')
    check('LKCA:' not in m.run('collect', '--host-root', root)[2], 'nothing is missing')
    m = Machine(2)
    m.write('fault', 'persistence-off 1')
    status, _, err = m.attest('--set-ready')
    check(status == 0 and 'nvidia-persistenced' in err, f'persistenced: {status} {err}')
    check('persistenced' not in Machine(1).attest()[2], 'persistence is on')
    err = m.attest('--log-format', 'json')[2]
    check(any(line.startswith('{') and json.loads(line)['level'] == 'warning' for line in err.splitlines()), f'as JSON: {err}')
    for level in ('error', 'off'):
        check('persistenced' not in m.attest('--log-level', level)[2], f'a warning at level {level}')
    for option in (('--log-level', 'loud'), ('--log-format', 'xml')):
        status, _, err = m.attest(*option)
        check(status == 2 and option[1] in err, f'{option}: {status} {err}')


def only_attest_is_a_gate():
    m = Machine(1)
    for command in (['verify', '--evidence', 'x'], ['collect'], ['status'], ['validate-token', '--token', 'x'], ['check', 'policy']):
        for option in ('--set-ready', '--revoke-on-failure'):
            status, _, err = m.run(*command, option)
            check(status == 2 and option in err and 'attest' in err, f'{command} {option}: {status} {err}')
    check(m.read('ready') == '0\n', 'gate closed')


def silence():
    """A driver that does not come back: the run ends, the gate stays closed."""
    for function, command, status in ((REPORT, ['attest', '--set-ready'], 3), ('nvmlInit_v2', ['status'], 3), (CERT, ['collect'], 3),
                                      (GET_READY, ['ready'], 6), (SET_READY, ['attest', '--set-ready'], 6)):
        m = Machine(1)
        m.write('fault', f'{function} 9999')
        args = ['--rim-url', BASE + '/ok', '--ocsp-url', BASE + '/ok/ocsp', '--driver-timeout', '5']  # the others answer at once, on a busy machine within this time
        got, _, err = m.run(*command, *args, program=TESTROOTS)
        check(got == status and '--driver-timeout' in err and m.read('ready') == '0\n', f'{function} never returns: {got} {err}')


def documents():
    """JSON where nvattest has it, and a reason also where there is no verdict."""
    out = json.loads(Machine(2).run('collect-evidence', '--format', 'json', '--nonce', '5a' * 32)[1])
    check(out['result_code'] == 0 and len(out['evidences']) == 2 and out['evidences'][0]['nonce'] == '5a' * 32, 'wrapping of nvattest')
    path = os.path.join(tmp.name, 'wrapped.json')
    json.dump(out, open(path, 'w', encoding='utf-8'))
    status, _, err = common.run('check', 'report', '--evidence', path, '--nonce', '5a' * 32, '--device-root', f'{SET}/trust/device-root.pem')
    check(status == 0, f'it can be read back: {err}')
    for mode, fault, code, word in (('2 0 0 0', '', 509, 'disabled'), ('2 1 0 0', f'{REPORT} 15', 501, 'NVML says 15'),
                                    ('2 1 0 0', 'nvmlInit_v2 9', 501, 'not loaded')):
        m = Machine(1, mode)
        m.write('fault', fault)
        verdict = os.path.join(tmp.name, f'failure-{code}.json')
        status, out, err = m.attest('-o', 'json', '--output-file', verdict)
        document = json.load(open(verdict, encoding='utf-8'))
        check(status == 3 and document['result_code'] == code and word in document['result_message'] and word in err and
              document['claims'] == {} == document['detached_eat'], f'{word}: {status} {document}')
        check(m.attest()[1] == '', 'text says it on standard error alone')


def remote_versions():
    for version in ('', '/v3', '/v4', '/v4/'):
        status, _, err = Machine(1).run('attest', '--verifier', 'remote', '--nras-url', f'{BASE}/ok{version}')
        check(status == 0, f'NRAS at {version}: {status} {err}')
    remote = ['attest', '--verifier', 'remote', '--nras-url', f'{BASE}/ok']
    m = Machine(2)
    for kind in ('report', 'chain', 'key'):
        shutil.copy(f'{m.dir}/gpu0.{kind}', f'{m.dir}/gpu1.{kind}')
    status, _, err = m.run(*remote)
    check(status == 2 and 'the same' in err, f'one GPU twice, which the service does not see: {status} {err}')
    m = Machine(2, '2 0 0 1')
    status, _, err = m.run(*remote)
    check(status == 3 and 'wired' in err and m.calls(REPORT) == 0, f'protected PCIe is not for the remote verifier: {status} {err}')
    m = Machine(1)
    status, _, err = m.run(*remote, '--with-tee')
    check(status == 2 and '--with-tee' in err and m.read('calls') == '', f'no binding to the token of another: {status} {err}')
    status, _, err = Machine(1).run('attest', '--verifier', 'remote', '--nras-url', f'{BASE}/ok', '--issuer', 'https://other')
    check(status == 1, f'other issuer: {status} {err}')


try:
    for part in (told_before_opened, log_line, last_look, open_before, nothing_weak, every_answer, libraries, missing, only_attest_is_a_gate, silence, documents,
                 remote_versions):
        part()
finally:
    stop()
check.done('checks')
