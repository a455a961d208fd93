package cli

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/terminal"
	"tocsin.dev/tocsin/schemas"
)

type reportCmd struct {
	Image    string `arg:"" help:"Name or digest of an indexed image; a name that has one tag alone needs none."`
	Platform string `help:"Only this platform of an image that has several, as in linux/arm64." placeholder:"OS/ARCH"`
	Severity string `help:"Only findings at least this severe." placeholder:"SEVERITY"`
	Fixable  bool   `help:"Only findings that name a fixed version."`
	FailOn   string `help:"Exit with code 3 if there is a finding at least this severe (among those shown)." placeholder:"SEVERITY"`
	// AllowUnknown lets --fail-on pass where nothing could be known.
	AllowUnknown bool `help:"Let --fail-on pass although no feed has advisories for some packages. Without it, they count as found."`
}

func (reportCmd) Help() string {
	return `Examples:
  tocsin report registry.example.com/team/app:1.4
  tocsin report sha256:… --severity high --fixable
  tocsin report team/app:1.4 --fail-on critical          # in a pipeline; of several platforms the worst decides
  tocsin report team/app:1.4 --platform linux/arm64
  tocsin report team/app:1.4 --fail-on critical --allow-unknown
  tocsin report team/app:1.4 -o json | jq .counts`
}

func (c *reportCmd) Run(e *env) error {
	least, err := rankOf(c.Severity, 0)
	if err != nil {
		return err
	}
	failRank, err := rankOf(c.FailOn, len(schemas.SeverityNames))
	if err != nil {
		return err
	}
	cl, err := e.client()
	if err != nil {
		return err
	}
	images, err := cl.meaning(c.Image, c.Platform)
	if err != nil {
		if notFound(err) {
			return &hinted{error: err, hint: "`tocsin images` lists what is indexed; `tocsin index REF --wait` indexes."}
		}
		return err
	}
	n, notKnown := 0, ""
	for _, i := range images {
		over, r, err := c.one(e, cl, i, least, failRank)
		if err != nil {
			return err
		}
		n += over
		if notKnown == "" && r.Coverage.State != schemas.CoverageFull {
			notKnown = unknown(r.Coverage)
		}
	}
	if n > 0 {
		return &found{fmt.Sprintf("%s of severity %s or higher", terminal.Count(n, "finding"), strings.ToLower(c.FailOn))}
	}
	if c.FailOn != "" && !c.AllowUnknown && notKnown != "" {
		return &found{notKnown + "; --allow-unknown lets that pass"}
	}
	return nil
}

// one prints the report of one image, and counts the findings it fails on.
func (c *reportCmd) one(e *env, cl *client, i v1.Image, least, failRank int) (int, v1.Report, error) {
	var r v1.Report
	if err := cl.call(http.MethodGet, "/images/"+seg(i.Digest)+"/report", nil, nil, &r); err != nil {
		return 0, r, err
	}
	r.Vulnerabilities = slices.DeleteFunc(r.Vulnerabilities, func(f schemas.Finding) bool {
		return schemas.SeverityRank(f.NormalizedSeverity) < least || c.Fixable && f.FixedInVersion == ""
	})
	if err := e.print(r, func() error { return e.findings(r) }); err != nil {
		return 0, r, err
	}
	n := 0
	for _, f := range r.Vulnerabilities {
		if schemas.SeverityRank(f.NormalizedSeverity) >= failRank {
			n++
		}
	}
	return n, r, nil
}

// unknown says what nothing could be known of.
func unknown(c schemas.Coverage) string {
	if n := c.Uncovered(); n > 0 {
		return "nothing can be known of " + terminal.Count(n, "package")
	}
	if c.State == schemas.CoverageNone {
		return "nothing can be known: no package was found"
	}
	return "parts of the image could not be read (see the warnings)"
}

// rankOf is the rank of a severity, or what is meant by none.
func rankOf(severity string, none int) (int, error) {
	if severity == "" {
		return none, nil
	}
	name, err := severityName(severity)
	return schemas.SeverityRank(name), err
}

func (e *env) findings(r v1.Report) error {
	name := strings.TrimSpace(strings.Join(r.Manifest.Names, " ") + " " + r.Manifest.Labels["platform"])
	if r.Manifest.Superseded {
		name += " (superseded)"
	}
	if err := e.printf("%s  %s\n%s, vulnerabilities: %s; %d fixable\n\n", e.style.Bold(terminal.Clean(name)), terminal.Clean(r.Manifest.Digest),
		terminal.Count(r.Packages, "package"), counts(r.Counts), r.Fixable); err != nil {
		return err
	}
	for _, w := range r.Warnings {
		e.notef("%s %s", e.notice.Warn("warning:"), terminal.Clean(w))
	}
	t := terminal.NewTable("SEVERITY", "ID", "PACKAGE", "VERSION", "FIXED IN", "KEV", "EPSS", "ALIASES")
	for _, f := range r.Vulnerabilities {
		kev, epss := "", ""
		if f.KEV {
			kev = "yes"
		}
		if f.EPSS != nil {
			epss = fmt.Sprintf("%.0f%%", f.EPSS.Score*100)
		}
		t.Row(e.severity(f.NormalizedSeverity), f.ID, f.Package.Name, f.Package.Version, f.FixedInVersion, kev, epss, terminal.Clip(strings.Join(f.Aliases, " "), 40))
	}
	if t.Len() > 0 {
		if err := t.Write(e.out, e.style); err != nil {
			return err
		}
	}
	switch {
	case r.Coverage.State != schemas.CoverageFull:
		return e.uncovered(r.Coverage, t.Len())
	case r.Packages == 0:
		return e.printf("No package was found in it.\n")
	case t.Len() == 0:
		return e.printf("%s\n", e.style.Good("Nothing is known against it."))
	}
	return nil
}

// uncovered says for which packages the report means nothing, and why.
func (e *env) uncovered(c schemas.Coverage, findings int) error {
	text := unknown(c)
	if findings == 0 && c.State == schemas.CoveragePartial {
		text = "nothing is known against the rest; " + text
	}
	if err := e.printf("%s\n", e.style.Warn(strings.ToUpper(text[:1])+text[1:]+".")); err != nil {
		return err
	}
	for _, s := range c.Ecosystems {
		if s.Reason == "" {
			continue
		}
		if err := e.printf("  %s (%s): %s\n", terminal.Clean(s.Name), terminal.Count(s.Packages-s.Covered, "package"), terminal.Clean(s.Reason)); err != nil {
			return err
		}
	}
	return nil
}
