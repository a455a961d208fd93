#!/bin/sh
# Makes the passwords of docker-compose.yml at the first start, in the volume "secrets", each readable by the one that needs
# it. What is there already stays. Runs as root in a container without network, and ends.
set -eu
umask 077
cd /secrets

random() { head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

# own FILE UID: what standard input says, if the file is not there yet.
own() {
  if [ -s "$1" ]; then cat >/dev/null; return; fi
  cat >"$1.new"
  chown "$2" "$1.new"
  chmod 0400 "$1.new"
  mv "$1.new" "$1"
}

postgres=999 nats=1000 tocsin=65532

if [ ! -s postgres-password ]; then
  if [ -n "${TOCSIN_POSTGRES_PASSWORD:-}" ]; then
    printf %s "$TOCSIN_POSTGRES_PASSWORD" | own postgres-password $postgres
  elif [ -s /postgres/PG_VERSION ]; then
    # A database from before passwords were made: its password was this one.
    printf tocsin | own postgres-password $postgres
    echo "the database has the password \"tocsin\" of an earlier version: see docs/containers.md on changing it" >&2
  else
    random | own postgres-password $postgres
  fi
fi
random | own nats-password $tocsin
random | own publisher-password $nats

# The entrypoint of PostgreSQL reads the password when it makes the database.
printf 'postgres://tocsin:%s@postgres:5432/tocsin?sslmode=disable' "$(cat postgres-password)" | own database-url $tocsin
printf 'nats://tocsin:%s@nats:4222' "$(cat nats-password)" | own nats-url $tocsin
own nats-users.conf $nats <<EOF
authorization {
  users: [
    {user: tocsin, password: "$(cat nats-password)"}
    {user: publisher, password: "$(cat publisher-password)", permissions: {
      publish: ["tocsin.manifests", "tocsin.updates"]
      subscribe: ["tocsin.events.>", "_INBOX.>"]
    }}
  ]
}
EOF
chmod 0711 /secrets
# Earlier versions ran NATS as root.
if [ "$(stat -c %u /nats)" != $nats ]; then chown -R $nats:$nats /nats; fi
