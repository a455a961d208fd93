// Command tocsin is the whole program: the server and the command line that
// talks to it. What it does is in internal/cli and internal/app.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"tocsin.dev/tocsin/indexer"
	"tocsin.dev/tocsin/internal/cli"
)

func main() {
	indexer.ServeScans() // in a child that scans layers, does not return
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return cli.Main(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, actions())
}
