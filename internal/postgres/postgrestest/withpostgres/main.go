// Command withpostgres runs a command with one test database server for all of
// it: its URL is in TOCSIN_TEST_DATABASE_URL. It ends with the command's exit
// code.
//
//	go run ./internal/postgres/postgrestest/withpostgres go test ./...
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "withpostgres:", err)
	}
	os.Exit(code)
}

func run(args []string) (code int, err error) {
	if len(args) == 0 {
		return 2, errors.New("usage: withpostgres COMMAND [ARGUMENT]…")
	}
	// The command has the terminal's signals too; here they must not end us
	// before it.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	url, stopServer, err := postgrestest.Serve()
	if err != nil {
		return 1, err
	}
	defer func() {
		if e := stopServer(); e != nil {
			code, err = max(code, 1), errors.Join(err, e)
		}
	}()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), postgrestest.EnvURL+"="+url)
	err = cmd.Run()
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(ee.ExitCode(), 1), nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}
