package osv

import (
	"encoding/json"
	"strings"

	"github.com/quay/claircore"
	"github.com/quay/claircore/toolkit/types/cvss"
)

// rate gives a row its severity: of the vectors the last that parses, as in
// claircore, else the publisher's word.
func rate(v *claircore.Vulnerability, severities []severity, database json.RawMessage) {
	for _, s := range severities {
		if q, ok := Qualitative(s.Score); ok && strings.HasPrefix(s.Type, "CVSS_") {
			v.Severity, v.NormalizedSeverity = s.Score, q
		}
	}
	if v.Severity != "" {
		return
	}
	v.Severity = databaseSeverity(database)
	switch strings.ToLower(v.Severity) {
	case "negligible":
		v.NormalizedSeverity = claircore.Negligible
	case "low":
		v.NormalizedSeverity = claircore.Low
	case "moderate", "medium":
		v.NormalizedSeverity = claircore.Medium
	case "high":
		v.NormalizedSeverity = claircore.High
	case "critical":
		v.NormalizedSeverity = claircore.Critical
	}
}

// Qualitative is the severity that a CVSS vector of any version amounts to;
// false for a text that is no vector.
func Qualitative(vector string) (claircore.Severity, bool) {
	var q cvss.Qualitative
	switch {
	case strings.HasPrefix(vector, "CVSS:4"):
		v, err := cvss.ParseV4(vector)
		if err != nil {
			return claircore.Unknown, false
		}
		q = cvss.QualitativeScore(&v)
	case strings.HasPrefix(vector, "CVSS:3"):
		v, err := cvss.ParseV3(vector)
		if err != nil {
			return claircore.Unknown, false
		}
		q = cvss.QualitativeScore(&v)
	case strings.HasPrefix(vector, "AV:"):
		v, err := cvss.ParseV2(vector)
		if err != nil {
			return claircore.Unknown, false
		}
		q = cvss.QualitativeScore(&v)
	default:
		return claircore.Unknown, false
	}
	switch q {
	case cvss.None:
		return claircore.Negligible, true
	case cvss.Low:
		return claircore.Low, true
	case cvss.Medium:
		return claircore.Medium, true
	case cvss.High:
		return claircore.High, true
	case cvss.Critical:
		return claircore.Critical, true
	}
	return claircore.Unknown, false
}
