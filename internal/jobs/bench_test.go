package jobs_test

import (
	"context"
	"strconv"
	"testing"

	"tocsin.dev/tocsin/internal/bus/bustest"
	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

// From Submit to a row that says done, one job after the other and with four
// runners; PostgreSQL does not sync here, JetStream does.
func BenchmarkSubmitToDone(b *testing.B) {
	s := jobs.New(postgrestest.New(b), bustest.New(b), jobs.Options{})
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	ran := make(chan struct{}, 1000)
	go func() {
		ended <- s.Run(ctx, "k", 4, func(context.Context, jobs.Job) error {
			ran <- struct{}{}
			return nil
		})
	}()
	n := 0
	for b.Loop() {
		n++
		if _, _, err := s.Submit(ctx, "k", strconv.Itoa(n), n); err != nil {
			b.Fatal(err)
		}
		<-ran
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "jobs/s")
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
