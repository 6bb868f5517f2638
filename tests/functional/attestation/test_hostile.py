#!/usr/bin/env python3
"""Inputs of about 1 MiB made to cost time or memory: each is refused within a second of CPU and 64 MiB.

The limits hold for the hardened program; here, under sanitizers, four times as much is allowed (they cost two to three times).
One level of each: depth, breadth, many small things, long texts, compressible numbers."""
import json
import os
import subprocess
import sys
import time

from common import NONCE, PROGRAM, SOURCE, Checks, scratch

MIB = 1 << 20
DATA = os.path.join(SOURCE, 'tests/data/attestation')
SANITIZED = b'__asan_init' in open(PROGRAM, 'rb').read()
CPU, MEMORY = (4, 256 + 64) if SANITIZED else (1, 64)
check = Checks()
tmp = scratch()
REFERENCE = 0.08  # seconds of CPU that the loop below takes where the limits were set


def slowness():
    """How much slower this processor is just now, with what else it does, than the one where the limits were set; 1 at least."""
    start = time.process_time()
    for _ in range(3000000):
        pass
    return max(1.0, (time.process_time() - start) / REFERENCE)



def fill(start, item, end, size=MIB):
    n = (size - len(start) - len(end)) // len(item)
    return start + item * n + end


RIM = open(f'{DATA}/rims/NV_SWITCH_BIOS_5612_0002_890_9610550001.xml', 'rb').read()
PEM = json.load(open(f'{DATA}/ls10-96.10.55.00.01.json', encoding='ascii'))
import base64  # noqa: E402
CHAIN = base64.b64decode(PEM[0]['certificate'])
ONE = CHAIN[:CHAIN.index(b'-----END CERTIFICATE-----') + 26]

JSON = {
    'deep lists': fill(b'', b'[', b''), 'deep objects': fill(b'', b'{"a":', b''),
    'many members': b'{' + b','.join(b'"k%d":%d' % (i, i) for i in range(70000)) + b'}',
    'the same member': fill(b'{', b'"a":1,', b'"a":1}'), 'many numbers': fill(b'[', b'0,', b'0]'),
    'one string': fill(b'"', b'a', b'"'), 'escapes': fill(b'"', b'\\u0041', b'"'),
    'one number': fill(b'', b'1', b''), 'colliding names': b'{' + b','.join(
        b'"%s":1' % bytes(ord('A') + (i >> k & 1) for k in range(17)) for i in range(45000)) + b'}',
    'NUL bytes': bytes(MIB), 'white space': fill(b'', b' ', b''),
}
XML = {
    'deep': fill(b'', b'<a>', b''), 'attributes': b'<a ' + b' '.join(b'a%d=""' % i for i in range(90000)) + b'/>',
    'namespaces': b'<a ' + b' '.join(b'xmlns:a%d="b"' % i for i in range(60000)) + b'/>',
    'namespaces, element by element': fill(b'<r>', b'<a ' + b' '.join(b'xmlns:a%d="b"' % i for i in range(100)) + b'/>', b'</r>'),
    'siblings': fill(b'<a>', b'<b/>', b'</a>'), 'text': fill(b'<a>', b'x', b'</a>'),
    'comments': fill(b'<a>', b'<!---->', b'</a>'), 'references': fill(b'<a>', b'&amp;', b'</a>'),
    'entities': b'<!DOCTYPE a [<!ENTITY b "' + b'b' * 1000 + b'">]>' + fill(b'<a>', b'&b;', b'</a>'),
    'a genuine RIM and comments': RIM.replace(b'<ns0:Entity', fill(b'', b'<!-- -->', b'', MIB - len(RIM) - 100) + b'<ns0:Entity', 1),
    'a genuine RIM and resources': RIM.replace(b'</ns0:Payload>', fill(
        b'', b'<ns0:Resource type="Measurement" index="9" active="True"/>', b'', MIB - len(RIM) - 100) + b'</ns0:Payload>', 1),
    'unclosed': fill(b'<a>', b'<', b''), 'quotes': fill(b'<a b="', b"'", b''),
}
CHAINS = {
    'certificates': fill(b'', ONE + b'\n', b''), 'garbage in PEM': b'-----BEGIN CERTIFICATE-----\n' + fill(b'', b'A', b'') +
    b'\n-----END CERTIFICATE-----\n', 'begins': fill(b'', b'-----BEGIN CERTIFICATE-----\n', b''), 'text': fill(b'', b'a', b''),
    'der': b'-----BEGIN CERTIFICATE-----\n' + base64.b64encode(b'0\x83\x0f\xff\xff' + b'0\x80' * 24000) +
    b'\n-----END CERTIFICATE-----\n',
}
DER = {'nested': fill(b'', b'0\x80', b''), 'zeros': bytes(MIB), 'long': b'0\x84\x7f\xff\xff\xff' + bytes(MIB),
       'inside the limit': fill(b'', b'0\x80', b'', 65000)}


def run(what, args):
    """Exit status, CPU seconds, peak MiB of one run, through a small parent so that the peak is its own."""
    code = ('import os,resource,sys\n'
            'p=os.posix_spawn(sys.argv[1],sys.argv[1:],os.environ,file_actions=[(os.POSIX_SPAWN_OPEN,1,"/dev/null",1,0)])\n'
            '_,s,u=os.wait4(p,0)\nprint(os.waitstatus_to_exitcode(s),u.ru_utime+u.ru_stime,u.ru_maxrss)\n')
    done = subprocess.run([sys.executable, '-c', code, PROGRAM, *args], capture_output=True, text=True, timeout=300, check=True)
    status, cpu, peak = done.stdout.split()
    cpu, peak = float(cpu), int(peak) / 1024
    # comments are no part of what is signed: such a RIM stays genuine
    check(int(status) in ((0,) if what.endswith('and comments') else (1, 2)), f'{what}: exit {status} {done.stderr[-300:]}')
    check(cpu <= CPU or cpu <= CPU * slowness(), f'{what}: {cpu:.2f} s of CPU')
    check(peak <= MEMORY, f'{what}: {peak:.0f} MiB')
    return cpu, peak


def each(kind, inputs, command):
    worst = (0, 0, '')
    for name, data in inputs.items():
        file = os.path.join(tmp.name, 'input')
        open(file, 'wb').write(data)
        worst = max(worst, (*run(f'{kind}, {name}', command(file)), name))
    print(f'{kind}: {len(inputs)} inputs, dearest "{worst[2]}" {worst[0]:.2f} s, {worst[1]:.0f} MiB')


def evidence_with(member, value):
    file = os.path.join(tmp.name, 'evidence')
    item = dict(PEM[0])
    item[member] = value
    json.dump([item], open(file, 'w', encoding='ascii'))
    return file


AT = ['--at', '2026-11-23T12:00:00Z']
each('evidence', JSON, lambda f: ['check', 'report', '--evidence', f, '--nonce', NONCE, *AT])
each('policy', JSON, lambda f: ['check', 'policy', '--policy', f, '--claims', f])
each('token', JSON, lambda f: ['validate-token', '--token', f, '--jwks', f, *AT])
each('RIM', XML, lambda f: ['check', 'rim', f, *AT])
each('chain', CHAINS, lambda f: ['check', 'chain', f, *AT])
each('chain in evidence', {k: open(evidence_with('certificate', base64.b64encode(v).decode()), 'rb').read() for k, v in CHAINS.items()},
     lambda f: ['check', 'report', '--evidence', f, '--nonce', NONCE, *AT])
pem = os.path.join(tmp.name, 'pem')
open(pem, 'wb').write(ONE)
each('OCSP', DER, lambda f: ['check', 'ocsp', '--response', f, '--request', f, '--subject', pem, '--issuer', pem, *AT])
each('SNP', DER, lambda f: ['check', 'snp', '--report', f, '--vcek', f, *AT])
many = os.path.join(tmp.name, 'many')
json.dump(PEM * 32, open(many, 'w', encoding='ascii'))
run('32 times one device', ['verify', '--evidence', many, '--nonce', NONCE, '--rim-dir', f'{DATA}/rims', '--revocation', 'off', *AT])
check.done('checks')
