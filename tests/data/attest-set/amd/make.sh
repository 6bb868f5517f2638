#!/bin/sh
# Makes a throw-away stand-in for AMD's Milan certificates: ask-ark-asvk.pem, vcek.pem, vcek.key. usage: make.sh OUT
# Prints the SHA-256 of ASK, ARK and ASVK, which tests/functional/attestation/CMakeLists.txt pins.
set -eu
out=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
cd "$work"
cat >ca.cnf <<END
[ca]
default_ca=c
[c]
database=./index.txt
serial=./serial
new_certs_dir=.
default_md=sha384
policy=p
unique_subject=no
[p]
commonName=supplied
organizationName=optional
[req]
distinguished_name=dn
[dn]
[authority]
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
[vcek]
# levels: boot loader 3, TEE 0, SNP 8, microcode 115; then the chip
1.3.6.1.4.1.3704.1.1=DER:020100
1.3.6.1.4.1.3704.1.2=DER:16094d696c616e2d4230
1.3.6.1.4.1.3704.1.3.1=DER:020103
1.3.6.1.4.1.3704.1.3.2=DER:020100
1.3.6.1.4.1.3704.1.3.3=DER:020108
1.3.6.1.4.1.3704.1.3.8=DER:020173
1.3.6.1.4.1.3704.1.4=DER:$(printf '5c%.0s' $(seq 64))
END
: >index.txt
echo 01 >serial
for name in ark ask asvk; do openssl genrsa -out $name.key 4096 2>/dev/null; done
openssl ecparam -name secp384r1 -genkey -noout -out vcek.key

# certify NAME SUBJECT ISSUER SECTION OPTION…
certify() {
    name=$1 subject=$2 issuer=$3 section=$4
    shift 4
    openssl req -new -key "$name.key" -subj "/O=ccnode tests/CN=$subject" -out "$name.csr" -config ca.cnf
    openssl ca -batch -config ca.cnf -in "$name.csr" -keyfile "$issuer.key" "$@" -startdate 20250101000000Z -enddate 20450101000000Z \
        -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:48 -extensions "$section" -out "$name.pem" -notext -preserveDN 2>log || {
        cat log >&2
        exit 1
    }
}
certify ark ARK-Milan ark authority -selfsign
certify ask SEV-Milan ark authority -cert ark.pem
certify asvk SEV-VLEK-Milan ark authority -cert ark.pem
certify vcek SEV-VCEK ask vcek -cert ask.pem
cat ask.pem ark.pem asvk.pem >"$out/ask-ark-asvk.pem"
cp vcek.pem vcek.key "$out/"
for name in ask ark asvk; do openssl x509 -in $name.pem -outform der | sha256sum; done
