#!/bin/sh
# SPDX-License-Identifier: MIT
# make.sh: how ca.pem and localhost.pem were made: a certificate for localhost with its key, and the
# authority that signed it. For tests only; both are valid for a hundred years.
set -e
cd "$(mktemp -d)"
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 36500 \
  -subj "/CN=Neap test authority"
openssl req -newkey rsa:2048 -nodes -keyout localhost.key -out localhost.csr -subj "/CN=localhost"
printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' >names
openssl x509 -req -in localhost.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 36500 \
  -extfile names -out localhost.crt
cat localhost.crt localhost.key >localhost.pem
echo "$PWD/ca.pem $PWD/localhost.pem"
