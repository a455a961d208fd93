package main

import (
	"testing"
	"time"

	"tocsin.dev/tocsin/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// TestAllThreeAgree holds the three things that are timed against one another:
// they must count the same pairs, or the benchmark compares nothing.
func TestAllThreeAgree(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := postgrestest.New(t)
	d := newData(options{manifests: 60, vulns: 150, seed: 7})
	if err := load(ctx, pool, d); err != nil {
		t.Fatal(err)
	}
	if err := commitUpdate(ctx, pool, d); err != nil {
		t.Fatal(err)
	}
	pairs, _, err := bareJoin(ctx, pool, false)
	if err != nil {
		t.Fatal(err)
	}
	if want := expected(d); pairs != want {
		t.Errorf("the join counts %d pairs, the data has %d", pairs, want)
	}
	_, theirs, err := claircoreWay(ctx, pool, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if int64(theirs) != pairs {
		t.Errorf("claircore finds %d pairs, the join %d", theirs, pairs)
	}
	e, _, err := newEngine(ctx, pool)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.ProcessUpdates(ctx); err != nil {
		t.Fatal(err)
	}
	if err := check(ctx, pool, pairs); err != nil {
		t.Error(err)
	}
	if pairs == 0 {
		t.Error("no pair at all")
	}
}

// expected counts the pairs from the data itself.
func expected(d *data) (n int64) {
	byName := map[int][]vulnerability{}
	for _, v := range d.added {
		byName[v.pkg] = append(byName[v.pkg], v)
	}
	for _, holds := range d.holds {
		for _, p := range holds {
			for _, v := range byName[int(p)/versions] {
				if v.fixed == "" || version(int(p)%versions) < v.fixed {
					n++
				}
			}
		}
	}
	return n
}

// TestData checks the data against its description.
func TestData(t *testing.T) {
	t.Parallel()
	d := newData(options{manifests: 2000, vulns: 10_000, seed: 1})
	held := 0
	for _, h := range d.holds {
		held += len(h)
	}
	if mean := float64(held) / 2000; mean < 197 || mean > 201 {
		t.Errorf("a manifest holds %.1f packages, want about 199", mean)
	}
	unfixed, after := 0, 0
	for _, v := range d.added {
		switch {
		case v.fixed == "":
			unfixed++
		case v.fixed > version(versions-1):
			after++
		}
	}
	if unfixed < 4800 || unfixed > 5200 || after < 2800 || after > 3200 {
		t.Errorf("of 10,000 vulnerabilities %d have no fix and %d one after every version, want about 5,000 and 3,000", unfixed, after)
	}
	if len(d.before) != known {
		t.Errorf("%d vulnerabilities are known before, want %d", len(d.before), known)
	}
}
