package matcher

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// sqlTexts are the statements that depend on the registered matchers.
type sqlTexts struct {
	allCandidates string // considered rows against all occurrences
	newCandidates string // against those that came since @snapshot
	ofManifest    string // what the cursors know against @occurrences
}

func (s *matcherSet) texts() sqlTexts {
	const into = `
INSERT INTO candidate (vuln, occurrence, mask)`
	return sqlTexts{
		allCandidates: into + s.candidatesSQL(fromConsidered, ""),
		newCandidates: into + s.candidatesSQL(fromConsidered, newOccurrences),
		ofManifest:    s.candidatesSQL(fromCursors, ofManifest),
	}
}

// workTables are a computation's, and gone with its transaction:
//   - op: the update operations whose rows are known before, after, or both;
//   - touched: the advisories, by updater and name, that may have changed;
//   - considered: the vulnerability rows of those. identity is their
//     advisory's, sig what the publisher says that a revision is judged by;
//   - candidate: the pairs to judge; verdict: the vulnerable ones;
//   - rated: the rows in verdict with what they say together with the
//     enrichments of before, of after, or of both. sig is what a revision is
//     judged by; pref orders the rows of an advisory that may speak for it:
//     smallest first, with the row's id in its lower 56 bits;
//   - finding: what has changed (kind as in change_finding), the row that
//     speaks for it now (or did last), and the one that did before a revision;
//   - content: what those rows say, before and after, as findings' JSON;
//   - crossing: the CVE ids of which an enrichment now says otherwise.
const workTables = `
SET LOCAL plan_cache_mode = force_custom_plan;
CREATE TEMP TABLE op (uo bigint, before boolean, after boolean) ON COMMIT DROP;
CREATE TEMP TABLE touched (identity integer, updater text, name text) ON COMMIT DROP;
CREATE TEMP TABLE considered (vuln bigint, identity integer, sig text, before boolean, after boolean) ON COMMIT DROP;
CREATE TEMP TABLE candidate (vuln bigint, occurrence integer, mask bigint) ON COMMIT DROP;
CREATE TEMP TABLE verdict (vuln bigint, occurrence integer) ON COMMIT DROP;
CREATE TEMP TABLE rated (vuln bigint, before boolean, after boolean, sig text, pref bigint) ON COMMIT DROP;
CREATE TEMP TABLE finding (occurrence integer, kind smallint, vuln bigint, previous bigint) ON COMMIT DROP;
CREATE TEMP TABLE content (vuln bigint, before boolean, hash bytea, body jsonb) ON COMMIT DROP;
CREATE TEMP TABLE crossing (cve text) ON COMMIT DROP;
`

// work is one computation in one transaction.
type work struct {
	*Engine
	tx       pgx.Tx
	snapshot string
	skips    *Skips
	judge    *judge
}

const takeSnapshot = `SELECT pg_current_snapshot()::text`

// begin makes the work tables.
func (e *Engine) begin(ctx context.Context, tx pgx.Tx) (*work, error) {
	if _, err := tx.Conn().PgConn().Exec(ctx, workTables).ReadAll(); err != nil {
		return nil, fmt.Errorf("work tables: %w", err)
	}
	_, skips := CollectSkips(ctx)
	w := &work{Engine: e, tx: tx, skips: skips, judge: e.newJudge(tx, skips)}
	if err := tx.QueryRow(ctx, takeSnapshot).Scan(&w.snapshot); err != nil {
		return nil, err
	}
	return w, nil
}

// exec runs one statement.
func (w *work) exec(ctx context.Context, sql string, args pgx.NamedArgs) (int64, error) {
	tag, err := w.tx.Exec(ctx, sql, args)
	return tag.RowsAffected(), err
}

// insertConsidered fills considered from touched and op.
const insertConsidered = `
INSERT INTO considered (vuln, identity, sig, before, after)
SELECT v.id, t.identity, concat_ws(chr(31), v.severity, v.normalized_severity, ` + fixedVersion + `),
  bool_or(o.before), bool_or(o.after)
FROM touched t
JOIN public.vuln v ON v.name = t.name AND v.updater = t.updater AND NOT v.not_vulnerable
JOIN public.uo_vuln u ON u.vuln = v.id
JOIN op o ON o.uo = u.uo
GROUP BY v.id, t.identity`

// consider finds the rows of the touched advisories.
func (w *work) consider(ctx context.Context) error {
	if _, err := w.exec(ctx, `ANALYZE op, touched`, nil); err != nil {
		return err
	}
	if _, err := w.exec(ctx, insertConsidered, nil); err != nil {
		return fmt.Errorf("rows of the touched advisories: %w", err)
	}
	_, err := w.exec(ctx, `ANALYZE considered`, nil)
	return err
}

const (
	emptyCandidates  = `TRUNCATE candidate`
	acceptCandidates = `INSERT INTO verdict (vuln, occurrence) SELECT vuln, occurrence FROM candidate WHERE mask & @authoritative <> 0`
	// A cursor takes no arguments.
	openCandidates  = `DECLARE candidates NO SCROLL CURSOR FOR SELECT vuln, occurrence, mask FROM candidate WHERE mask & %d = 0 ORDER BY vuln, occurrence`
	fetchCandidates = `FETCH FORWARD %d FROM candidates`
	closeCandidates = `CLOSE candidates`
)

// judgeAll finds and judges candidates: the considered rows against every
// occurrence, or, the second time, those that have come since the first.
func (w *work) judgeAll(ctx context.Context, sql string) error {
	if _, err := w.exec(ctx, emptyCandidates, nil); err != nil {
		return err
	}
	n, err := w.exec(ctx, sql, pgx.NamedArgs{"snapshot": w.snapshot})
	if err != nil {
		return fmt.Errorf("candidates: %w", err)
	}
	if n == 0 {
		return nil
	}
	auth := w.matchers.authoritative
	accepted, err := w.exec(ctx, acceptCandidates, pgx.NamedArgs{"authoritative": auth})
	if err != nil || accepted == n {
		return err
	}
	if _, err := w.tx.Exec(ctx, fmt.Sprintf(openCandidates, auth), pgx.QueryExecModeExec); err != nil {
		return err
	}
	for {
		rows, err := w.tx.Query(ctx, fmt.Sprintf(fetchCandidates, judgeBatch), pgx.QueryExecModeExec)
		if err != nil {
			return err
		}
		cs, err := pgx.CollectRows(rows, scanCandidate)
		if err != nil {
			return err
		}
		if len(cs) == 0 {
			break
		}
		if err := w.judgeBatch(ctx, cs); err != nil {
			return err
		}
	}
	_, err = w.exec(ctx, closeCandidates, nil)
	return err
}

func (w *work) judgeBatch(ctx context.Context, cs []candidate) error {
	ok, err := w.judge.accept(ctx, cs)
	if err != nil {
		return err
	}
	_, err = w.tx.CopyFrom(ctx, pgx.Identifier{"verdict"}, []string{"vuln", "occurrence"},
		pgx.CopyFromSlice(len(ok), func(i int) ([]any, error) { return []any{ok[i].vuln, ok[i].occurrence}, nil }))
	return err
}
