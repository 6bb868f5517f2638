#!/usr/bin/env python3
"""The whole path over loopback with revocation, for one and for eight GPUs, and with every fault of the services."""
import json
import os
import resource
import subprocess
import time
import urllib.request

from common import PROGRAM, SOURCE, Checks, failed_rules, result, run

SET = os.path.join(SOURCE, 'tests/data/attest-set')
NONCE = open(f'{SET}/nonce', encoding='utf-8').read().strip()
check = Checks()

server = subprocess.Popen([os.path.join(os.path.dirname(PROGRAM), 'attest_services'), SET], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True)
BASE = f'http://127.0.0.1:{server.stdout.readline().strip()}'


def requests():
    return int(urllib.request.urlopen(f'{BASE}/count').read())


def verify(gpus=1, rim='ok', ocsp='ok', extra=()):
    return ['verify', '--evidence', f'{SET}/gpu{gpus}.json', '--nonce', NONCE,
            '--device-root', f'{SET}/trust/device-root.pem', '--rim-root', f'{SET}/trust/rim-root.pem',
            '--rim-url', f'{BASE}/{rim}', '--ocsp-url', f'{BASE}/{ocsp}/ocsp', *extra]


def positives():
    for gpus, most in ((1, 9), (8, 16)):
        before = requests()
        status, doc = result(*verify(gpus))
        n = requests() - before
        check(status == 0, f'{gpus} GPUs: exit {status}, {doc["result_message"]}')
        check(n <= most, f'{gpus} GPUs took {n} requests, {most} are enough')
        check(len(doc['claims']) == gpus, f'{gpus} GPUs: {len(doc["claims"])} claims')
        for claims in doc['claims']:
            for chain in ('attestation-report', 'driver-rim', 'vbios-rim'):
                c = claims[f'x-nvidia-gpu-{chain}-cert-chain']
                check(c['x-nvidia-cert-ocsp-status'] == 'good' and c['x-nvidia-cert-status'] == 'valid'
                      and c['x-nvidia-cert-ocsp-nonce-matches'] and c['x-nvidia-cert-ocsp-response-valid'], f'{chain}: {c}')
        check(len(doc['claims_2023']) == 28 and all(doc['claims_2023'].values()), f'28 names: {doc["claims_2023"]}')
        # the built-in policy and the token of this very run
        status, doc = result(*verify(gpus, extra=['--policy', 'builtin']))
        check(status == 0, f'built-in policy: {doc["result_message"]}')
        token_round_trip(doc, gpus)


def token_round_trip(doc, gpus):
    import tempfile
    with tempfile.TemporaryDirectory() as d:
        json.dump(doc['detached_eat'], open(f'{d}/token', 'w', encoding='utf-8'))
        json.dump(doc['jwks'], open(f'{d}/jwks', 'w', encoding='utf-8'))
        args = ['validate-token', '--token', f'{d}/token', '--jwks', f'{d}/jwks', '--nonce', NONCE]
        status, got = result(*args, '--issuer', 'CCNODE-ATTEST', '--gpus', gpus)
        check(status == 0, f'own token: {got["result_message"]}')
        status, got = result(*args)
        check(status == 1 and failed_rules(got)[0] == 'token.issuer', f'own token as one of NRAS: {got["result_message"]}')
        status, got = result(*args, '--issuer', 'CCNODE-ATTEST', '--gpus', gpus + 1)
        check(status == 1 and failed_rules(got)[0] == 'token.submodules', f'one device short: {got["result_message"]}')


# fault: exit status, rule, a word of the reason
RIM_FAULTS = {
    'huge': (4, 'rim.fetch', 'more than'), 'endless': (4, 'rim.fetch', 'more than'),
    'slow': (4, 'rim.fetch', 'imed out'), 'stalled': (4, 'rim.fetch', 'imed out'),
    'truncated': (4, 'rim.fetch', ''), 'html': (4, 'rim.fetch', 'content type'),
    'html-as-right-type': (1, 'rim.fetch', 'JSON'), 'wrong-type': (4, 'rim.fetch', 'content type'),
    'wrong-base64': (1, 'rim.fetch', 'base64'), 'wrong-digest': (1, 'rim.fetch', 'sha256'),
    'other-format': (1, 'rim.fetch', 'CORIM'), 'other-id': (1, 'rim.fetch', 'when asked for'),
    'redirect': (4, 'rim.fetch', 'redirect'), '404': (1, 'rim.fetch', '404'), '403': (4, 'rim.fetch', '403'),
    '503': (4, 'rim.fetch', '503'), 'reset': (4, 'rim.fetch', ''),
}
OCSP_FAULTS = {
    'stale': (1, 'ocsp.freshness', 'stale'), 'future': (1, 'ocsp.freshness', 'future'),
    'other-certificate': (1, 'ocsp.cert_id', 'another'), 'other-nonce': (1, 'ocsp.nonce', 'nonce'),
    'no-nonce': (1, 'ocsp.nonce', 'nonce'), 'try-later': (4, 'ocsp.response_status', 'later'),
    'unauthorized': (1, 'ocsp.response_status', 'unauthorized'), 'revoked': (1, 'ocsp.status', 'key_compromise'),
    'hold': (1, 'ocsp.status', 'certificate_hold'), 'unknown': (1, 'ocsp.status', 'know'),
    'other-responder': (1, 'ocsp.responder', ''), 'cut': (1, 'ocsp.parse', ''),
    'huge': (4, 'ocsp.fetch', 'more than'), 'endless': (4, 'ocsp.fetch', 'more than'),
    'slow': (4, 'ocsp.fetch', 'imed out'), 'stalled': (4, 'ocsp.fetch', 'imed out'), 'truncated': (4, 'ocsp.fetch', ''),
    'html': (4, 'ocsp.fetch', 'content type'), 'html-as-right-type': (1, 'ocsp.parse', ''),
    'redirect': (4, 'ocsp.fetch', 'redirect'), '404': (4, 'ocsp.fetch', '404'), '503': (4, 'ocsp.fetch', '503'),
}


def fault(name, want, args):
    status, rule, word = want
    limit = 5 if word == 'imed out' else 60  # a busy machine makes honest answers late too: those must not be what times out
    start = time.monotonic()
    got, doc = result(*args, '--timeout', limit)
    took = time.monotonic() - start
    check(got == status, f'{name}: exit {got}, not {status}: {doc["result_message"]}')
    check(failed_rules(doc)[:1] == [rule], f'{name}: {failed_rules(doc)}')
    check(word in doc['result_message'], f'{name}: {doc["result_message"]}')
    check(took < 30, f'{name}: took {took:.1f} s with --timeout {limit}')
    check(not doc['overall_claims']['x-nvidia-overall-att-result'], f'{name}: claims say true')
    check(all(c['measres'] == 'fail' for c in doc['claims']), f'{name}: measres')


def faults():
    for name, want in RIM_FAULTS.items():
        fault('RIM service, ' + name, want, verify(rim=name))
    for name, want in OCSP_FAULTS.items():
        fault('OCSP, ' + name, want, verify(ocsp=name))
    # nobody listens
    fault('no service', (4, 'rim.fetch', ''), [*verify()[:-4], '--rim-url', 'http://127.0.0.1:1', '--ocsp-url', f'{BASE}/ok/ocsp'])


def recoveries():
    status, doc = result(*verify(rim='503-once'))
    check(status == 0, f'503 once: {doc["result_message"]}')
    status, doc = result(*verify(ocsp='no-next-update'))
    check(status == 0, f'no nextUpdate: {doc["result_message"]}')
    status, doc = result(*verify(ocsp='sha1-only'))
    check(status == 0, f'responder that knows SHA-1 ids only: {doc["result_message"]}')
    # a hold is tolerated for RIM signers only, and a device certificate on hold never
    status, doc = result(*verify(ocsp='hold', extra=['--allow-hold-cert']))
    check(status == 1, 'a device certificate on hold was tolerated')
    # the memory of a huge answer
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f'peak memory of all runs {peak >> 10} MB')


def log_of_the_guide():
    """REF-A 5.10, SDK variant, byte for byte"""
    status, out, _ = run(*verify(extra=['-o', 'log']))
    want = open(os.path.join(os.path.dirname(__file__), 'guide.log'), encoding='utf-8').read()
    check(status == 0 and out == want, f'log of the guide:\n{out}')
    status, out, _ = run('verify', '--evidence', f'{SET}/gpu1.json', '--nonce', NONCE, '--rim-dir', f'{SET}/rims',
                         '--device-root', f'{SET}/trust/device-root.pem', '--rim-root', f'{SET}/trust/rim-root.pem',
                         '--revocation', 'off', '-o', 'log')
    revocation = '\t\t\tThe certificate chain revocation status verification successful.\n'
    check(out == want.replace(revocation, '\t\t\tThe certificate chain revocation status was not checked.\n'), f'log without revocation:\n{out}')


try:
    for part in (positives, recoveries, log_of_the_guide, faults):
        part()
finally:
    server.stdin.close()
    server.wait(60)
check.done('checks')
