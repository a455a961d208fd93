package main

import (
	"context"
	"crypto/md5"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tocsin.dev/tocsin/matcher"
)

// load fills the database with everything but the update.
func load(ctx context.Context, pool *pgxpool.Pool, d *data) error {
	// The first operation comes before there are manifests: its events are
	// not what is measured.
	if err := writeOperation(ctx, pool, d.before, true); err != nil {
		return fmt.Errorf("known vulnerabilities: %w", err)
	}
	ids, err := occurrences(ctx, pool)
	if err != nil {
		return fmt.Errorf("occurrences: %w", err)
	}
	if err := loadInventories(ctx, pool, d, ids); err != nil {
		return fmt.Errorf("inventories: %w", err)
	}
	if err := loadManifestIndex(ctx, pool, d); err != nil {
		return fmt.Errorf("manifest_index: %w", err)
	}
	_, err = pool.Exec(ctx, `VACUUM (ANALYZE)`)
	return err
}

const loaderManifestSQL = `
WITH m AS (
  INSERT INTO tocsin.manifest (digest, spec) VALUES (@digest, '{}') RETURNING id
)
INSERT INTO tocsin.naming (manifest_id, names) SELECT id, '{}' FROM m RETURNING manifest_id, id`

const occurrencesSQL = `
SELECT substr(r.name, 4)::integer * 3 + right(o.body -> 'package' ->> 'version', 1)::integer - 1, o.id
FROM tocsin.occurrence o
JOIN tocsin.occurrence_record r ON r.occurrence_id = o.id`

const forgetLoaderSQL = `DELETE FROM tocsin.inventory WHERE manifest_id = @manifest`

// occurrences lets a real engine work through the first operation and record
// every package, and returns the occurrence ids by package.
func occurrences(ctx context.Context, pool *pgxpool.Pool) ([]int32, error) {
	e, subs, err := newEngine(ctx, pool)
	if err != nil {
		return nil, err
	}
	if err := e.ProcessUpdates(ctx); err != nil {
		return nil, err
	}
	report := everything()
	m := matcher.Manifest{Digest: report.Hash.String(), IndexerState: "bench"}
	if err := pool.QueryRow(ctx, loaderManifestSQL, pgx.NamedArgs{"digest": m.Digest}).Scan(&m.ID, &m.NamingID); err != nil {
		return nil, err
	}
	if err := e.Indexed(ctx, m, report); err != nil {
		return nil, err
	}
	if _, err := pool.Exec(ctx, forgetLoaderSQL, pgx.NamedArgs{"manifest": m.ID}); err != nil {
		return nil, err
	}
	ids := make([]int32, names*versions)
	rows, err := pool.Query(ctx, occurrencesSQL)
	if err != nil {
		return nil, err
	}
	var pkg, id int32
	found := 0
	if _, err := pgx.ForEachRow(rows, []any{&pkg, &id}, func() error {
		ids[pkg] = id
		found++
		return nil
	}); err != nil {
		return nil, err
	}
	if found != len(ids) {
		return nil, fmt.Errorf("%d occurrences of %d packages", found, len(ids))
	}
	if err := subscribe(ctx, subs); err != nil {
		return nil, err
	}
	// What the loading announced is no part of the measurement.
	for _, q := range []string{`TRUNCATE tocsin.event`, `TRUNCATE tocsin.outbox`, `TRUNCATE tocsin.queue`} {
		if _, err := pool.Exec(ctx, q); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// loadInventories writes the manifests and what each holds, as the engine would.
func loadInventories(ctx context.Context, pool *pgxpool.Pool, d *data, ids []int32) error {
	return withoutIndexes(ctx, pool, []string{"tocsin.inventory"}, func(tx pgx.Tx) error {
		const first = 2 // 1 was the loader's
		copies := []struct {
			table   pgx.Identifier
			columns []string
			row     func(i int) []any
		}{
			{pgx.Identifier{"tocsin", "manifest"}, []string{"id", "digest", "spec", "naming_id", "inventory_id", "state"}, func(i int) []any {
				return []any{i + first, digest("manifest", i+first), "{}", i + first, i + first, "indexed"}
			}},
			{pgx.Identifier{"tocsin", "naming"}, []string{"id", "manifest_id", "names", "labels"}, func(i int) []any {
				return []any{i + first, i + first, []string{fmt.Sprintf("registry.example/team%d/app%d:1.0", i%100, i)}, "{}"}
			}},
			{pgx.Identifier{"tocsin", "inventory"}, []string{"id", "manifest_id", "occurrences", "current"}, func(i int) []any {
				set := make([]int32, len(d.holds[i]))
				for k, p := range d.holds[i] {
					set[k] = ids[p]
				}
				slices.Sort(set)
				return []any{i + first, i + first, set, true}
			}},
		}
		for _, c := range copies {
			src := pgx.CopyFromSlice(d.manifests, func(i int) ([]any, error) { return c.row(i), nil })
			if _, err := tx.CopyFrom(ctx, c.table, c.columns, src); err != nil {
				return fmt.Errorf("%s: %w", c.table.Sanitize(), err)
			}
		}
		return nil
	})
}

// loadManifestIndex writes the same into the tables of claircore's indexer: two
// rows a package and manifest, for the binary and its source.
func loadManifestIndex(ctx context.Context, pool *pgxpool.Pool, d *data) error {
	var dist int64
	if err := pool.QueryRow(ctx, distSQL, pgx.NamedArgs{
		"did": debian.DID, "name": debian.Name, "version": debian.Version, "version_id": debian.VersionID,
		"code_name": debian.VersionCodeName, "pretty_name": debian.PrettyName,
	}).Scan(&dist); err != nil {
		return err
	}
	const kinds = 2
	return withoutIndexes(ctx, pool, []string{"public.manifest_index"}, func(tx pgx.Tx) error {
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"public", "package"}, []string{"id", "name", "kind", "version", "module", "arch"},
			pgx.CopyFromSlice(names*versions*kinds, func(i int) ([]any, error) {
				kind, arch := "source", ""
				if i%kinds == 1 {
					kind, arch = "binary", "amd64"
				}
				p := i / kinds
				return []any{i + 1, packageName(p / versions), kind, version(p % versions), "", arch}, nil
			})); err != nil {
			return err
		}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"public", "manifest"}, []string{"id", "hash"},
			pgx.CopyFromSlice(d.manifests, func(i int) ([]any, error) { return []any{i + 2, digest("manifest", i+2)}, nil })); err != nil {
			return err
		}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"public", "layer"}, []string{"id", "hash"},
			pgx.CopyFromSlice(d.manifests+layers-1, func(i int) ([]any, error) { return []any{i + 1, digest("layer", i+1)}, nil })); err != nil {
			return err
		}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"public", "manifest_layer"}, []string{"manifest_id", "layer_id", "i"},
			pgx.CopyFromSlice(d.manifests*layers, func(i int) ([]any, error) {
				m, l := i/layers, i%layers
				layer := l + 1
				if l == layers-1 {
					layer = layers + m
				}
				return []any{m + 2, layer, l}, nil
			})); err != nil {
			return err
		}
		m, k := 0, -1
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"public", "manifest_index"}, []string{"package_id", "dist_id", "manifest_id"},
			pgx.CopyFromFunc(func() ([]any, error) {
				for k++; m < d.manifests && k >= kinds*len(d.holds[m]); k = 0 {
					m++
				}
				if m == d.manifests {
					return nil, nil
				}
				return []any{int64(d.holds[m][k/kinds])*kinds + int64(k%kinds) + 1, dist, int64(m + 2)}, nil
			}))
		return err
	})
}

const distSQL = `
INSERT INTO public.dist (did, name, version, version_id, version_code_name, pretty_name)
VALUES (@did, @name, @version, @version_id, @code_name, @pretty_name) RETURNING id`

const indexesSQL = `
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid)
FROM pg_index WHERE indrelid = @table::text::regclass AND NOT indisprimary`

// withoutIndexes fills tables in one transaction with their indexes dropped and
// foreign keys unchecked, and makes the indexes again, as they were.
func withoutIndexes(ctx context.Context, pool *pgxpool.Pool, tables []string, fill func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL session_replication_role = replica`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `SET LOCAL maintenance_work_mem = '512MB'`); err != nil {
			return err
		}
		var definitions []string
		for _, t := range tables {
			rows, err := tx.Query(ctx, indexesSQL, pgx.NamedArgs{"table": t})
			if err != nil {
				return err
			}
			var drop []string
			var name, definition string
			if _, err := pgx.ForEachRow(rows, []any{&name, &definition}, func() error {
				drop = append(drop, name)
				definitions = append(definitions, definition)
				return nil
			}); err != nil {
				return err
			}
			for _, n := range drop {
				if _, err := tx.Exec(ctx, `DROP INDEX `+n); err != nil {
					return err
				}
			}
		}
		if err := fill(tx); err != nil {
			return err
		}
		for _, q := range definitions {
			if _, err := tx.Exec(ctx, q); err != nil {
				return err
			}
		}
		return nil
	})
}

const operationSQL = `
INSERT INTO public.update_operation (updater, fingerprint, kind) VALUES (@updater, '', 'vulnerability') RETURNING id`

const nextVulnSQL = `SELECT coalesce(max(id), 0) + 1 FROM public.vuln`

const carryOverSQL = `
INSERT INTO public.uo_vuln (uo, vuln)
SELECT @operation, uv.vuln FROM public.uo_vuln uv
JOIN public.latest_update_operations l ON l.id = uv.uo
WHERE l.updater = @updater`

// writeOperation writes an update operation as claircore would: all that was
// known before, unless it is the first, and these.
func writeOperation(ctx context.Context, pool *pgxpool.Pool, vs []vulnerability, first bool) error {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		var op, next int64
		if err := tx.QueryRow(ctx, operationSQL, pgx.NamedArgs{"updater": updater}).Scan(&op); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, nextVulnSQL).Scan(&next); err != nil {
			return err
		}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"public", "vuln"}, []string{
			"id", "hash_kind", "hash", "updater", "name", "description", "issued", "links", "severity", "normalized_severity",
			"package_name", "package_version", "package_module", "package_arch", "package_kind",
			"dist_id", "dist_name", "dist_version", "dist_version_code_name", "dist_version_id", "dist_arch", "dist_cpe", "dist_pretty_name",
			"repo_name", "repo_key", "repo_uri", "fixed_in_version", "arch_operation",
		}, pgx.CopyFromSlice(len(vs), func(i int) ([]any, error) {
			v := &vs[i]
			h := md5.Sum([]byte(v.name))
			return []any{
				next + int64(i), "md5", h[:], updater, v.name, "A flaw in " + packageName(v.pkg) + ", known as " + v.name + ".", time.Time{},
				"https://security-tracker.debian.org/tracker/" + v.name, v.severity, v.normalized.String(),
				packageName(v.pkg), "", "", "", "source",
				debian.DID, debian.Name, debian.Version, debian.VersionCodeName, debian.VersionID, "", "", debian.PrettyName,
				"", "", "", v.fixed, "invalid",
			}, nil
		})); err != nil {
			return err
		}
		if !first {
			if _, err := tx.Exec(ctx, carryOverSQL, pgx.NamedArgs{"operation": op, "updater": updater}); err != nil {
				return err
			}
		}
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"public", "uo_vuln"}, []string{"uo", "vuln"},
			pgx.CopyFromSlice(len(vs), func(i int) ([]any, error) { return []any{op, next + int64(i)}, nil }))
		return err
	})
	if err != nil {
		return err
	}
	_, err = pool.Exec(ctx, `REFRESH MATERIALIZED VIEW CONCURRENTLY public.latest_update_operations`)
	return err
}

// commitUpdate writes the update that is measured.
func commitUpdate(ctx context.Context, pool *pgxpool.Pool, d *data) error {
	return writeOperation(ctx, pool, d.added, false)
}
