package matcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/quay/claircore"

	"tocsin.dev/tocsin/internal/problem"
	"tocsin.dev/tocsin/internal/text"
)

const (
	// givenBatch is how many vulnerabilities one round of queries looks at.
	givenBatch = 500
	// MaxGivenPairs bounds the (vulnerability, manifest) pairs of an answer.
	MaxGivenPairs = 2_000_000
)

// ErrTooManyPairs is returned for vulnerabilities that affect more than
// [MaxGivenPairs] manifests, counted once for each vulnerability.
var ErrTooManyPairs = problem.New(problem.TooLarge, "more than %d pairs of a vulnerability and a manifest; ask for fewer vulnerabilities at a time", MaxGivenPairs)

// fromGiven is the vulnerabilities of the caller in place of public.vuln, for
// candidatesSQL. Their id is their position.
const fromGiven = `(
      SELECT g.*, VersionRange(g.lower, g.upper) AS vulnerable_range FROM jsonb_to_recordset(@given::jsonb) AS g (
        id bigint, package_name text, package_version text, package_kind text, package_module text, fixed_in_version text,
        dist_id text, dist_name text, dist_version text, dist_version_id text, dist_version_code_name text, dist_pretty_name text, dist_arch text,
        repo_name text, repo_key text, version_kind text, lower integer[], upper integer[])
    ) v`

// selectGivenHolders lists the manifests that hold one of the occurrences now,
// by vulnerability.
const selectGivenHolders = `
SELECT DISTINCT p.vuln, m.digest
FROM unnest(@vulns::bigint[], @occurrences::integer[]) AS p (vuln, occurrence)
JOIN tocsin.inventory i ON i.current AND i.occurrences @> ARRAY[p.occurrence]
JOIN tocsin.manifest m ON m.id = i.manifest_id AND m.state <> 'deleted'
LIMIT @limit`

// given is a vulnerability as fromGiven reads it.
type given struct {
	ID         int     `json:"id"`
	Package    string  `json:"package_name"`
	PkgVersion string  `json:"package_version"`
	Kind       string  `json:"package_kind"`
	Module     string  `json:"package_module"`
	Fixed      string  `json:"fixed_in_version"`
	DistID     string  `json:"dist_id"`
	DistName   string  `json:"dist_name"`
	Dist       string  `json:"dist_version"`
	DistVID    string  `json:"dist_version_id"`
	DistCode   string  `json:"dist_version_code_name"`
	DistPretty string  `json:"dist_pretty_name"`
	DistArch   string  `json:"dist_arch"`
	RepoName   string  `json:"repo_name"`
	RepoKey    string  `json:"repo_key"`
	Version    string  `json:"version_kind"`
	Lower      []int32 `json:"lower"`
	Upper      []int32 `json:"upper"`
}

// AffectedBy returns, for each vulnerability by its position, the digests of the
// manifests that it affects now. It judges the vulnerabilities as they are
// given, whether or not a feed still has them or ever had, with the matchers
// that reports are made with. Package, Dist and Repo must not be nil. Errors:
// [ErrTooManyPairs].
func (e *Engine) AffectedBy(ctx context.Context, vulns []claircore.Vulnerability) ([][]string, error) {
	if err := e.prepare(ctx); err != nil {
		return nil, err
	}
	out := make([][]string, len(vulns))
	room := MaxGivenPairs
	err := pgx.BeginTxFunc(ctx, e.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		_, skips := CollectSkips(ctx)
		j := e.newJudge(tx, skips)
		for start := 0; start < len(vulns); start += givenBatch {
			n, err := e.affectedBy(ctx, j, vulns[start:min(start+givenBatch, len(vulns))], out[start:], room)
			if err != nil {
				return err
			}
			room -= n
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("manifests with the given vulnerabilities: %w", err)
	}
	return out, nil
}

// affectedBy does it for a batch, and returns how many pairs it found.
func (e *Engine) affectedBy(ctx context.Context, j *judge, vulns []claircore.Vulnerability, out [][]string, room int) (int, error) {
	rows := make([]given, 0, len(vulns))
	clear(j.vulns)
	for i := range vulns {
		if v := &vulns[i]; v.Package.Name != "" && !v.Invert {
			j.vulns[int64(i)] = v
			rows = append(rows, givenRow(i, v))
		}
	}
	if len(rows) == 0 {
		return 0, nil
	}
	body, err := json.Marshal(rows)
	if err != nil {
		return 0, err
	}
	found, err := j.tx.Query(ctx, j.matchers.candidatesSQL(fromGiven, ""), pgx.NamedArgs{"given": string(body)})
	if err != nil {
		return 0, fmt.Errorf("candidates: %w", err)
	}
	candidates, err := pgx.CollectRows(found, scanCandidate)
	if err != nil {
		return 0, fmt.Errorf("candidates: %w", err)
	}
	var ids []int64
	var occurrences []int32
	for part := range slices.Chunk(candidates, judgeBatch) {
		accepted, err := j.accept(ctx, part)
		if err != nil {
			return 0, err
		}
		for _, c := range accepted {
			ids, occurrences = append(ids, c.vuln), append(occurrences, c.occurrence)
		}
	}
	if len(ids) == 0 {
		return 0, nil
	}
	holders, err := j.tx.Query(ctx, selectGivenHolders, pgx.NamedArgs{"vulns": ids, "occurrences": occurrences, "limit": room + 1})
	if err != nil {
		return 0, fmt.Errorf("holders: %w", err)
	}
	n := 0
	var vuln int64
	var digest string
	_, err = pgx.ForEachRow(holders, []any{&vuln, &digest}, func() error {
		if n++; n > room {
			return ErrTooManyPairs
		}
		out[vuln] = append(out[vuln], digest)
		return nil
	})
	if err != nil && !errors.Is(err, ErrTooManyPairs) {
		err = fmt.Errorf("holders: %w", err)
	}
	return n, err
}

func givenRow(id int, v *claircore.Vulnerability) given {
	d, r := v.Dist, v.Repo
	g := given{
		ID: id, Package: text.Clean(v.Package.Name), PkgVersion: text.Clean(v.Package.Version), Kind: kindText(v.Package), Module: text.Clean(v.Package.Module), Fixed: text.Clean(v.FixedInVersion),
		DistID: text.Clean(d.DID), DistName: text.Clean(d.Name), Dist: text.Clean(d.Version), DistVID: text.Clean(d.VersionID),
		DistCode: text.Clean(d.VersionCodeName), DistPretty: text.Clean(d.PrettyName), DistArch: text.Clean(d.Arch), RepoName: text.Clean(r.Name), RepoKey: text.Clean(r.Key),
		Lower: []int32{}, Upper: []int32{},
	}
	// An empty range holds no version, and neither does one of two kinds.
	if x := v.Range; x != nil && x.Lower.Kind == x.Upper.Kind && slices.Compare(x.Lower.V[:], x.Upper.V[:]) <= 0 {
		g.Version, g.Lower, g.Upper = text.Clean(x.Lower.Kind), x.Lower.V[:], x.Upper.V[:]
	}
	return g
}
