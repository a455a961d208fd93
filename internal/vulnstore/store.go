package vulnstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/quay/claircore"
	"github.com/quay/claircore/libvuln/driver"
)

// RefreshLatest refreshes the view by which claircore's reports find the latest
// operations. It runs after the operation is committed.
const RefreshLatest = `REFRESH MATERIALIZED VIEW CONCURRENTLY public.latest_update_operations`

// An Update is what one run of an updater brought.
type Update struct {
	Updater     string
	Fingerprint driver.Fingerprint
	// Vulns are the vulnerabilities; an error ends the update.
	Vulns iter.Seq2[*claircore.Vulnerability, error]
	// Delta says that Vulns and Deleted are all that has changed: the rest of
	// the updater's last operation stays, except rows whose name is in either.
	Delta   bool
	Deleted []string
}

// A Stored is an update operation that was written.
type Stored struct {
	Ref uuid.UUID
	// Rows is how many rows the operation has.
	Rows int64
}

// Write writes an update operation in the transaction.
func Write(ctx context.Context, tx pgx.Tx, u Update) (Stored, error) {
	var s Stored
	if _, err := tx.Exec(ctx, createIncoming); err != nil {
		return s, fmt.Errorf("table of incoming rows: %w", err)
	}
	if err := copyRows(ctx, tx, u.Vulns); err != nil {
		return s, err
	}
	var last, id int64
	if u.Delta {
		err := tx.QueryRow(ctx, lastOperation, pgx.NamedArgs{"updater": u.Updater}).Scan(&last)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return s, fmt.Errorf("last operation of %s: %w", u.Updater, err)
		}
	}
	err := tx.QueryRow(ctx, insertOperation, pgx.NamedArgs{"updater": u.Updater, "fingerprint": string(u.Fingerprint)}).Scan(&id, &s.Ref)
	if err != nil {
		return s, fmt.Errorf("new operation of %s: %w", u.Updater, err)
	}
	for _, step := range []struct {
		what, sql string
		wanted    bool
		args      pgx.NamedArgs
	}{
		{"keep rows of the last operation", keepLast, last != 0, pgx.NamedArgs{"operation": id, "last": last, "deleted": u.Deleted}},
		{"insert rows", insertVulns, true, pgx.NamedArgs{"kind": hashKind}},
		{"link rows", linkVulns, true, pgx.NamedArgs{"operation": id, "kind": hashKind}},
		{"insert namespaces of aliases", insertNamespaces, true, nil},
		{"insert aliases", insertAliases, true, nil},
		{"link aliases", linkAliases, true, pgx.NamedArgs{"kind": hashKind}},
		{"link identities", linkSelf, true, pgx.NamedArgs{"kind": hashKind}},
	} {
		if !step.wanted {
			continue
		}
		if _, err := tx.Exec(ctx, step.sql, step.args); err != nil {
			return s, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	if err := tx.QueryRow(ctx, countRows, pgx.NamedArgs{"operation": id}).Scan(&s.Rows); err != nil {
		return s, fmt.Errorf("rows of the operation: %w", err)
	}
	return s, nil
}

// incoming are the columns of the table that rows are copied into.
var incoming = append(
	[]string{"hash", "issued", "version_kind", "lower", "upper", "not_vulnerable", "alias_spaces", "alias_names", "self_space", "self_name"},
	strings.FieldsFunc(texts, func(r rune) bool { return strings.ContainsRune(", \n", r) })...,
)

func copyRows(ctx context.Context, tx pgx.Tx, vulns iter.Seq2[*claircore.Vulnerability, error]) error {
	next, stop := iter.Pull2(vulns)
	defer stop()
	var broken error
	source := pgx.CopyFromFunc(func() ([]any, error) {
		for {
			v, err, more := next()
			if err != nil {
				broken = err
				return nil, err
			}
			if !more {
				return nil, nil
			}
			if r, ok := newRow(v); ok {
				return r.values(), nil
			}
		}
	})
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{"incoming_vuln"}, incoming, source); err != nil {
		if broken != nil {
			return broken
		}
		return fmt.Errorf("copy rows: %w", err)
	}
	_, err := tx.Exec(ctx, `ANALYZE incoming_vuln`)
	return err
}

// values are the row's in the order of incoming.
func (r *row) values() []any {
	spaces, names := make([]string, len(r.aliases)), make([]string, len(r.aliases))
	for i, a := range r.aliases {
		spaces[i], names[i] = clean(a.Space.Value()), clean(a.Name)
	}
	var space, name *string
	if r.self.Valid() {
		s, n := clean(r.self.Space.Value()), clean(r.self.Name)
		space, name = &s, &n
	}
	out := []any{r.hash(), r.issued, r.kind, r.lower, r.upper, r.notAffected, spaces, names, space, name}
	for _, s := range r.text {
		out = append(out, s)
	}
	return out
}

const (
	createIncoming = `
CREATE TEMP TABLE incoming_vuln (
  hash bytea, issued timestamptz, version_kind text, lower integer[], upper integer[], not_vulnerable boolean,
  alias_spaces text[], alias_names text[], self_space text, self_name text,
  name text, updater text, description text, links text, severity text, normalized_severity text,
  package_name text, package_version text, package_module text, package_arch text, package_kind text,
  dist_id text, dist_name text, dist_version text, dist_version_code_name text, dist_version_id text, dist_arch text, dist_cpe text,
  dist_pretty_name text, repo_name text, repo_key text, repo_uri text, fixed_in_version text, arch_operation text
) ON COMMIT DROP`

	insertVulns = `
INSERT INTO public.vuln (hash_kind, hash, issued, version_kind, vulnerable_range, not_vulnerable, ` + texts + `)
SELECT DISTINCT ON (hash) @kind::text, hash, issued, version_kind,
  CASE WHEN lower IS NULL THEN public.VersionRange('{}', '{}', '()') ELSE public.VersionRange(lower, upper, '[)') END, not_vulnerable, ` + texts + `
FROM incoming_vuln ORDER BY hash
ON CONFLICT (hash_kind, hash) DO NOTHING`

	lastOperation = `
SELECT id FROM public.update_operation WHERE updater = @updater AND kind = 'vulnerability' ORDER BY id DESC LIMIT 1`

	insertOperation = `
INSERT INTO public.update_operation (updater, fingerprint, kind) VALUES (@updater, @fingerprint, 'vulnerability') RETURNING id, ref`

	keepLast = `
INSERT INTO public.uo_vuln (uo, vuln)
SELECT @operation, u.vuln
FROM public.uo_vuln u JOIN public.vuln v ON v.id = u.vuln
WHERE u.uo = @last AND NOT v.name = ANY(coalesce(@deleted::text[], '{}'))
  AND NOT EXISTS (SELECT FROM incoming_vuln i WHERE i.name = v.name)
ON CONFLICT DO NOTHING`

	linkVulns = `
INSERT INTO public.uo_vuln (uo, vuln)
SELECT DISTINCT @operation::bigint, v.id
FROM incoming_vuln i JOIN public.vuln v ON v.hash_kind = @kind AND v.hash = i.hash
ON CONFLICT DO NOTHING`

	// Several updaters bring the same aliases: those that come at the same time
	// insert in one order, and wait for each other.
	insertNamespaces = `
INSERT INTO public.alias_namespace (namespace)
SELECT DISTINCT s.space
FROM (SELECT unnest(alias_spaces) AS space FROM incoming_vuln UNION SELECT self_space FROM incoming_vuln WHERE self_space IS NOT NULL) s
WHERE NOT EXISTS (SELECT FROM public.alias_namespace n WHERE n.namespace = s.space)
ORDER BY 1
ON CONFLICT DO NOTHING`

	insertAliases = `
INSERT INTO public.alias (namespace, name)
SELECT DISTINCT n.id, s.name
FROM (
  SELECT a.space, a.name FROM incoming_vuln i CROSS JOIN LATERAL unnest(i.alias_spaces, i.alias_names) AS a (space, name)
  UNION SELECT self_space, self_name FROM incoming_vuln WHERE self_space IS NOT NULL
) s JOIN public.alias_namespace n ON n.namespace = s.space
WHERE NOT EXISTS (SELECT FROM public.alias a WHERE a.namespace = n.id AND a.name = s.name)
ORDER BY 1, 2
ON CONFLICT DO NOTHING`

	linkAliases = `
INSERT INTO public.vulnerability_alias (vulnerability, alias)
SELECT DISTINCT v.id, a.id
FROM incoming_vuln i
CROSS JOIN LATERAL unnest(i.alias_spaces, i.alias_names) AS s (space, name)
JOIN public.vuln v ON v.hash_kind = @kind AND v.hash = i.hash
JOIN public.alias_namespace n ON n.namespace = s.space
JOIN public.alias a ON a.namespace = n.id AND a.name = s.name
ON CONFLICT DO NOTHING`

	linkSelf = `
INSERT INTO public.vulnerability_self (vulnerability, self)
SELECT DISTINCT v.id, a.id
FROM incoming_vuln i
JOIN public.vuln v ON v.hash_kind = @kind AND v.hash = i.hash
JOIN public.alias_namespace n ON n.namespace = i.self_space
JOIN public.alias a ON a.namespace = n.id AND a.name = i.self_name
ON CONFLICT DO NOTHING`

	countRows = `SELECT count(*) FROM public.uo_vuln WHERE uo = @operation`
)
