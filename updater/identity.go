package updater

import (
	"regexp"
	"slices"
	"strings"
	"unique"

	"github.com/quay/claircore"

	"tocsin.dev/tocsin/updater/osv"
)

var (
	// leadingID is an advisory's id at the beginning of a title, such as
	// "CVE-2024-1 on Ubuntu 22.04 LTS (jammy) - medium" or "ELSA-2018-4249: …".
	leadingID = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9]*(?:[-.:_][A-Za-z0-9.]+)+)[:,;]?(?:\s|$)`)
	digit     = regexp.MustCompile(`[0-9]`)
	// otherIDs are ids that mean one vulnerability wherever they stand.
	otherIDs = regexp.MustCompile(`(?i)\b(?:CVE-[0-9]{4}-[0-9]{4,}|GHSA(?:-[0-9a-z]{4}){3})\b`)
	cveIDs   = regexp.MustCompile(`(?i)\bCVE-[0-9]{4}-[0-9]{4,}\b`)
)

// identify gives a vulnerability an id for a name, where a feed has a title, so
// that a title which changes does not look like another vulnerability; and as
// aliases the ids that its title and, of an advisory that names no CVE, its
// links have. One without a severity gets that of its CVSS vector.
func identify(v *claircore.Vulnerability) {
	title := strings.TrimSpace(v.Name)
	v.Name = title
	if m := leadingID.FindStringSubmatch(title); m != nil && digit.MatchString(m[1]) {
		v.Name = m[1]
	}
	if v.Name != title && v.Description == "" {
		v.Description = title
	}
	mine := v.Aliases
	add := func(id string) {
		space, name, _ := strings.Cut(id, "-")
		a := claircore.Alias{Space: unique.Make(strings.ToUpper(space)), Name: name}
		if a.String() != v.Name && !slices.Contains(mine, a) {
			mine = append(slices.Clip(mine), a)
		}
	}
	ids := otherIDs.FindAllString(title, -1)
	for _, id := range ids {
		add(id)
	}
	if !v.Self.Valid() && len(v.Aliases) == 0 && !slices.ContainsFunc(ids, cveIDs.MatchString) {
		for _, id := range cveIDs.FindAllString(v.Links, -1) {
			add(id)
		}
	}
	v.Aliases = mine
	if v.NormalizedSeverity == claircore.Unknown {
		if s, ok := osv.Qualitative(v.Severity); ok {
			v.NormalizedSeverity = s
		}
	}
}
