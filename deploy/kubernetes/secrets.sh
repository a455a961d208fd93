#!/usr/bin/env bash
# Makes DIRECTORY/secrets, from which kustomize makes Tocsin's Secrets: the key that seals stored credentials, and the
# passwords of PostgreSQL and NATS. What is there is kept. Usage: secrets.sh DIRECTORY, such as combo
#
# For servers of your own (external) put their addresses into postgres.env and nats.env, as "url=…".
set -euo pipefail
dir=${1:?usage: secrets.sh DIRECTORY, such as combo}/secrets
umask 077
mkdir -p "$dir"
random() { openssl rand -hex 24; }
if [ ! -e "$dir/keys.env" ]; then
  echo "keys=$(openssl rand -base64 32)" > "$dir/keys.env"
fi
if [ ! -e "$dir/postgres.env" ]; then
  password=$(random)
  printf 'password=%s\nurl=postgres://tocsin:%s@tocsin-postgres:5432/tocsin?sslmode=disable\n' "$password" "$password" > "$dir/postgres.env"
fi
if [ ! -e "$dir/nats.env" ]; then
  password=$(random)
  printf 'password=%s\npublisherPassword=%s\nurl=nats://tocsin:%s@tocsin-nats:4222\n' "$password" "$(random)" "$password" > "$dir/nats.env"
fi
echo "made or kept: $dir/keys.env $dir/postgres.env $dir/nats.env"
