#!/usr/bin/env python3
"""Every file of the shared attestation data gets the verdict its README states, and a rejection names its rule.

The verdicts are read from the tables of that README; the rules are listed here. A file that no row and no case covers fails
the test, so that new data can't go unnoticed."""
import base64
import json
import os
import re
import shutil

from common import CLOCK, NONCE, Checks, failed_rules, result, scratch, shared

T = shared()
check = Checks()
covered = set()
tmp = scratch()
counts = {}

ROOTS = ['--device-root', f'{T}/synthetic/trust/test-device-root.pem',
         '--rim-root', f'{T}/synthetic/trust/test-rim-root.pem']
OLD = '2023-10-01T00:00:00Z'


def path(name):
    return os.path.join(T, name)


def rows():
    """(file, verdict) of every table row of the README."""
    for line in open(path('README.md'), encoding='utf-8'):
        cells = [c.strip() for c in line.strip().strip('|').split(' | ')]
        match = re.fullmatch(r'`([^`]+)`', cells[0]) if len(cells) > 1 else None
        if match and '/' in match[1] and os.path.exists(path(match[1])):
            yield match[1], cells


def expect(name, want, args, rule=None, group='other'):
    """@want: True accept, False reject; @rule: the first rule that failed."""
    covered.add(name)
    counts[group] = counts.get(group, 0) + 1
    status, doc = result(*args)
    rules = failed_rules(doc)
    check(status == (0 if want else 1), f'{name}: exit {status}, {doc["result_message"]}')
    if not want and rule:
        check(bool(rules) and rules[0] == rule, f'{name}: refused by {rules[:1]}, not by {rule}')
    if not want:
        check(bool(rules) and doc['result_code'] != 0, f'{name}: no rule named')
    return doc


# --- synthetic evidence ----------------------------------------------------------------------------------------------
EVIDENCE_RULES = {
    'trailing_second_message': 'report.size', 'nonce_mismatch': 'evidence.nonce', 'nonce_short': 'evidence.nonce',
    'request_code_e1': 'report.request', 'request_not_all_measurements': 'report.request',
    'response_is_error': 'report.response', 'response_version_12': 'report.version',
    'vca_prefix_spdm12': 'report.version', 'no_blocks': 'report.blocks', 'duplicate_block_index': 'report.blocks',
    'block_spec_2': 'report.blocks', 'value_size_inconsistent': 'report.blocks',
    'block_size_past_record': 'report.blocks', 'record_length_past_end': 'report.record',
    'opaque_tlv_overrun': 'report.opaque', 'opaque_dangling_3_bytes': 'report.opaque',
    'opaque_no_driver_version': 'report.field', 'opaque_no_vbios_version': 'report.field',
    'driver_version_path_traversal': 'report.text', 'fwid_mismatch': 'fwid.match', 'fwid_short': 'report.field',
    'fwid_extension_other_key': 'fwid.brom_key', 'nvdec_unknown_status': 'report.nvdec', 'nvdec_missing': 'report.field',
    'index7_differs': 'measurements.match', 'signature_zero': 'report.signature',
    'signature_r_is_order': 'report.signature', 'signature_little_endian': 'report.signature',
    'signed_by_brom_key': 'report.signature', 'truncated_100': 'report.size', 'empty_report': 'report.size',
    'oversize_report': 'report.size', 'chain_reversed': 'evidence.arch', 'chain_without_root': 'chain.count',
    'chain_without_intermediate': 'chain.count', 'leaf_expired': 'chain.validity',
    'leaf_not_yet_valid': 'chain.validity', 'issuer_not_ca': 'chain.ca', 'fake_root_same_names': 'chain.root',
    'certificate_garbage': 'chain.parse', 'arch_mismatch': 'evidence.arch', 'arch_unknown': 'evidence.arch',
    'json_empty_list': 'evidence.list', 'json_object_instead_of_list': 'evidence.list',
    'json_bad_base64': 'evidence.base64', 'json_wrong_types': 'evidence.nonce', 'json_nul_in_string': 'evidence.json',
}

RIMS_550 = os.path.join(tmp.name, 'rims-550')
os.mkdir(RIMS_550)
shutil.copy(path('synthetic/rim/ok_driver_550.90.07.xml'), f'{RIMS_550}/NV_GPU_DRIVER_GH100_550.90.07.xml')
shutil.copy(path('synthetic/rim/ok_vbios_96.00.9F.00.01.xml'), f'{RIMS_550}/NV_GPU_VBIOS_1010_0200_882_96009F0001.xml')


def verify(files, rims, nonce=NONCE, extra=(), at=CLOCK):
    args = ['verify', '--nonce', nonce, '--rim-dir', rims, '--revocation', 'off', '--at', at]
    for f in files:
        args += ['--evidence', f]
    return args + list(extra)


def evidence_cases():
    for name, cells in rows():
        if not name.startswith('synthetic/evidence/'):
            continue
        stem = os.path.basename(name)[:-5]
        want = cells[1].startswith('ACCEPT')
        rule = None if want else EVIDENCE_RULES[stem]
        report = ['check', 'report', '--evidence', path(name), '--nonce', NONCE, '--at', CLOCK, *ROOTS]
        if stem != 'index7_differs':  # the evidence stage alone can't see it
            expect(name, want, report, rule, 'evidence')
        expect(name, want, verify([path(name)], RIMS_550, extra=ROOTS), rule, 'evidence (whole path)')


# --- RIMs ------------------------------------------------------------------------------------------------------------
RIM_RULES = {
    'forged_rsa_keyvalue_before_real_chain': 'rim.signature_form', 'forged_selfsigned_last_cert': 'rim.signature_form',
    'forged_two_x509data': 'rim.signature_form', 'weak_sha1_algorithms': 'rim.signature_form',
    'xpath_transform_excludes_payload': 'rim.signature_form', 'unsigned_object_resources': 'rim.signature_form',
    'no_signature': 'rim.structure', 'empty_keyinfo': 'rim.signature_form',
    'vbios_index_conflict': 'measurements.conflict', 'alternatives_count_mismatch': 'rim.hash',
    'hash_short': 'rim.hash', 'hash_odd_digits': 'rim.hash', 'size_attribute_32': 'rim.size',
    'index_negative': 'rim.index', 'index_overflow': 'rim.index', 'index_without_runtime_block': 'measurements.match',
    'measurement_mismatch_25': 'measurements.match', 'version_mismatch': 'rim.version', 'edition_switch': 'rim.product',
    'l4_expired': 'chain.validity', 'untrusted_root': 'rim.signature_form', 'chain_missing_l3': 'rim.signature_form',
    'entity_expansion': 'rim.bounds', 'truncated': 'rim.xml',
    'genuine_signature_relocated_unsigned_meta': 'rim.structure',
}
GENUINE_CHAIN = {'forged_rsa_keyvalue_before_real_chain', 'forged_selfsigned_last_cert', 'forged_two_x509data',
                 'genuine_signature_relocated_unsigned_meta'}


def rim_cases():
    for name, cells in rows():
        if not name.startswith('synthetic/rim/'):
            continue
        stem = os.path.basename(name)[:-4]
        want = cells[1].startswith('ACCEPT')
        rule = None if want else RIM_RULES[stem]
        roots = [] if stem in GENUINE_CHAIN else ROOTS
        evidence = path('synthetic/evidence/ok.json')
        if stem != 'vbios_index_conflict':
            expect(name, want, ['check', 'rim', path(name), '--at', CLOCK, '--evidence', evidence, *roots], rule, 'RIM')
        rims = os.path.join(tmp.name, 'rim-' + stem)
        shutil.copytree(RIMS_550, rims)
        vbios = 'vbios' in stem
        shutil.copy(path(name), rims + ('/NV_GPU_VBIOS_1010_0200_882_96009F0001.xml' if vbios
                                        else '/NV_GPU_DRIVER_GH100_550.90.07.xml'))
        extra = ROOTS if stem not in GENUINE_CHAIN else ROOTS[:2]
        expect(name, want, verify([evidence], rims, extra=extra), rule, 'RIM (whole path)')


def rim_service_cases():
    ident = 'NV_SWITCH_BIOS_5612_0002_890_9610550001'
    for name, cells in rows():
        if name.startswith('synthetic/rim-service/'):
            expect(name, cells[1].startswith('ACCEPT'),
                   ['check', 'rim-reply', path(name), '--id', ident, '--at', CLOCK], 'rim.reply', 'RIM service reply')


# --- OCSP ------------------------------------------------------------------------------------------------------------
OCSP_RULES = {
    'revoked_certificate_hold': 'ocsp.status', 'revoked_key_compromise': 'ocsp.status', 'unknown': 'ocsp.status',
    'stale_next_update': 'ocsp.freshness', 'nonce_mismatch': 'ocsp.nonce', 'other_serial': 'ocsp.cert_id',
    'responder_without_eku': 'ocsp.responder', 'responder_untrusted': 'ocsp.responder',
    'bad_signature': 'ocsp.signature', 'try_later': 'ocsp.response_status', 'unauthorized': 'ocsp.response_status',
    'truncated': 'ocsp.parse', 'html_error_page': 'ocsp.parse',
}


def ocsp(name, *extra):
    request = 'request_sha1' if 'sha1' in name else 'request_sha384'
    d = path('synthetic/ocsp')
    return ['check', 'ocsp', '--response', path(name), '--request', f'{d}/{request}.der', '--subject',
            f'{d}/subject_brom.pem', '--issuer', f'{d}/issuer_ica.pem', '--at', CLOCK, *extra]


def ocsp_cases():
    for name, cells in rows():
        if not name.startswith('synthetic/ocsp/') or cells[1] == '-':
            continue
        stem = os.path.basename(name)[:-4]
        want = cells[1].startswith('ACCEPT')
        expect(name, want, ocsp(name), None if want else OCSP_RULES[stem], 'OCSP')
        held = stem == 'revoked_certificate_hold'
        expect(name, want or held, ocsp(name, '--allow-hold'), None if want or held else OCSP_RULES[stem],
               'OCSP, hold allowed')
    for stem in ('request_sha384.der', 'request_sha1.der', 'subject_brom.pem', 'issuer_ica.pem'):
        covered.add('synthetic/ocsp/' + stem)
    # the issuers of the OCSP cases without the leaf: four certificates are no device chain
    expect('synthetic/ocsp/chain_to_root.pem', False, ['check', 'chain', path('synthetic/ocsp/chain_to_root.pem'),
                                                       '--at', CLOCK, *ROOTS], 'chain.count', 'chain')


# --- tokens ----------------------------------------------------------------------------------------------------------
TOKEN_RULES = {
    'digest_mismatch': 'token.digest', 'digest_label_md5': 'token.digest', 'alg_none_overall': 'token.signature',
    'alg_confusion_hs256_public_key': 'token.signature', 'unknown_kid': 'token.signature',
    'signed_by_other_key': 'token.signature', 'expired': 'token.expired', 'not_yet_valid': 'token.not_yet_valid',
    'issuer_mismatch': 'token.issuer', 'nonce_mismatch_overall': 'token.nonce',
    'overall_result_false': 'token.result', 'submodule_missing': 'token.submodules',
    'submodule_extra_unlisted': 'token.submodules', 'no_submodules': 'token.submodules',
    'two_segments': 'token.form', 'nras_error': 'token.result',
}


def token_cases():
    jwks = path('synthetic/token/jwks.json')
    for name, cells in rows():
        if not name.startswith('synthetic/token/') or cells[1] == '-':
            continue
        stem = os.path.basename(name)[:-5]
        want = cells[1].startswith('ACCEPT')
        args = ['validate-token', '--token', path(name), '--jwks', jwks, '--nonce', NONCE, '--at', CLOCK]
        expect(name, want, args, None if want else TOKEN_RULES[stem], 'token')
    covered.add('synthetic/token/jwks.json')
    # the real NRAS token: its key is not available offline, so it must be refused for that
    expect('claims/hopper-550.90.07-detached-eat.json', False,
           ['validate-token', '--token', path('claims/hopper-550.90.07-detached-eat.json'), '--jwks', jwks,
            '--nonce', NONCE, '--at', '2025-06-11T00:40:00Z'], 'token.signature', 'token')


# --- policies --------------------------------------------------------------------------------------------------------
POLICY_RULES = {'flat28_one_false': 'policy.rule', 'flat28_one_missing': 'policy.rule', 'flat_string_true': 'policy.rule',
                'flat_no_rules_member': 'policy.form', 'flat_unknown_rule': 'policy.rule'}


def policy_cases():
    for name, cells in rows():
        if not name.startswith('synthetic/policy/'):
            continue
        case = json.load(open(path(name), encoding='utf-8'))
        stem = os.path.basename(name)[:-5]
        files = {}
        for part in ('claims', 'policy'):
            files[part] = os.path.join(tmp.name, f'{stem}-{part}.json')
            json.dump(case[part], open(files[part], 'w', encoding='utf-8'))
        want = cells[1].startswith('ACCEPT')
        check(want == case['expected'], f'{name}: README and file disagree')
        expect(name, want, ['check', 'policy', '--claims', files['claims'], '--policy', files['policy']],
               None if want else POLICY_RULES[stem], 'policy')


PY = 'claims/python-sdk/'
# policy, its claims (overall, detached), verdict with the rule
PUBLIC_POLICIES = [
    ('policy/gpu-local-v4.json', [PY + 'gpu_overall_granular_claims_local.json', PY + 'gpu_detached_granular_claims_local.json'], True),
    ('policy/gpu-local-claims-2.0.json', [PY + 'gpu_overall_claims_local.json', PY + 'gpu_detached_claims_local.json'], True),
    ('policy/gpu-local-claims-3.0-short.json', [PY + 'gpu_overall_claims_local.json', PY + 'gpu_detached_claims_local.json'], True),
    ('policy/switch-local-claims-2.0.json', [PY + 'switch_overall_claims_local.json', PY + 'switch_detached_claims_local.json'], True),
    # overall claims of version 2.0 under a policy that wants 3.0
    ('policy/switch-local-v4.json', [PY + 'switch_overall_claims_local.json', PY + 'switch_detached_granular_claims_local.json'], False),
    ('policy/gpu-remote-v4.json', ['claims/hopper-550.90.07-detached-eat.json'], True),
    ('policy/gpu-remote-v3.json', ['claims/hopper-550.90.07-detached-eat.json'], False),
    ('policy/gpu-remote-v2.json', ['claims/hopper-550.90.07-detached-eat.json'], False),
    # a policy for detached claims without any overall claims
    ('policy/gpu-remote-v4.json', ['claims/hopper-550.90.07-claims-v3.json'], False),
    ('policy/gpu-remote-v1.json', [PY + 'gpu_detached_claims_remote.json'], False),
    ('policy/switch-remote-v4.json', ['claims/hopper-550.90.07-detached-eat.json'], False),
    ('policy/switch-remote-v3.json', ['claims/hopper-550.90.07-detached-eat.json'], False),
    ('policy/2023-NVGPUPolicyExample.json', [PY + 'gpu_detached_claims_local.json'], False),
]


def public_policies():
    for policy, claims, want in PUBLIC_POLICIES:
        args = ['check', 'policy', '--policy', path(policy)]
        for c in claims:
            args += ['--claims', path(c)]
            covered.add(c)
        expect(policy, want, args, None if want else 'policy.rule', 'public policy')
    for name in os.listdir(path('policy/rego')):
        expect('policy/rego/' + name, False, ['check', 'policy', '--policy', path('policy/rego/' + name), '--claims',
                                              path('claims/hopper-550.90.07-claims-v3.json')], 'policy.rego', 'rego')


# --- public evidence and RIMs ----------------------------------------------------------------------------------------
def nonce_of(name, index=0):
    if name.endswith('.json'):
        return json.load(open(path(name), encoding='utf-8'))[index]['nonce']
    return open(path(name), encoding='utf-8').read().strip()[8:72]


def facts_match(name, devices):
    """expected/facts.json: opaque fields, measurements, ids, as parsed by another implementation"""
    for entry in json.load(open(path('expected/facts.json'), encoding='utf-8')):
        match = re.fullmatch(re.escape(name) + r'(?:\[(\d+)\])?', entry['source'])
        if not match or int(match[1] or 0) >= len(devices):
            continue
        mine = devices[int(match[1] or 0)]
        for key, value in entry.items():
            if key == 'opaque':
                for a, b in zip(value, mine['opaque']):
                    check({k: a[k] for k in b} == b, f'{entry["source"]}: opaque {a} {b}')
                check(len(value) == len(mine['opaque']), f'{entry["source"]}: opaque fields')
            elif key in mine and key not in ('fwid_match',):
                check(str(mine[key]).lower() == str(value).lower(),
                      f'{entry["source"]}: {key} {str(mine[key])[:60]} {str(value)[:60]}')
    covered.add('expected/facts.json')


def public_evidence():
    for stem, want in (('hopper-545.00', 1), ('hopper-550.90.07', 1), ('hopper-535.86.09', 1), ('blackwell-575.32', 1),
                       ('ls10-96.10.55.00.01', 1), ('hopper-invalid-signature', 0)):
        report = f'evidence/{stem}/report.hex'
        chain = f'evidence/{stem}/chain.pem'
        args = ['check', 'report', '--report', path(report), '--chain', path(chain), '--nonce', nonce_of(report),
                '--at', CLOCK]
        doc = expect(report, bool(want), args, 'report.signature', 'public report')
        expect(chain, True, ['check', 'chain', path(chain), '--at', CLOCK], group='public chain')
        if want:
            facts_match(report, doc['facts'])
    expect('evidence/chains/missing-intermediate.pem', False,
           ['check', 'chain', path('evidence/chains/missing-intermediate.pem'), '--at', CLOCK], 'chain.count',
           'public chain')
    for name in ('hopper_evidence.json', 'switch_evidence_ls10.json', 'multi_gpu_hopper.json',
                 'hopper_evidence_cert_hold.json', 'ppcie/gpu_evidence.json', 'ppcie/switch_evidence.json'):
        name = 'evidence/' + name
        doc = expect(name, True, ['check', 'report', '--evidence', path(name), '--nonce', nonce_of(name), '--at', CLOCK],
                     group='public evidence')
        facts_match(name, doc['facts'])
        expect(name, False, ['check', 'report', '--evidence', path(name), '--nonce', '00' * 32, '--at', CLOCK],
               'evidence.nonce', 'public evidence, other nonce')


def spdm_expectations():
    """upstream's own dump of the LS10 sample"""
    _, doc = result('check', 'report', '--report', path('evidence/ls10-96.10.55.00.01/report.hex'), '--chain',
                    path('evidence/ls10-96.10.55.00.01/chain.pem'), '--nonce', NONCE, '--at', CLOCK)
    mine = json.dumps(doc['facts']).lower()
    for name in ('expected/ls10-96.10.55.00.01-spdm-response.json', 'expected/ls10-96.10.55.00.01-spdm-request.json'):
        covered.add(name)
        text = open(path(name), encoding='utf-8').read().lower()
        digests = set(re.findall(r'[0-9a-f]{64,}', text))
        check(bool(digests), f'{name}: no values found')
        for digest in digests:
            check(digest in mine, f'{name}: {digest[:16]}… is not among the parsed values')
    covered.add('expected/trustee-hopper-550.90.07-claims.json')
    _, doc = result('check', 'report', '--report', path('evidence/hopper-550.90.07/report.hex'), '--chain',
                    path('evidence/hopper-550.90.07/chain.pem'), '--nonce', NONCE, '--at', CLOCK)
    mine = json.dumps(doc['facts']).lower()
    text = open(path('expected/trustee-hopper-550.90.07-claims.json'), encoding='utf-8').read().lower()
    digests = set(re.findall(r'[0-9a-f]{96}', text))
    check(bool(digests), 'Trustee claims: no values found')
    for digest in digests:
        check(digest in mine, f'Trustee claims: {digest[:16]}… is not among the parsed values')


def claims_expectation():
    """The claims of a full positive have the names and types NRAS uses for the same report."""
    covered.add('claims/hopper-550.90.07-claims-v3.json')
    nras = json.load(open(path('claims/hopper-550.90.07-claims-v3.json'), encoding='utf-8'))['GPU-0']
    report = open(path('evidence/hopper-550.90.07/report.hex'), encoding='utf-8').read().strip()
    chain = open(path('evidence/hopper-550.90.07/chain.pem'), 'rb').read()
    file = os.path.join(tmp.name, 'hopper-550.json')
    json.dump([{'arch': 'HOPPER', 'nonce': NONCE, 'evidence': base64.b64encode(bytes.fromhex(report)).decode(),
                'certificate': base64.b64encode(chain).decode()}], open(file, 'w', encoding='utf-8'))
    status, doc = result(*verify([file], RIMS_550, extra=ROOTS[2:]))
    check(status == 0, f'hopper-550.90.07 with test RIMs: {doc["result_message"]}')
    mine = doc['claims'][0]
    token_only = {'iss', 'exp', 'iat', 'nbf', 'jti', 'x-nvidia-gpu-driver-rim-schema-validated'}
    for name, value in nras.items():
        if name in token_only:
            continue
        check(name in mine, f'claim {name} is missing')
        if not name.endswith('cert-chain'):  # revocation was off, other signers
            check(mine.get(name) == value, f'claim {name}: {mine.get(name)}, NRAS says {value}')
    counts['full positive'] = counts.get('full positive', 0) + 1


def full_positives():
    sets = [
        ('hopper-545.00', 'rims/full-positive-545.00', OLD, 33),
        ('ls10', 'rims/switch', CLOCK, 31),
    ]
    report = open(path('evidence/hopper-545.00/report.hex'), encoding='utf-8').read().strip()
    chain = open(path('evidence/hopper-545.00/chain.pem'), 'rb').read()
    file = os.path.join(tmp.name, 'hopper-545.json')
    json.dump([{'arch': 'HOPPER', 'nonce': report[8:72], 'evidence': base64.b64encode(bytes.fromhex(report)).decode(),
                'certificate': base64.b64encode(chain).decode()}], open(file, 'w', encoding='utf-8'))
    files = {'hopper-545.00': (file, report[8:72]), 'ls10': (path('evidence/switch_evidence_ls10.json'), NONCE)}
    for name, rims, at, n in sets:
        evidence, nonce = files[name]
        doc = expect(rims, True, verify([evidence], path(rims), nonce, at=at), group='full positive')
        said = ' '.join(r['text'] for r in doc['rules'] if r['rule'] == 'measurements.match')
        check(str(n - (1 if n == 33 else 0)) in said, f'{name}: {said}')
    # the same RIMs today: the signers have expired
    expect('rims/full-positive-545.00', False, verify([file], path('rims/full-positive-545.00'), report[8:72]),
           'chain.validity', 'expired')
    # 535.86.09: the only public VBIOS RIM comparisons
    old = 'evidence/hopper-535.86.09/report.hex'
    hexed = open(path(old), encoding='utf-8').read().strip()
    file535 = os.path.join(tmp.name, 'hopper-535.json')
    json.dump([{'arch': 'HOPPER', 'nonce': hexed[8:72], 'evidence': base64.b64encode(bytes.fromhex(hexed)).decode(),
                'certificate': base64.b64encode(open(path('evidence/hopper-535.86.09/chain.pem'), 'rb').read()).decode()}],
              open(file535, 'w', encoding='utf-8'))
    expect('rims/vbios/1010_0200_882_96005E0001_PROD.swidtag', True,
           ['check', 'rim', path('rims/vbios/1010_0200_882_96005E0001_PROD.swidtag'), '--at', OLD, '--evidence', file535],
           group='public RIM')
    name = 'rims/vbios/NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml'
    doc = expect(name, False, ['check', 'rim', path(name), '--at', '2025-06-01T00:00:00Z', '--evidence', file535],
                 'measurements.match', 'public RIM')
    check('[9]' in doc['result_message'], f'{name}: {doc["result_message"]}')


def public_rims():
    for name, at, want, rule in (
            ('rims/full-positive-545.00/NV_GPU_DRIVER_GH100_545.00.xml', OLD, True, None),
            ('rims/full-positive-545.00/NV_GPU_DRIVER_GH100_545.00.xml', CLOCK, False, 'chain.validity'),
            ('rims/full-positive-545.00/NV_GPU_VBIOS_1010_0200_882_96005E0001.xml', OLD, True, None),
            ('rims/vbios/1010_0205_862_96005E0002_PROD.swidtag', OLD, True, None),
            ('rims/vbios/g520_0200_885_9600740001_PROD.swidtag', '2024-06-01T00:00:00Z', True, None),
            ('rims/vbios/g520_0200_885_9600740001_PROD.swidtag', CLOCK, False, 'chain.validity'),
            ('rims/driver/NV_GPU_DRIVER_GH100_550.144.03.xml', CLOCK, True, None),
            ('rims/driver/NV_GPU_DRIVER_GH100_550.144.03.xml', '2027-01-01T00:00:00Z', False, 'chain.validity'),
            ('rims/driver/incorrect_signature_driver_rim.xml', CLOCK, False, 'rim.signature'),
            ('rims/driver/incorrect_cert_chain_driver_rim.xml', CLOCK, False, 'rim.signature_form'),
            ('rims/driver/NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml', '2025-06-01T00:00:00Z', False, 'rim.digest'),
            ('rims/switch/NV_SWITCH_BIOS_5612_0002_890_9610550001.xml', CLOCK, True, None),
            ('rims/switch/NV_SWITCH_BIOS_5612_0002_890_9610550001.xml', '2027-12-01T00:00:00Z', False, 'chain.validity')):
        expect(name, want, ['check', 'rim', path(name), '--at', at], rule, 'public RIM')


def roots():
    good = 'rims/driver/NV_GPU_DRIVER_GH100_550.144.03.xml'
    expect('roots/nvidia-corim-signing-root-ca.pem', True,
           ['check', 'rim', path(good), '--at', CLOCK, '--rim-root', path('roots/nvidia-corim-signing-root-ca.pem')],
           group='anchor')
    chain = path('evidence/hopper-545.00/chain.pem')
    expect('roots/nvidia-device-identity-ca.pem', True,
           ['check', 'chain', chain, '--at', CLOCK, '--device-root', path('roots/nvidia-device-identity-ca.pem')],
           group='anchor')
    expect('roots/wrong-rim-root.crt', False,
           ['check', 'rim', path(good), '--at', CLOCK, '--rim-root', path('roots/wrong-rim-root.crt')], 'anchor', 'anchor')
    for root in ('test-device-root', 'test-rim-root'):  # a root of the other kind, or of nobody
        expect(f'synthetic/trust/{root}.pem', False,
               ['check', 'chain', chain, '--at', CLOCK, '--device-root', path(f'synthetic/trust/{root}.pem')],
               'chain.root', 'anchor')
    expect('roots/nvidia-corim-signing-root-ca.pem', False,
           ['check', 'chain', chain, '--at', CLOCK, '--device-root', path('roots/nvidia-corim-signing-root-ca.pem')],
           'chain.root', 'anchor')


def protected_pcie():
    gpus, switches = path('evidence/ppcie/gpu_evidence.json'), path('evidence/ppcie/switch_evidence.json')
    nonce = nonce_of('evidence/ppcie/gpu_evidence.json')
    rims = path('synthetic/ppcie')
    for name in os.listdir(rims):
        if name.endswith('.xml'):
            covered.add('synthetic/ppcie/' + name)
            expect('synthetic/ppcie/' + name, True, ['check', 'rim', f'{rims}/{name}', '--at', CLOCK, *ROOTS], group='RIM')
    doc = expect('evidence/ppcie/gpu_evidence.json', True, verify([gpus, switches], rims, nonce, ROOTS[2:]),
                 group='protected PCIe')
    check(any(r['rule'] == 'topology.closed' and r['result'] == 'pass' for r in doc['rules']), 'topology not closed')
    check(len(doc['claims']) == 12, 'twelve devices')
    three = path('synthetic/ppcie/only_three_switches.json')
    expect('synthetic/ppcie/only_three_switches.json', False, verify([gpus, three], rims, nonce, ROOTS[2:]),
           'topology.count', 'protected PCIe')
    expect('synthetic/ppcie/only_three_switches.json', False, verify([three], rims, nonce, ROOTS[2:]),
           'topology.count', 'protected PCIe')
    expect('evidence/ppcie/gpu_evidence.json', False,
           verify([gpus], rims, nonce, [*ROOTS[2:], '--protected-pcie']), 'topology.count', 'protected PCIe')


def snp_cases():
    report = path('snp/report-v2-milan.bin')
    expect('snp/vcek.der', True, ['check', 'snp', '--report', report, '--vcek', path('snp/vcek.der'), '--at', CLOCK],
           group='SNP')
    expect('snp/vcek-invalid-legacy.der', False,
           ['check', 'snp', '--report', report, '--vcek', path('snp/vcek-invalid-legacy.der'), '--at', CLOCK],
           'snp.chain', 'SNP')
    covered.add('snp/report-v2-milan.bin')
    covered.update(f'roots/amd-{p}-ask-ark-asvk.pem' for p in ('milan', 'genoa', 'turin'))  # compiled in: unit tests


for part in (evidence_cases, rim_cases, rim_service_cases, ocsp_cases, token_cases, policy_cases, public_policies,
             public_evidence, spdm_expectations, claims_expectation, full_positives, public_rims, roots,
             protected_pcie, snp_cases):
    part()

# schemas are data of the peers' check, which REF-A 4.5 shows to be worthless; these are documents, not cases
documents = {'README.md', 'SHA256SUMS', 'schema/swidSchema2015.xsd', 'schema/signSchema.xsd', 'schema/xml.xsd'}
for folder, _, names in os.walk(T):
    for n in names:
        file = os.path.relpath(os.path.join(folder, n), T)
        check(file in covered or file in documents or os.path.dirname(file) in covered, f'{file} is covered by no case')
for group, n in sorted(counts.items()):
    print(f'{n:4} {group}')
print(f'{len(covered)} files, {sum(counts.values())} verdicts')
check.done('checks')
