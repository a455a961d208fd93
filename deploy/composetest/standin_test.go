//go:build compose

package composetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

const (
	standInLabel = "dev.tocsin.standin"
	postgresBin  = "/usr/lib/postgresql/15/bin"
	postgresUID  = 999
)

// baseImages are those that the Dockerfile and the Compose file name.
func baseImages(t *testing.T, root string) []string {
	var names []string
	for file, re := range map[string]string{
		"Dockerfile":         `(?m)^FROM (\S+)`,
		"docker-compose.yml": `(?m)^\s+image: (\S+:\S+)`,
	} {
		data, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(re).FindAllStringSubmatch(string(data), -1) {
			if m[1] != "scratch" {
				names = append(names, m[1])
			}
		}
	}
	return names
}

// bases sees to it that every base image is there: already, pulled, or stood in
// for.
func bases(t *testing.T, root, cache string) {
	ctx := t.Context()
	made := madeFrom(t, root)
	for _, name := range baseImages(t, root) {
		out, err := exec.CommandContext(ctx, "docker", "image", "inspect", "-f", `{{index .Config.Labels "`+standInLabel+`"}}`, name).Output()
		label := strings.TrimSpace(string(out))
		if err == nil && label == "" {
			continue
		}
		if label == made {
			t.Logf("%s is a STAND-IN made earlier", name)
			continue
		}
		if err != nil {
			limited, cancel := context.WithTimeout(ctx, 5*time.Minute)
			out, err = exec.CommandContext(limited, "docker", "pull", "-q", name).CombinedOutput()
			cancel()
			if err == nil {
				t.Logf("pulled %s", name)
				continue
			}
			t.Logf("%s cannot be pulled: %s", name, bytes.TrimSpace(out))
		}
		start := time.Now()
		if err := standIn(ctx, name, made, root, cache); err != nil {
			t.Fatalf("stand-in for %s: %v", name, err)
		}
		t.Logf("%s is a STAND-IN made of this machine's packages and toolchain (%v)", name, time.Since(start).Round(time.Second))
	}
}

// madeFrom identifies what stand-ins are made from: a change of it makes them
// anew.
func madeFrom(t *testing.T, root string) string {
	h := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "deploy/composetest/standin_test.go", "deploy/composetest/rootfs_test.go"} {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(h, "%s %d %s", runtime.Version(), len(data), data)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

func standIn(ctx context.Context, name, made, root, cache string) error {
	busybox, err := debianBusybox(ctx, cache)
	if err != nil {
		return err
	}
	switch kind, _, _ := strings.Cut(name, ":"); kind {
	case "golang":
		return golang(ctx, name, made, busybox, root, cache)
	case "postgres":
		return postgres(ctx, name, made, busybox)
	case "nats":
		return nats(ctx, name, made, busybox, root, cache)
	default:
		return errors.New("there is none")
	}
}

// debianBusybox returns the machine's busybox, or that of Debian's package.
func debianBusybox(ctx context.Context, cache string) (string, error) {
	if p, err := exec.LookPath("busybox"); err == nil {
		return p, nil
	}
	dir := filepath.Join(cache, "busybox")
	for _, p := range []string{filepath.Join(dir, "bin/busybox"), filepath.Join(dir, "usr/bin/busybox")} {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", "apt-get download -q busybox && dpkg -x busybox_*.deb . && rm busybox_*.deb")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("Debian's busybox package: %w: %s", err, out)
	}
	p := filepath.Join(dir, "bin/busybox")
	_, err := os.Stat(p)
	return p, err
}

// golang stands in with the machine's toolchain, the modules of go.sum as a
// module proxy on disk, and a build cache that has the dependencies compiled.
func golang(ctx context.Context, name, made, busybox, root, cache string) error {
	goroot, err := output(ctx, root, "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	modcache, err := output(ctx, root, "go", "env", "GOMODCACHE")
	if err != nil {
		return err
	}
	downloads := filepath.Join(modcache, "cache", "download")
	listed, err := output(ctx, root, "go", "mod", "download", "-json")
	if err != nil {
		return err
	}
	zips := make(map[string]bool)
	for dec := json.NewDecoder(strings.NewReader(listed)); ; {
		var m struct{ Zip string }
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		zips[m.Zip] = true
	}
	compiled := filepath.Join(cache, "go-build")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", os.DevNull, "./cmd/tocsin")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOCACHE="+compiled, "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("compile the dependencies: %w: %s", err, out)
	}
	changes := []string{
		"ENV PATH=/usr/local/go/bin:/bin", "ENV GOPATH=/go", "ENV GOTOOLCHAIN=local", "ENV GOPROXY=file:///standin/proxy", "ENV GOSUMDB=off",
		"ENV GOCACHE=/standin/go-build", "WORKDIR /go",
	}
	return imported(ctx, name, made, changes, func(r *rootfs) {
		r.shell(busybox)
		r.host("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-certificates.crt")
		r.tree(goroot, "/usr/local/go", func(rel string) bool {
			top, _, _ := strings.Cut(rel, "/")
			return top == "test" || top == "doc" || top == "api" || top == "misc" || path.Base(rel) == "testdata"
		})
		r.tree(downloads, "/standin/proxy", func(rel string) bool {
			return rel == "sumdb" || path.Ext(rel) == ".zip" && !zips[filepath.Join(downloads, rel)] || path.Ext(rel) == ".lock" || path.Ext(rel) == ".ziphash"
		})
		r.tree(compiled, "/standin/go-build", nil)
		r.dir("/go", 0o777, 0)
	})
}

const postgresEntrypoint = `#!/bin/sh
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  if [ -n "$POSTGRES_PASSWORD_FILE" ]; then POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE"); fi
  printf '%s' "$POSTGRES_PASSWORD" > /tmp/password
  initdb -D "$PGDATA" -U "$POSTGRES_USER" --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 -E UTF8 --locale=C
  rm /tmp/password
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
  pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start
  createdb -U "$POSTGRES_USER" "$POSTGRES_DB"
  pg_ctl -D "$PGDATA" -m fast -w stop
fi
exec "$@" -c "listen_addresses=*"
`

// postgres stands in with Debian's server.
func postgres(ctx context.Context, name, made, busybox string) error {
	changes := []string{
		"ENV PATH=" + postgresBin + ":/bin", "ENV PGDATA=/var/lib/postgresql/data", fmt.Sprint("USER ", postgresUID),
		`ENTRYPOINT ["/entrypoint.sh"]`, `CMD ["postgres"]`, "EXPOSE 5432",
	}
	return imported(ctx, name, made, changes, func(r *rootfs) {
		r.shell(busybox)
		r.file("/entrypoint.sh", postgresEntrypoint, 0o755)
		for _, p := range []string{"postgres", "initdb", "pg_ctl", "createdb", "psql", "pg_isready"} {
			r.program(filepath.Join(postgresBin, p), filepath.Join(postgresBin, p))
		}
		lib := "/usr/lib/postgresql/15/lib"
		modules, err := filepath.Glob(lib + "/*.so")
		r.err = errors.Join(r.err, err)
		for _, m := range modules {
			// Compiling queries is optional, and its library is huge.
			if !strings.HasPrefix(filepath.Base(m), "llvmjit") {
				r.program(m, m)
			}
		}
		r.tree("/usr/share/postgresql/15", "/usr/share/postgresql/15", nil)
		r.tree("/usr/share/zoneinfo", "/usr/share/zoneinfo", nil)
		r.dir("/var/lib/postgresql", 0o755, postgresUID)
		r.dir("/var/lib/postgresql/data", 0o700, postgresUID)
		r.dir("/var/run/postgresql", 0o775, postgresUID)
	})
}

// nats stands in with the server built from its Go module.
func nats(ctx context.Context, name, made, busybox, root, cache string) error {
	server := filepath.Join(cache, "nats-server")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", server, "github.com/nats-io/nats-server/v2")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOCACHE="+filepath.Join(cache, "go-build"), "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build nats-server: %w: %s", err, out)
	}
	changes := []string{"ENV PATH=/usr/local/bin:/bin", `CMD ["nats-server"]`, "EXPOSE 4222 8222"}
	return imported(ctx, name, made, changes, func(r *rootfs) {
		r.shell(busybox)
		r.host(server, "/usr/local/bin/nats-server")
		r.dir("/data", 0o755, 0)
	})
}

// output runs a command in dir and returns what it prints, without white space
// around it.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, errs.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}
