package oracle

import (
	"fmt"

	"tocsin.dev/tocsin/matcher"
	"tocsin.dev/tocsin/schemas"
)

// inconsistent says what is wrong with an event in itself: its counts and rank
// against its lists, and what its revised findings say has changed against what
// they were.
func inconsistent(data *schemas.VulnerabilitiesChanged, row affected, was Findings) string {
	var by schemas.BySeverity
	top := 0
	note := func(f *schemas.Finding) {
		rank := schemas.SeverityRank(f.NormalizedSeverity)
		by.Add(rank, 1)
		top = max(top, rank)
	}
	for i := range data.Added {
		note(&data.Added[i])
	}
	for i := range data.Revised {
		note(&data.Revised[i].Finding)
	}
	if len(data.Added)+len(data.Revised) == 0 {
		for i := range data.Removed {
			top = max(top, schemas.SeverityRank(data.Removed[i].NormalizedSeverity))
		}
	}
	if data.Counts.BySeverity != by {
		return fmt.Sprintf("event counts %+v, its lists %+v", data.Counts.BySeverity, by)
	}
	if int(row.SeverityRank) != top {
		return fmt.Sprintf("event ranks %d, the worst in its lists %d", row.SeverityRank, top)
	}
	for i := range data.Revised {
		r := &data.Revised[i]
		if text := wrongChanges(r, was[identifyEvent(&r.Finding)]); text != "" {
			return fmt.Sprintf("revised %s: %s", r.ID, text)
		}
	}
	return ""
}

// likely tells whether an EPSS score that a change has is over the threshold.
func likely(score any) bool {
	s, ok := score.(float64)
	return ok && s >= matcher.DefaultEPSSThreshold
}

// wrongChanges checks what a revised finding says has changed: something has,
// to what the finding says now, from what one verdict said before.
func wrongChanges(r *schemas.RevisedFinding, was map[Verdict]bool) string {
	if len(r.Changes) == 0 {
		return "nothing has changed about it"
	}
	now := verdictOf(&r.Finding)
	then := now
	for _, c := range r.Changes {
		switch c.Field {
		case "kev":
			was, isBool := c.From.(bool)
			if now, _ := c.To.(bool); !isBool || was == now || now != r.KEV {
				return fmt.Sprintf("kev changed from %v to %v", c.From, c.To)
			}
			then.KEV = was
			continue
		case "epss":
			then.Likely = likely(c.From)
			if c.From == c.To || likely(c.To) != now.Likely {
				return fmt.Sprintf("epss changed from %v to %v", c.From, c.To)
			}
			continue
		}
		from, isText := c.From.(string)
		to, alsoText := c.To.(string)
		if !isText || !alsoText || from == to {
			return fmt.Sprintf("%s changed from %v to %v", c.Field, c.From, c.To)
		}
		var field, is *string
		switch c.Field {
		case "severity":
			field, is = &then.Severity, &now.Severity
		case "normalized_severity":
			field, is = &then.Normalized, &now.Normalized
		case "fixed_in_version":
			field, is = &then.FixedIn, &now.FixedIn
		default:
			return fmt.Sprintf("%s has changed, and nothing of that kind was written", c.Field)
		}
		if to != *is {
			return fmt.Sprintf("%s changed to %q, but is %q", c.Field, to, *is)
		}
		*field = from
	}
	if len(was) > 0 && !was[then] {
		return fmt.Sprintf("it was %+v, which libvuln never said", then)
	}
	return ""
}
