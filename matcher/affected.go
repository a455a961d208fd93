package matcher

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/internal/text"
	"tocsin.dev/tocsin/schemas"
)

// Page asks for at most Limit items after the cursor that an earlier page
// returned; "" is the first page, and a Limit of 0 is 100.
type Page struct {
	Cursor string
	Limit  int
}

// MaxPage is the longest page.
const MaxPage = 1000

// ErrBadQuestion is returned, wrapped, for an argument that can't be right.
var ErrBadQuestion = problem.New(problem.Invalid, "bad request")

// offset reads a page whose cursor is a number.
func (p Page) offset() (after int64, limit int, err error) {
	limit = min(p.Limit, MaxPage)
	if limit <= 0 {
		limit = 100
	}
	if p.Cursor == "" {
		return 0, limit, nil
	}
	after, err = strconv.ParseInt(p.Cursor, 10, 64)
	if err != nil || after < 0 {
		return 0, 0, fmt.Errorf("%w: cursor %q is not one that a page returned", ErrBadQuestion, p.Cursor)
	}
	return after, limit, nil
}

// Affected is one manifest that has a vulnerability now.
type Affected struct {
	Manifest schemas.Manifest
	Findings []schemas.Finding
}

// maxIDLength bounds the ids that are looked for.
const maxIDLength = 200

const (
	// expandAliases finds what else the vulnerability is called. A CVE id is
	// not expanded: an advisory about several CVEs has them all as aliases.
	expandAliases = `
SELECT DISTINCT unnest(tocsin.aliases(x.id)) FROM (` + rowsCalled + `) x`

	// rowsCalled finds rows by name, by name with more text after it, as some
	// feeds write, and by alias. '!' is what follows a space.
	rowsCalled = `
  SELECT v.id FROM unnest(@ids::text[]) AS q (id) JOIN public.vuln v ON v.name = q.id
  UNION
  SELECT v.id FROM unnest(@ids::text[]) AS q (id) JOIN public.vuln v ON v.name ~>=~ (q.id || ' ') AND v.name ~<~ (q.id || '!')
  UNION
  SELECT va.vulnerability FROM unnest(@ids::text[]) AS q (id)
  JOIN public.alias_namespace n ON n.namespace = split_part(q.id, '-', 1)
  JOIN public.alias a ON a.namespace = n.id AND a.name = substr(q.id, strpos(q.id, '-') + 1)
  JOIN public.vulnerability_alias va ON va.alias = a.id`

	considerCalled = `
INSERT INTO considered (vuln, identity, sig, before, after)
SELECT v.id, dense_rank() OVER (ORDER BY v.updater, v.name), '', true, true
FROM (` + rowsCalled + `) c
JOIN public.vuln v ON v.id = c.id AND NOT v.not_vulnerable
WHERE EXISTS (SELECT FROM public.uo_vuln u JOIN tocsin.cursor k ON k.op_id = u.uo WHERE u.vuln = v.id)`

	insertFound = `
INSERT INTO finding (occurrence, kind, vuln)
SELECT d.occurrence, 0, min(r.pref) & ((1::bigint << 56) - 1)
FROM verdict d JOIN considered c ON c.vuln = d.vuln JOIN rated r ON r.vuln = d.vuln
GROUP BY c.identity, d.occurrence`
)

// ErrUnknownVulnerability is returned, wrapped, for an id that no advisory has.
var ErrUnknownVulnerability = problem.New(problem.NotFound, "no such vulnerability")

const (
	selectKnown = `SELECT EXISTS (` + rowsCalled + `), EXISTS (SELECT FROM public.vuln)`

	// selectLike finds names to hint at: those that begin alike.
	selectLike = `
SELECT DISTINCT v.name FROM unnest(@prefixes::text[]) AS q (prefix)
CROSS JOIN LATERAL (
  SELECT split_part(name, ' ', 1) AS name FROM public.vuln
  WHERE name ~>=~ q.prefix AND name ~<~ (q.prefix || '~')
  ORDER BY name USING ~<~ LIMIT 500) v`
)

// known reports an error unless some advisory, of whatever update, is called id.
func (w *work) known(ctx context.Context, id string) error {
	var known, loaded bool
	if err := w.tx.QueryRow(ctx, selectKnown, pgx.NamedArgs{"ids": spellings(id)}).Scan(&known, &loaded); err != nil {
		return err
	}
	if known {
		return nil
	}
	if !loaded {
		return fmt.Errorf("%w: no feed has been loaded yet (`tocsin updaters status` says how they fare)", ErrUnknownVulnerability)
	}
	var prefixes []string
	for _, form := range slices.Compact([]string{id, strings.ToUpper(id)}) {
		if cut := max(len(form)-2, len(form)/2); cut > 3 && utf8.ValidString(form[:cut]) {
			prefixes = append(prefixes, form[:cut])
		}
	}
	rows, err := w.tx.Query(ctx, selectLike, pgx.NamedArgs{"prefixes": prefixes})
	if err != nil {
		return err
	}
	like, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	hint := text.DidYouMean(id, like)
	if hint == "" {
		hint = "no feed that was loaded has an advisory or alias of this name"
	}
	return fmt.Errorf("%w: %s (%s)", ErrUnknownVulnerability, id, hint)
}

// Affected lists, by manifest, who has the vulnerability called id now, as a
// name or an alias of it, and through which packages: as of the updates that
// have been announced. next is the cursor of the page that follows, or empty.
// Errors: [ErrBadQuestion], and [ErrUnknownVulnerability] for an id that no feed has.
func (e *Engine) Affected(ctx context.Context, id string, p Page) (items []Affected, next string, err error) {
	after, limit, err := p.offset()
	if err != nil {
		return nil, "", err
	}
	if id = strings.TrimSpace(id); id == "" || len(id) > maxIDLength || strings.ContainsRune(id, 0) {
		return nil, "", fmt.Errorf("%w: a vulnerability's id is like CVE-2024-1234, GHSA-…, GO-…, and at most %d bytes", ErrBadQuestion, maxIDLength)
	}
	err = e.ask(ctx, func(w *work) error {
		if err := w.find(ctx, id); err != nil {
			return err
		}
		if err := w.known(ctx, id); err != nil {
			return err
		}
		found, dict, err := w.holders(ctx, int32(min(after, 1<<31-1)), limit+1)
		if err != nil {
			return err
		}
		if len(found) > limit {
			found = found[:limit]
			next = strconv.Itoa(int(found[limit-1].id))
		}
		for _, h := range found {
			a := Affected{Manifest: h.manifest}
			for _, l := range h.lines {
				f, _, err := dict.finding(l)
				if err != nil {
					return err
				}
				a.Findings = append(a.Findings, f)
			}
			items = append(items, a)
		}
		return nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("manifests with %s: %w", id, err)
	}
	return items, next, nil
}

// spellings are the ways in which an id is looked for: a CVE's whatever its case.
func spellings(id string) []string {
	if upper := strings.ToUpper(id); upper != id && strings.HasPrefix(upper, "CVE-") {
		return []string{id, upper}
	}
	return []string{id}
}

// find computes the findings of what is called id.
func (w *work) find(ctx context.Context, id string) error {
	ids := spellings(id)
	if !strings.HasPrefix(strings.ToUpper(id), "CVE-") {
		rows, err := w.tx.Query(ctx, expandAliases, pgx.NamedArgs{"ids": ids})
		if err != nil {
			return err
		}
		aliases, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		ids = append(ids, aliases...)
	}
	if _, err := w.exec(ctx, considerCalled, pgx.NamedArgs{"ids": ids}); err != nil {
		return err
	}
	if err := w.judgeAll(ctx, w.sql.allCandidates); err != nil {
		return err
	}
	ops, err := enrichmentOps(ctx, w.tx)
	if err != nil {
		return err
	}
	if err := w.rate(ctx, ops, ops); err != nil {
		return err
	}
	if _, err := w.exec(ctx, insertFound, nil); err != nil {
		return err
	}
	return w.describe(ctx, ops, ops)
}
