// Command benchaffected measures how long Tocsin takes from a committed update
// of a vulnerability feed to the committed events and deliveries about the
// manifests it touches, beside a bare SQL join that counts the same findings
// and beside claircore's own way.
//
// The data is made from a seed: N manifests of about 199 packages out of 5,000
// names in 3 versions each, on one Debian 12; 20,000 known vulnerabilities, and
// an update that adds V. It is loaded straight into the tables. The join runs
// over claircore's own tables, with claircore's indexes. Tocsin's part runs in
// a child process, whose peak memory and statements are counted.
//
// The last line of its output is for machines:
//
//	affected n=… v=… pairs=… join_s=… tocsin_s=… claircore_s=… peak_rss_mb=… statements=…
//
// claircore_s is "skipped" if its part was left out or did not end in time. The
// exit status is 1 if Tocsin's events do not count exactly the join's pairs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/internal/postgres"
)

type options struct {
	manifests, vulns int
	seed             uint64
	dir, url         string
	claircore        time.Duration
	explain          bool
}

func main() {
	var o options
	flag.IntVar(&o.manifests, "n", 10_000, "how many manifests are indexed")
	flag.IntVar(&o.vulns, "v", 1_000, "how many vulnerabilities the update adds")
	flag.Uint64Var(&o.seed, "seed", 1, "what the data is made from")
	flag.StringVar(&o.dir, "dir", "", "where the private PostgreSQL cluster lives, kept afterwards; default a temporary one")
	flag.StringVar(&o.url, "database-url", "", "an empty database to use instead of a private cluster")
	flag.DurationVar(&o.claircore, "claircore", 3*time.Minute, "how long claircore's own way may take before it counts as skipped; 0 skips it")
	flag.BoolVar(&o.explain, "explain", false, "print the plans of the join and of Tocsin's slow statements, which makes them slower")
	child := flag.Bool("child", false, "be the measured process; for the benchmark itself")
	flag.Parse()
	slog.SetDefault(quiet) // claircore's
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *child {
		err = measured(ctx, o.url, o.explain, os.Stdin, os.Stdout)
	} else {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchaffected:", err)
		os.Exit(1)
	}
}

// run starts the cluster, if there is to be one, and ends it.
func run(ctx context.Context, o options) error {
	if o.manifests < 1 || o.vulns < 1 {
		return errors.New("-n and -v must be at least 1")
	}
	if o.url != "" {
		return bench(ctx, o)
	}
	if o.dir == "" {
		dir, err := os.MkdirTemp("", "tocsin-benchaffected-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.dir = filepath.Join(dir, "cluster")
	}
	ctx, cancel := context.WithCancel(ctx)
	cluster := postgres.PrivateCluster(postgres.ClusterOptions{Dir: o.dir, Logger: slog.New(slog.DiscardHandler)})
	ended := make(chan error, 1)
	go func() { ended <- cluster.Run(ctx) }()
	url, err := cluster.URL(ctx)
	if err == nil {
		o.url = url
		err = bench(ctx, o)
	}
	cancel()
	return errors.Join(err, <-ended)
}

func bench(ctx context.Context, o options) error {
	pool, err := postgres.Open(ctx, o.url, postgres.WithMaxConns(20))
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := postgres.Migrate(ctx, pool, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	step := stopwatch()
	d := newData(o)
	step("data made")
	if err := load(ctx, pool, d); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	step("data loaded and analysed")
	if err := describe(ctx, pool); err != nil {
		return err
	}
	sizes, err := disk(ctx, pool)
	if err != nil {
		return err
	}
	fmt.Println(sizes)

	// The child is ready and connected before the update lands.
	c, err := startChild(ctx, o.url, o.explain)
	if err != nil {
		return err
	}
	defer c.stop()
	if err := commitUpdate(ctx, pool, d); err != nil {
		return fmt.Errorf("update: %w", err)
	}
	step("update committed")

	// Tocsin comes first, with the statistics that the update left; the join
	// then has fresh ones.
	r, err := c.measure()
	if err != nil {
		return fmt.Errorf("tocsin: %w", err)
	}
	step("tocsin done")
	fmt.Print(r)

	pairs, join, err := bareJoin(ctx, pool, o.explain)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	step(fmt.Sprintf("join counted %d pairs", pairs))

	clair := "skipped"
	if o.claircore > 0 {
		s, counted, err := claircoreWay(ctx, pool, o.claircore)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			fmt.Printf("claircore did not end within %v\n", o.claircore)
		case err != nil:
			return fmt.Errorf("claircore: %w", err)
		default:
			clair = seconds(s)
			step(fmt.Sprintf("claircore found %d pairs", counted))
		}
	}
	fmt.Printf("affected n=%d v=%d pairs=%d join_s=%s tocsin_s=%s claircore_s=%s peak_rss_mb=%d statements=%d\n",
		o.manifests, o.vulns, pairs, seconds(join), seconds(r.Elapsed), clair, r.PeakRSS>>20, r.Statements)
	return check(ctx, pool, pairs)
}

// check compares what Tocsin wrote with what the join counted.
func check(ctx context.Context, pool *pgxpool.Pool, pairs int64) error {
	var added, manifests, deliveries int64
	if err := pool.QueryRow(ctx, writtenSQL).Scan(&added, &manifests, &deliveries); err != nil {
		return err
	}
	if added != pairs {
		return fmt.Errorf("the events say %d findings were added, the join counts %d", added, pairs)
	}
	// The update's own event is owed too.
	if deliveries != manifests+1 {
		return fmt.Errorf("%d events about manifests, but %d deliveries are owed, want one more", manifests, deliveries)
	}
	return nil
}

const writtenSQL = `
SELECT coalesce(sum(added), 0), count(*), (SELECT count(*) FROM tocsin.queue)
FROM tocsin.event
WHERE type = 'dev.tocsin.manifest.vulnerabilities_changed.v1'`

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()) }

// stopwatch returns a function that prints how long the step before it took.
func stopwatch() func(what string) {
	last := time.Now()
	return func(what string) {
		fmt.Printf("%8.2fs  %s\n", time.Since(last).Seconds(), what)
		last = time.Now()
	}
}
