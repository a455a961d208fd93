package matcher

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"unique"

	"github.com/jackc/pgx/v5"
	"github.com/quay/claircore"
)

// candidate is one pair that the matchers in mask may find vulnerable.
type candidate struct {
	vuln       int64
	occurrence int32
	mask       int64
}

// Bounds of what a judge remembers between batches.
const (
	maxVulnsHeld       = 4_000
	maxOccurrencesHeld = 20_000
)

// judge asks matchers for verdicts, fetching what they look at once.
type judge struct {
	tx       pgx.Tx
	matchers *matcherSet
	vulns    map[int64]*claircore.Vulnerability
	records  map[int32][]judged
	skips    *Skips
}

// judged is a record with the mask of the matchers interested in it.
type judged struct {
	*claircore.IndexRecord
	interested int64
}

func (e *Engine) newJudge(tx pgx.Tx, skips *Skips) *judge {
	return &judge{
		tx: tx, matchers: e.matchers, skips: skips,
		vulns: make(map[int64]*claircore.Vulnerability), records: make(map[int32][]judged),
	}
}

// accept returns those of the candidates that are vulnerable, in place.
func (j *judge) accept(ctx context.Context, cs []candidate) ([]candidate, error) {
	if err := j.load(ctx, cs); err != nil {
		return nil, err
	}
	out := cs[:0]
	for _, c := range cs {
		ok, err := j.vulnerable(ctx, c)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, c)
		}
	}
	return out, nil
}

// vulnerable is what claircore's controller does for one package: a
// vulnerability that the query of any interested record finds is held against
// each of them.
func (j *judge) vulnerable(ctx context.Context, c candidate) (bool, error) {
	if c.mask&j.matchers.authoritative != 0 {
		return true, nil
	}
	v, records := j.vulns[c.vuln], j.records[c.occurrence]
	if v == nil || records == nil {
		return false, fmt.Errorf("vulnerability %d or occurrence %d has gone while it was judged", c.vuln, c.occurrence)
	}
	for i, m := range j.matchers.all {
		bit := j.matchers.masks[i]
		if c.mask&bit == 0 {
			continue
		}
		for _, r := range records {
			if r.interested&bit == 0 {
				continue
			}
			ok, err := m.Vulnerable(ctx, r.IndexRecord, v)
			if err != nil {
				if ctx.Err() != nil {
					return false, ctx.Err()
				}
				j.skips.add(Skip{m.Name(), v.Name, r.Package.Name, r.Package.Version, err.Error()})
				continue
			}
			if ok {
				return true, nil
			}
		}
	}
	return false, nil
}

// load fetches the vulnerabilities and occurrences that aren't held yet.
func (j *judge) load(ctx context.Context, cs []candidate) error {
	if len(j.vulns) > maxVulnsHeld {
		clear(j.vulns)
	}
	if len(j.records) > maxOccurrencesHeld {
		clear(j.records)
	}
	var vulns []int64
	var occurrences []int32
	for _, c := range cs {
		if c.mask&j.matchers.authoritative != 0 {
			continue
		}
		if _, ok := j.vulns[c.vuln]; !ok {
			j.vulns[c.vuln] = nil
			vulns = append(vulns, c.vuln)
		}
		if _, ok := j.records[c.occurrence]; !ok {
			j.records[c.occurrence] = nil
			occurrences = append(occurrences, c.occurrence)
		}
	}
	if len(vulns) > 0 {
		if err := j.loadVulns(ctx, vulns); err != nil {
			return fmt.Errorf("load vulnerabilities: %w", err)
		}
	}
	if len(occurrences) > 0 {
		if err := j.loadOccurrences(ctx, occurrences); err != nil {
			return fmt.Errorf("load occurrences: %w", err)
		}
	}
	return nil
}

// selectVulns reads what claircore's store gives a matcher of a vulnerability.
const selectVulns = `
SELECT v.id, v.name, v.description, v.issued, v.links, v.severity, v.normalized_severity,
  v.package_name, v.package_version, v.package_module, v.package_arch, v.package_kind,
  v.dist_id, v.dist_name, v.dist_version, v.dist_version_code_name, v.dist_version_id, v.dist_arch, v.dist_cpe, v.dist_pretty_name,
  v.arch_operation, v.repo_name, v.repo_key, v.repo_uri, v.fixed_in_version, v.updater, v.not_vulnerable,
  ARRAY(SELECT ARRAY[n.namespace, a.name] FROM public.vulnerability_alias va JOIN public.alias a ON a.id = va.alias
        JOIN public.alias_namespace n ON n.id = a.namespace WHERE va.vulnerability = v.id ORDER BY 1),
  ARRAY(SELECT ARRAY[n.namespace, a.name] FROM public.vulnerability_self vs JOIN public.alias a ON a.id = vs.self
        JOIN public.alias_namespace n ON n.id = a.namespace WHERE vs.vulnerability = v.id)
FROM public.vuln v WHERE v.id = ANY(@ids)`

func (j *judge) loadVulns(ctx context.Context, ids []int64) error {
	rows, err := j.tx.Query(ctx, selectVulns, pgx.NamedArgs{"ids": ids})
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		v := &claircore.Vulnerability{
			Package: &claircore.Package{}, Dist: &claircore.Distribution{}, Repo: &claircore.Repository{},
		}
		var id int64
		var aliases, self [][]string
		err := rows.Scan(&id, &v.Name, &v.Description, &v.Issued, &v.Links, &v.Severity, &v.NormalizedSeverity,
			&v.Package.Name, &v.Package.Version, &v.Package.Module, &v.Package.Arch, &v.Package.Kind,
			&v.Dist.DID, &v.Dist.Name, &v.Dist.Version, &v.Dist.VersionCodeName, &v.Dist.VersionID, &v.Dist.Arch, &v.Dist.CPE, &v.Dist.PrettyName,
			&v.ArchOperation, &v.Repo.Name, &v.Repo.Key, &v.Repo.URI, &v.FixedInVersion, &v.Updater, &v.Invert, &aliases, &self)
		if err != nil {
			return err
		}
		v.ID = strconv.FormatInt(id, 10)
		for _, a := range aliases {
			v.Aliases = append(v.Aliases, claircore.Alias{Space: unique.Make(a[0]), Name: a[1]})
		}
		if len(self) > 0 {
			v.Self = claircore.Alias{Space: unique.Make(self[0][0]), Name: self[0][1]}
		}
		j.vulns[id] = v
	}
	return rows.Err()
}

const selectOccurrences = `SELECT id, body FROM tocsin.occurrence WHERE id = ANY(@ids)`

func (j *judge) loadOccurrences(ctx context.Context, ids []int32) error {
	rows, err := j.tx.Query(ctx, selectOccurrences, pgx.NamedArgs{"ids": ids})
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id int32
		var body []byte
		if err := rows.Scan(&id, &body); err != nil {
			return err
		}
		var o occurrence
		if err := json.Unmarshal(body, &o); err != nil {
			return fmt.Errorf("occurrence %d: %w", id, err)
		}
		records, err := o.indexRecords(strconv.Itoa(int(id)))
		if err != nil {
			return fmt.Errorf("occurrence %d: %w", id, err)
		}
		js := make([]judged, len(records))
		for i, r := range records {
			js[i] = judged{r, j.matchers.interested(r)}
		}
		j.records[id] = js
	}
	return rows.Err()
}
