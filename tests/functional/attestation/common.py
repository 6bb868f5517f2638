"""What the functional tests of ccnode-attest share: where things are, how it is run, what was said."""
import json
import os
import subprocess
import sys
import tempfile

SOURCE = os.environ.get('CCNODE_SOURCE', os.path.abspath(os.path.join(os.path.dirname(__file__), '../../..')))
PROGRAM = os.environ.get('CCNODE_ATTEST') or os.path.join(
    os.environ.get('CCNODE_BUILD', os.path.join(SOURCE, 'build/dev')), 'bin/ccnode-attest')
CLOCK = '2026-11-23T12:00:00Z'
NONCE = '931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb'


def shared():
    """The shared test data, or exit 77 with the reason."""
    root = os.environ.get('CCNODE_SHARED', os.path.join(SOURCE, '../shared'))
    path = os.path.join(root, 'testdata/attestation')
    if not os.path.isdir(path):
        print(f'SKIPPED: no {path} (CCNODE_SHARED names the folder of shared data)')
        sys.exit(77)
    return os.path.realpath(path)


def run(*args, env=None, timeout=300, stdin=None):
    """ccnode-attest with arguments: exit status, standard output, standard error."""
    done = subprocess.run([PROGRAM, *map(str, args)], capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, **(env or {})}, input=stdin)
    if 'Sanitizer' in done.stderr or 'runtime error' in done.stderr or done.returncode < 0:
        raise AssertionError(f'{args}: {done.returncode}\n{done.stderr}')
    return done.returncode, done.stdout, done.stderr


def result(*args, **kw):
    """The same with -o json: exit status and the parsed document."""
    status, out, err = run(*args, '-o', 'json', **kw)
    return status, json.loads(out) if out else {'result_message': err, 'rules': []}


def failed_rules(document):
    return [r['rule'] for r in document['rules'] if r['result'] == 'fail']


class Checks:
    """Counts; the first lines of what went wrong; the exit status."""

    def __init__(self):
        self.count = 0
        self.wrong = []

    def __call__(self, ok, what):
        self.count += 1
        if not ok:
            self.wrong.append(what)
            print(f'WRONG {what}', flush=True)
        return ok

    def done(self, what):
        print(f'{self.count} {what}, {len(self.wrong)} wrong')
        sys.exit(1 if self.wrong else 0)


def scratch():
    return tempfile.TemporaryDirectory(prefix='ccnode-attest-')
