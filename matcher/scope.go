package matcher

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/quay/claircore/libvuln/driver"
)

// environment is what a matcher looks at beside the package: its distribution
// and repository, as both advisories and packages have them.
type environment struct {
	DistID, DistName, DistVersion, DistVersionID, DistVersionCodeName, DistPrettyName, DistArch string
	RepoName, RepoKey                                                                           string
}

// meets reports whether an advisory's environment is, in a matcher's eyes, the
// one of a package. Constraints on the package itself do not count.
func (r environment) meets(v environment, m driver.Matcher) bool {
	for _, c := range m.Query() {
		ok := true
		switch c {
		case driver.DistributionDID:
			ok = v.DistID == r.DistID
		case driver.DistributionName:
			ok = v.DistName == r.DistName
		case driver.DistributionVersion:
			ok = v.DistVersion == r.DistVersion
		case driver.DistributionVersionID:
			ok = v.DistVersionID == r.DistVersionID
		case driver.DistributionVersionCodeName:
			ok = v.DistVersionCodeName == r.DistVersionCodeName
		case driver.DistributionPrettyName:
			ok = v.DistPrettyName == r.DistPrettyName
		case driver.RepositoryName:
			ok = v.RepoName == r.RepoName
		case driver.RepositoryKey:
			ok = v.RepoKey == r.RepoKey
		}
		if !ok {
			return false
		}
	}
	return true
}

const (
	// newFeeds are the feeds whose scope is of an older operation than their
	// newest.
	newFeeds = `
SELECT o.updater, o.id, o.date
FROM (SELECT DISTINCT ON (updater) updater, id, date, kind FROM public.update_operation ORDER BY updater, id DESC) o
LEFT JOIN tocsin.feed f ON f.updater = o.updater
WHERE o.kind = 'vulnerability' AND f.op_id IS DISTINCT FROM o.id
ORDER BY o.updater`

	claimFeed = `
INSERT INTO tocsin.feed (updater, op_id, date) VALUES (@updater, @op, @date)
ON CONFLICT (updater) DO UPDATE SET op_id = excluded.op_id, date = excluded.date WHERE feed.op_id < excluded.op_id`

	forgetScope = `DELETE FROM tocsin.feed_scope WHERE updater = @updater`

	insertScope = `
INSERT INTO tocsin.feed_scope (updater, dist_id, dist_name, dist_version, dist_version_id, dist_version_code_name,
  dist_pretty_name, dist_arch, repo_name, repo_key)
SELECT DISTINCT @updater, coalesce(v.dist_id, ''), coalesce(v.dist_name, ''), coalesce(v.dist_version, ''),
  coalesce(v.dist_version_id, ''), coalesce(v.dist_version_code_name, ''), coalesce(v.dist_pretty_name, ''),
  coalesce(v.dist_arch, ''), coalesce(v.repo_name, ''), coalesce(v.repo_key, '')
FROM public.uo_vuln u JOIN public.vuln v ON v.id = u.vuln
WHERE u.uo = @op`
)

// refreshScopes notes what feeds speak of that have new operations. Each costs
// one pass over the operation's rows.
func (e *Engine) refreshScopes(ctx context.Context) error {
	rows, err := e.pool.Query(ctx, newFeeds)
	if err != nil {
		return fmt.Errorf("what feeds speak of: %w", err)
	}
	type newFeed struct {
		Updater string
		Op      int64
		Date    time.Time
	}
	feeds, err := pgx.CollectRows(rows, pgx.RowToStructByPos[newFeed])
	if err != nil {
		return fmt.Errorf("what feeds speak of: %w", err)
	}
	for _, f := range feeds {
		err := pgx.BeginFunc(ctx, e.pool, func(tx pgx.Tx) error {
			args := pgx.NamedArgs{"updater": f.Updater, "op": f.Op, "date": f.Date}
			claimed, err := tx.Exec(ctx, claimFeed, args)
			if err != nil || claimed.RowsAffected() == 0 {
				return err // another process has done it
			}
			if _, err := tx.Exec(ctx, forgetScope, args); err != nil {
				return err
			}
			_, err = tx.Exec(ctx, insertScope, args)
			return err
		})
		if err != nil {
			return fmt.Errorf("what %s speaks of: %w", f.Updater, err)
		}
	}
	return nil
}

// scope is one environment that a feed has advisories for.
type scope struct {
	updater string
	date    time.Time
	environment
}

const selectScopes = `
SELECT s.updater, f.date, s.dist_id, s.dist_name, s.dist_version, s.dist_version_id, s.dist_version_code_name,
  s.dist_pretty_name, s.dist_arch, s.repo_name, s.repo_key
FROM tocsin.feed_scope s JOIN tocsin.feed f USING (updater)
WHERE s.dist_id = ANY(@dists::text[]) OR s.dist_name = ANY(@names::text[]) OR s.repo_name = ANY(@repos::text[]) OR s.repo_key = ANY(@keys::text[])`

// scopesOf are those that may meet one of the environments, as db sees them.
func scopesOf(ctx context.Context, db querier, found []environment) ([]scope, error) {
	columns := map[string][]string{}
	for _, r := range found {
		for name, value := range map[string]string{"dists": r.DistID, "names": r.DistName, "repos": r.RepoName, "keys": r.RepoKey} {
			if value != "" && !slices.Contains(columns[name], value) {
				columns[name] = append(columns[name], value)
			}
		}
	}
	rows, err := db.Query(ctx, selectScopes, pgx.NamedArgs{
		"dists": columns["dists"], "names": columns["names"], "repos": columns["repos"], "keys": columns["keys"],
	})
	if err != nil {
		return nil, fmt.Errorf("what feeds speak of: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s scope, err error) {
		err = row.Scan(&s.updater, &s.date, &s.DistID, &s.DistName, &s.DistVersion, &s.DistVersionID, &s.DistVersionCodeName,
			&s.DistPrettyName, &s.DistArch, &s.RepoName, &s.RepoKey)
		return s, err
	})
}
