package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/quay/claircore"
	ccpostgres "github.com/quay/claircore/datastore/postgres"
	"github.com/quay/claircore/indexer"
	"github.com/quay/claircore/libindex"
	"github.com/quay/claircore/libvuln/updates"

	"tocsin.dev/tocsin/internal/postgres"
)

// claircoreWay times claircore's own answer to the same question, with what
// claircore offers: the difference of the two operations, then the affected
// manifests of all its vulnerabilities. It says which manifests, not what each
// has, and counts the pairs that it went through.
func claircoreWay(ctx context.Context, pool *pgxpool.Pool, limit time.Duration) (took time.Duration, pairs int, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ops, err := operations(ctx, pool)
	if err != nil {
		return 0, 0, err
	}
	dir, err := os.MkdirTemp("", "benchaffected-")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	// What libindex is given, it closes.
	own, err := postgres.Open(ctx, pool.Config().ConnString(), postgres.WithMaxConns(20))
	if err != nil {
		return 0, 0, err
	}
	offline := &http.Client{Transport: offline{}}
	arena, err := libindex.CreateRemoteFetchArena(offline, dir)
	if err != nil {
		own.Close()
		return 0, 0, err
	}
	lib, err := libindex.New(ctx, &libindex.Options{
		Store: ccpostgres.NewIndexerStore(own), Locker: updates.NewLocalLockSource(),
		FetchArena: arena, Ecosystems: []*indexer.Ecosystem{},
	}, offline)
	if err != nil {
		own.Close()
		return 0, 0, err
	}
	defer lib.Close(context.WithoutCancel(ctx))

	start := time.Now()
	diff, err := ccpostgres.NewMatcherStore(pool).GetUpdateDiff(ctx, ops[0].ref, ops[1].ref)
	if err != nil {
		return 0, 0, err
	}
	affected, err := lib.AffectedManifests(ctx, append([]claircore.Vulnerability(nil), diff.Added...))
	if err != nil {
		return 0, 0, err
	}
	took = time.Since(start)
	for _, ids := range affected.VulnerableManifests {
		pairs += len(ids)
	}
	return took, pairs, nil
}

type offline struct{}

func (offline) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("the benchmark has no network")
}
