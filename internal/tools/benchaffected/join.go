package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// joinSQL is the least that answers the question: it counts the (vulnerability,
// manifest) pairs that the update adds, over claircore's own tables. It can be
// this short because the data's versions are ordered as text.
const joinSQL = `
SELECT count(*)
FROM public.uo_vuln uv
JOIN public.vuln v ON v.id = uv.vuln
JOIN public.package p ON p.name = v.package_name AND p.kind = v.package_kind
  AND (v.fixed_in_version = '' OR p.version COLLATE "C" < v.fixed_in_version)
JOIN public.manifest_index mi ON mi.package_id = p.id
JOIN public.dist d ON d.id = mi.dist_id AND d.did = v.dist_id AND d.name = v.dist_name AND d.version_id = v.dist_version_id
WHERE uv.uo = %d AND NOT EXISTS (SELECT FROM public.uo_vuln was WHERE was.uo = %d AND was.vuln = uv.vuln)`

// bareJoin times the join, with fresh statistics.
func bareJoin(ctx context.Context, pool *pgxpool.Pool, explain bool) (pairs int64, took time.Duration, err error) {
	ops, err := operations(ctx, pool)
	if err != nil {
		return 0, 0, err
	}
	if _, err := pool.Exec(ctx, `ANALYZE public.uo_vuln, public.vuln`); err != nil {
		return 0, 0, err
	}
	// The planner knows more of numbers than of arguments.
	sql := fmt.Sprintf(joinSQL, ops[1].id, ops[0].id)
	start := time.Now()
	if err := pool.QueryRow(ctx, sql).Scan(&pairs); err != nil {
		return 0, 0, err
	}
	took = time.Since(start)
	if explain {
		plan, err := explainAnalyze(ctx, pool, sql)
		if err != nil {
			return 0, 0, err
		}
		fmt.Printf("the bare join:\n%s\n", plan)
	}
	return pairs, took, nil
}

// operation is one update operation.
type operation struct {
	id  int64
	ref uuid.UUID
}

const operationsSQL = `SELECT id, ref FROM public.update_operation ORDER BY id`

// operations are the two update operations: what was known, and the update.
func operations(ctx context.Context, pool *pgxpool.Pool) ([]operation, error) {
	rows, err := pool.Query(ctx, operationsSQL)
	if err != nil {
		return nil, err
	}
	ops, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o operation, err error) {
		return o, row.Scan(&o.id, &o.ref)
	})
	if err == nil && len(ops) != 2 {
		err = fmt.Errorf("%d update operations, want 2: is the database empty at the start?", len(ops))
	}
	return ops, err
}

func explainAnalyze(ctx context.Context, pool *pgxpool.Pool, sql string, args ...any) (string, error) {
	rows, err := pool.Query(ctx, "EXPLAIN (ANALYZE, BUFFERS) "+sql, args...)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var b strings.Builder
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "    %s\n", line)
	}
	return b.String(), rows.Err()
}

const diskSQL = `
SELECT pg_size_pretty(a), pg_size_pretty(b), round(b / a, 1)::text
FROM (
  SELECT sum(pg_total_relation_size(ours))::numeric FROM unnest(ARRAY['tocsin.inventory', 'tocsin.occurrence', 'tocsin.occurrence_record']::regclass[]) ours
) x(a), (
  SELECT sum(pg_total_relation_size(theirs))::numeric FROM unnest(ARRAY['public.manifest_index', 'public.package']::regclass[]) theirs
) y(b)`

// disk says how much room both ways of knowing who has what take.
func disk(ctx context.Context, pool *pgxpool.Pool) (string, error) {
	var ours, theirs, times string
	if err := pool.QueryRow(ctx, diskSQL).Scan(&ours, &theirs, &times); err != nil {
		return "", err
	}
	return fmt.Sprintf("on disk with indexes: inventories and occurrences %s, manifest_index and package %s (%s times as much)", ours, theirs, times), nil
}

const describeSQL = `
SELECT format('PostgreSQL %s: ', current_setting('server_version')) ||
  string_agg(format('%s=%s', name, current_setting(name)), ' ' ORDER BY name)
FROM pg_settings
WHERE name IN ('fsync', 'synchronous_commit', 'shared_buffers', 'work_mem', 'max_parallel_workers_per_gather', 'jit', 'random_page_cost', 'max_wal_size', 'wal_compression')`

// describe prints the server's settings that matter.
func describe(ctx context.Context, pool *pgxpool.Pool) error {
	var s string
	if err := pool.QueryRow(ctx, describeSQL).Scan(&s); err != nil {
		return err
	}
	fmt.Println(s)
	return nil
}
