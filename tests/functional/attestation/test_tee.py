#!/usr/bin/env python3
"""attest --with-tee and what a relying party makes of it: nonce, token key and GPU evidence under one SEV-SNP report."""
import base64
import hashlib
import json
import os
import shutil
import subprocess

import common
from common import Checks
from machine import LIB, SET, TESTROOTS, Machine, stop, tmp

check = Checks()
NONCE = '5a' * 32
AMD = os.path.join(SET, 'amd')


class Guest:
    """A guest root with configfs-tsm or /dev/sev-guest, its provider, and a machine of two GPUs."""

    def __init__(self, tsm=True, device=False, table=True):
        self.machine = Machine(2)
        self.dir = self.machine.dir + '-guest'
        self.root = os.path.join(self.dir, 'root')
        self.reports = os.path.join(self.root, 'sys/kernel/config/tsm/report')
        os.makedirs(self.reports if tsm else self.root)
        if device:
            os.makedirs(f'{self.root}/dev')
            self.put('root/dev/sev-guest', '')
        shutil.copy(f'{AMD}/vcek.key', self.dir)
        if table:
            pem = open(f'{AMD}/vcek.pem', encoding='ascii').read().split('-----')[2]
            open(f'{self.dir}/vcek.der', 'wb').write(base64.b64decode(pem))

    def put(self, name, text):
        open(os.path.join(self.dir, name), 'w', encoding='utf-8').write(text)

    def calls(self):
        path = os.path.join(self.dir, 'calls')
        return open(path, encoding='utf-8').read().split() if os.path.exists(path) else []

    def attest(self, *args):
        return self.machine.attest('--with-tee', '--nonce', NONCE, '-o', 'json', '--host-root', self.root, *args, env={
            'FAKE_TSM': self.dir, 'LD_PRELOAD': f'{LIB}/fake_tsm.so',
            'ASAN_OPTIONS': os.environ.get('ASAN_OPTIONS', '') + ':verify_asan_link_order=0'})


def segment(text):
    return json.loads(base64.urlsafe_b64decode(text + '=' * (-len(text) % 4)))


def overall(document):
    return segment(document['detached_eat'][0][1].split('.')[1])


def check_tee(token, *args, program=TESTROOTS):
    path = os.path.join(tmp.name, 'token.json')
    json.dump(token, open(path, 'w', encoding='utf-8'))
    common.PROGRAM = program
    try:
        status, out, err = common.run('check', 'tee', '--token', path, '-o', 'json', *args)
    finally:
        common.PROGRAM = PLAIN
    return status, json.loads(out) if out else {'rules': [], 'error': err}


PLAIN = common.PROGRAM


def failed(document):
    return [r['rule'] for r in document['rules'] if r['result'] == 'fail']


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(',', ':'), ensure_ascii=False).encode()


def bound():
    """The transcript, computed a second time here."""
    g = Guest()
    status, out, err = g.attest('--set-ready')
    check(status == 0 and g.machine.read('ready') == '1\n', f'attest --with-tee --set-ready: {status} {err}')
    check(g.calls() == ['mkdir', 'inblob', 'rmdir'] and os.listdir(g.reports) == [], f'one entry, gone again: {g.calls()}')
    document = json.loads(out)
    claims = overall(document)
    tee = claims['x-ccnode-tee']
    key = {k: document['jwks']['keys'][0][k] for k in ('crv', 'kty', 'x', 'y')}
    check(tee['type'] == 'snp' and tee['nonce'] == NONCE and tee['tee-pubkey'] == key, 'nonce and token key')
    gpu = hashlib.sha384(canonical({'nonce': NONCE, 'tee-pubkey': key})).digest()[:32]
    evidence = json.loads(tee['additional-evidence'])['nvidia']['device_evidence_list']
    check(len(evidence) == 2 and all(base64.b64decode(e['evidence'])[4:36] == gpu for e in evidence), 'the GPUs answered the bound nonce')
    check(claims['eat_nonce'] == gpu.hex(), 'and the token says so')
    data = hashlib.sha384(canonical({'additional-evidence': tee['additional-evidence'], 'nonce': NONCE, 'tee-pubkey': key})).digest()
    report = base64.b64decode(tee['report'])
    check(report[0x50:0x90] == data + bytes(16), 'REPORT_DATA covers nonce, key and GPU evidence')
    status, verdict = check_tee(document['detached_eat'], '--nonce', NONCE, '--gpus', '2')
    check(status == 0, f'the relying party accepts: {status} {failed(verdict)} {verdict.get("error")}')
    rules = [r['rule'] for r in verdict['rules']]
    for rule in ('token.overall', 'token.submodules', 'tee.key', 'tee.nonce', 'tee.report_data', 'snp.chain', 'snp.tcb', 'snp.chip_id',
                 'snp.signature', 'tee.measurement'):
        check(rule in rules, f'{rule} is not among {rules}')
    check('aa' * 48 in json.dumps(verdict), 'the launch measurement is shown')
    # AMD's own roots know nothing of this processor
    status, verdict = check_tee(document['detached_eat'], '--nonce', NONCE, program=PLAIN)
    check(status == 1 and failed(verdict) == ['snp.chain'], f'pinned roots: {status} {failed(verdict)}')
    return document['detached_eat']


def each_rule(token):
    def refused(what, rule, changed, *args):
        status, verdict = check_tee(changed, '--nonce', NONCE, *args)
        check(status == 1 and failed(verdict)[:1] == [rule], f'{what}: {status} {failed(verdict)} {verdict.get("error")}')

    status, verdict = check_tee(token, '--nonce', 'a5' * 32)
    check(status == 1 and failed(verdict) == ['tee.nonce'], f'other nonce: {failed(verdict)}')
    check(check_tee(token)[0] == 2, 'no nonce')
    refused('fewer devices', 'token.submodules', token, '--gpus', '3')
    refused('too old', 'token.expired', token, '--at', '2027-12-01T00:00:00Z')
    refused('no token', 'tee.form', [])
    refused('cut', 'tee.form', [['JWT', token[0][1][:100]], token[1]])
    head, payload, signature = token[0][1].split('.')
    refused('signature', 'token.signature', [['JWT', f'{head}.{payload}.{"A" * len(signature)}'], token[1]])
    claims = segment(payload)

    def resigned(change):
        """Any holder of another key can write this; what it can't do is to be in the report."""
        changed = json.loads(json.dumps(claims))
        change(changed['x-ccnode-tee'])
        text = base64.urlsafe_b64encode(json.dumps(changed).encode()).decode().rstrip('=')
        return [['JWT', f'{head}.{text}.{signature}'], token[1]]

    refused('evidence changed', 'token.signature', resigned(lambda t: t.update({'additional-evidence': '{}'})))
    for member in ('additional-evidence', 'nonce', 'report', 'certificates', 'tee-pubkey', 'type'):
        refused(f'no {member}', 'tee.form', resigned(lambda t, m=member: t.pop(m)))
    refused('other type', 'tee.form', resigned(lambda t: t.update({'type': 'tdx'})))
    refused('P-256', 'tee.form', resigned(lambda t: t['tee-pubkey'].update({'crv': 'P-256'})))
    refused('more in the key', 'tee.form', resigned(lambda t: t['tee-pubkey'].update({'d': 'x'})))
    other = json.loads(Guest().attest()[1])['detached_eat']
    refused('submodules of another run', 'token.digest', [token[0], other[1]])


class Forger:
    """Someone with a key of his own who holds an honest guest's token: everything he signs fits together."""

    def __init__(self):
        self.key = os.path.join(tmp.name, 'forger.pem')
        subprocess.run(['openssl', 'ecparam', '-name', 'secp384r1', '-genkey', '-noout', '-out', self.key], check=True)
        der = subprocess.run(['openssl', 'ec', '-in', self.key, '-pubout', '-outform', 'DER'], check=True, capture_output=True).stdout
        self.jwk = {'crv': 'P-384', 'kty': 'EC', 'x': url(der[-96:-48]), 'y': url(der[-48:])}
        self.head = url(canonical({'alg': 'ES384', 'kid': url(hashlib.sha256(canonical(self.jwk)).digest()), 'typ': 'JWT'}))

    def sign(self, claims):
        text = f'{self.head}.{url(canonical(claims))}'
        der = subprocess.run(['openssl', 'dgst', '-sha384', '-sign', self.key], input=text.encode(), check=True, capture_output=True).stdout
        at, halves = 2, []
        for _ in range(2):
            size = der[at + 1]
            halves.append(der[at + 2:at + 2 + size].lstrip(b'\0').rjust(48, b'\0'))
            at += 2 + size
        return f'{text}.{url(b"".join(halves))}'

    def forge(self, token):
        """The same token under the forger's key, with the nonces that this key demands."""
        nonce = hashlib.sha384(canonical({'nonce': NONCE, 'tee-pubkey': self.jwk})).digest()[:32].hex()
        claims, submodules = segment(token[0][1].split('.')[1]), {}
        for name, text in token[1].items():
            submodules[name] = self.sign({**segment(text.split('.')[1]), 'eat_nonce': nonce})
            claims['submods'][name][1][1] = hashlib.sha256(submodules[name].encode()).hexdigest()
        claims['eat_nonce'] = nonce
        claims['x-ccnode-tee']['tee-pubkey'] = self.jwk
        return [['JWT', self.sign(claims)], submodules]


def url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip('=')


def forged(token):
    forger = Forger()
    status, verdict = check_tee(forger.forge(token), '--nonce', NONCE)
    passed = [r['rule'] for r in verdict['rules'] if r['result'] == 'pass']
    check(status == 1 and failed(verdict) == ['tee.report_data'] and 'token.submodules' in passed, f'forged: {failed(verdict)} {passed}')


def each_rule_of_the_report():
    """The provider lies; the guest, where it can see it, refuses before the token is made, else the relying party does."""
    for line, status, word in (('provider tdx_guest', 3, 'tdx_guest'), ('generation 2', 3, 'someone else'), ('size 1183', 3, '1183'),
                               ('size 0', 3, '0 bytes'), ('data 1', 3, 'REPORT_DATA')):
        g = Guest()
        g.put('fault', line + '\n')
        got, _, err = g.attest('--set-ready')
        check(got == status and word in err and g.machine.read('ready') == '0\n', f'{line}: {got} {err}')
        check(os.listdir(g.reports) == [], f'{line}: entry left behind')
    for line, rule in (('policy 0xb0000', 'snp.policy'), ('vmpl 1', 'snp.vmpl'), ('offset 60000', 'tee.certificate'),
                       ('offset 47', 'tee.certificate')):
        g = Guest()
        g.put('fault', line + '\n')
        got, out, err = g.attest()
        verdict = check_tee(json.loads(out)['detached_eat'], '--nonce', NONCE)[1] if out else {'rules': []}
        check(got == 0 and failed(verdict) == [rule], f'{line}: {got} {failed(verdict)} {err}')
    g = Guest()
    subprocess.run(['openssl', 'ecparam', '-name', 'secp384r1', '-genkey', '-noout', '-out', f'{g.dir}/vcek.key'], check=True)
    verdict = check_tee(json.loads(g.attest()[1])['detached_eat'], '--nonce', NONCE)[1]
    check(failed(verdict) == ['snp.signature'], f'report signed by another key: {failed(verdict)}')


def sev_guest():
    g = Guest(tsm=False, device=True)
    status, out, err = g.attest()
    check(status == 0 and g.calls() == ['ioctl'], f'/dev/sev-guest: {status} {g.calls()} {err}')
    token = json.loads(out)['detached_eat']
    status, verdict = check_tee(token, '--nonce', NONCE)
    check(status == 1 and failed(verdict) == ['tee.certificate'], f'no table, no certificate: {failed(verdict)}')
    status, verdict = check_tee(token, '--nonce', NONCE, '--vcek', f'{AMD}/vcek.pem')
    check(status == 0, f'certificate given: {failed(verdict)}')
    status, verdict = check_tee(token, '--nonce', NONCE, '--vcek', f'{SET}/trust/device-root.pem')
    check(status == 1 and failed(verdict) == ['snp.chain'], f'some certificate: {failed(verdict)}')
    for line, word in (('status 22', 'status 22'), ('size 0', '0 bytes'), ('firmware 7', '0x7'), ('data 1', 'REPORT_DATA')):
        g = Guest(tsm=False, device=True)
        g.put('fault', line + '\n')
        status, _, err = g.attest()
        check(status == 3 and word in err, f'/dev/sev-guest, {line}: {status} {err}')
    g = Guest(tsm=False)
    status, _, err = g.attest('--set-ready')
    check(status == 3 and 'no SEV-SNP guest' in err and g.machine.read('ready') == '0\n', f'no TEE: {status} {err}')


try:
    honest = bound()
    each_rule(honest)
    forged(honest)
    each_rule_of_the_report()
    sev_guest()
finally:
    stop()
check.done('checks')
