package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"tocsin.dev/tocsin/internal/httpapi"
)

// stopTimeout is how long requests under way may go on when the process stops.
const stopTimeout = 10 * time.Second

// serveHTTP is a stage that answers on l until it is told to stop, and then
// lets requests under way finish.
func serveHTTP(l net.Listener, h http.Handler, log *slog.Logger) func(context.Context) error {
	return func(ctx context.Context) error {
		server := httpapi.Serve(h, log)
		failed := make(chan error, 1)
		go func() { failed <- server.Serve(l) }()
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
		}
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err := server.Shutdown(stop)
		if errors.Is(err, context.DeadlineExceeded) {
			err = server.Close()
		}
		<-failed
		return err
	}
}
