#!/bin/sh
# The three lines of README: the public samples verify offline, without the shared data; a changed byte does not.
set -eu
data=${CCNODE_SOURCE:-$(dirname "$0")/../../..}/tests/data/attestation
attest=${CCNODE_BUILD:-$(dirname "$0")/../../../build/dev}/bin/ccnode-attest
gpu=4cff7f5380ead8fad8ec2c531c110aca4302a88f603792801a8ca29ee151af2e
"$attest" verify --evidence "$data/hopper-545.00.json" --nonce $gpu --rim-dir "$data/rims" --revocation off --at 2023-10-01T00:00:00Z
"$attest" verify --evidence "$data/ls10-96.10.55.00.01.json" --rim-dir "$data/rims" --revocation off --at 2026-11-23T12:00:00Z \
  --nonce 931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/rims"
cp "$data"/rims/*.xml "$tmp/rims"
sed -i '0,/active="True"/s//active="False"/' "$tmp/rims/NV_GPU_DRIVER_GH100_545.00.xml"
if "$attest" verify --evidence "$data/hopper-545.00.json" --nonce $gpu --rim-dir "$tmp/rims" --revocation off --at 2023-10-01T00:00:00Z >"$tmp/out"; then
  echo "a changed RIM was accepted"; exit 1
fi
grep -q "rim.digest" "$tmp/out"
