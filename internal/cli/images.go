package cli

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/listen"
	"tocsin.dev/tocsin/internal/terminal"
	"tocsin.dev/tocsin/schemas"
)

type imagesCmd struct {
	List   imagesListCmd `cmd:"" default:"withargs" help:"List images (the default)."`
	Show   imagesShowCmd `cmd:"" help:"Show one image."`
	Forget imagesDropCmd `cmd:"" help:"Forget images: no more events for them."`
}

type imagesListCmd struct {
	Pattern string `arg:"" optional:"" help:"Only names like this; * stands for anything."`
	State   string `help:"Only images in this state." enum:",pending,indexed,failed,deleted" default:""`
	Limit   int    `short:"n" help:"At most so many; 0 for all." default:"100"`
}

func (imagesListCmd) Help() string {
	return "Examples:\n  tocsin images\n  tocsin images 'registry.example.com/team/*'\n  tocsin images --state failed"
}

func (c *imagesListCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	q := url.Values{}
	setIf(q, "name", c.Pattern)
	setIf(q, "state", c.State)
	images, err := list[v1.Image](cl, "/images", q, c.Limit)
	if err != nil {
		return err
	}
	return e.print(images, func() error { return e.images(images) })
}

func (e *env) images(images []v1.Image) error {
	t := terminal.NewTable("IMAGE", "DIGEST", "STATE", "PACKAGES", "VULNERABILITIES", "INDEXED", "REASON")
	for _, i := range images {
		name, found, packages := strings.Join(i.Names, " "), "", ""
		if i.Vulnerabilities != nil {
			found = counts(*i.Vulnerabilities)
		}
		if i.State == "indexed" {
			packages = fmt.Sprint(i.Packages)
		}
		if name == "" {
			name = "-"
		}
		t.Row(name, terminal.Digest(i.Digest), e.state(i.State), packages, found, e.ago(i.IndexedAt), terminal.Clip(i.Reason, 80))
	}
	return e.table(t, "No images. `tocsin index REF` adds one.")
}

type imagesShowCmd struct {
	Image string `arg:"" help:"Name or digest."`
}

func (c *imagesShowCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	var i v1.Image
	if err := cl.call(http.MethodGet, "/images/"+seg(c.Image), nil, nil, &i); err != nil {
		return err
	}
	return e.print(i, func() error { return e.images([]v1.Image{i}) })
}

type imagesDropCmd struct {
	Images []string `arg:"" name:"image" help:"Names or digests."`
}

func (c *imagesDropCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	for _, i := range c.Images {
		if err := cl.call(http.MethodDelete, "/images/"+seg(i), nil, nil, nil); err != nil {
			return fmt.Errorf("%s: %w", i, err)
		}
		e.notef("forgot %s", i)
	}
	return nil
}

type reportCmd struct {
	Image    string `arg:"" help:"Name or digest of an indexed image."`
	Severity string `help:"Only findings at least this severe." placeholder:"SEVERITY"`
	Fixable  bool   `help:"Only findings that name a fixed version."`
	FailOn   string `help:"Exit with code 3 if there is a finding at least this severe (among those shown)." placeholder:"SEVERITY"`
}

func (reportCmd) Help() string {
	return `Examples:
  tocsin report registry.example.com/team/app:1.4
  tocsin report sha256:… --severity high --fixable
  tocsin report team/app:1.4 --fail-on critical          # in a pipeline
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
	var r v1.Report
	if err := cl.call(http.MethodGet, "/images/"+seg(c.Image)+"/report", nil, nil, &r); err != nil {
		if notFound(err) {
			return &hinted{error: err, hint: "`tocsin images` lists what is indexed; `tocsin index REF --wait` indexes."}
		}
		return err
	}
	r.Vulnerabilities = slices.DeleteFunc(r.Vulnerabilities, func(f schemas.Finding) bool {
		return schemas.SeverityRank(f.NormalizedSeverity) < least || c.Fixable && f.FixedInVersion == ""
	})
	if err := e.print(r, func() error { return e.findings(r) }); err != nil {
		return err
	}
	n := 0
	for _, f := range r.Vulnerabilities {
		if schemas.SeverityRank(f.NormalizedSeverity) >= failRank {
			n++
		}
	}
	if n > 0 {
		return &found{fmt.Sprintf("%s of severity %s or higher", terminal.Count(n, "finding"), strings.ToLower(c.FailOn))}
	}
	return nil
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
	name := strings.Join(r.Manifest.Names, " ")
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
	if t.Len() == 0 {
		return e.printf("%s\n", e.style.Good("Nothing is known against it."))
	}
	return t.Write(e.out, e.style)
}

type affectedCmd struct {
	ID    string `arg:"" name:"vulnerability" help:"Id or alias: CVE-…, GHSA-…, GO-…"`
	Limit int    `short:"n" help:"At most so many images; 0 for all." default:"0"`
}

func (affectedCmd) Help() string {
	return "Examples:\n  tocsin affected CVE-2023-44487\n  tocsin affected GHSA-qppj-fm5r-hxr3 -o json"
}

func (c *affectedCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	items, err := list[v1.AffectedImage](cl, "/vulnerabilities/"+seg(c.ID)+"/manifests", nil, c.Limit)
	if err != nil {
		return err
	}
	return e.print(items, func() error {
		t := terminal.NewTable("IMAGE", "DIGEST", "SEVERITY", "ID", "PACKAGE", "VERSION", "FIXED IN")
		for _, i := range items {
			for _, f := range i.Findings {
				t.Row(strings.Join(i.Manifest.Names, " "), terminal.Digest(i.Manifest.Digest), e.severity(f.NormalizedSeverity), f.ID, f.Package.Name, f.Package.Version, f.FixedInVersion)
			}
		}
		return e.table(t, "No image has "+c.ID+".")
	})
}

type diffCmd struct {
	Prev string `arg:"" help:"Ref of the earlier update operation."`
	Cur  string `arg:"" help:"Ref of the later one, of the same updater."`
}

func (diffCmd) Help() string {
	return "`tocsin updaters status` and update.completed events name the refs.\n\nExample:\n  tocsin diff 4c3f…-before 9a01…-after"
}

func (c *diffCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	items, err := list[v1.ImageDiff](cl, "/diff", url.Values{"prev": {c.Prev}, "cur": {c.Cur}}, 0)
	if err != nil {
		return err
	}
	return e.print(items, func() error {
		p := listen.Printer{W: e.out, Style: e.style}
		for _, i := range items {
			if err := e.printf("%s  %s\n", e.style.Bold(terminal.Clean(strings.Join(i.Manifest.Names, " "))), terminal.Digest(i.Manifest.Digest)); err != nil {
				return err
			}
			if err := p.Changes(i.Added, i.Removed, i.Revised); err != nil {
				return err
			}
		}
		if len(items) == 0 {
			e.notef("No image's findings differ between the two.")
		}
		return nil
	})
}

func setIf(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}
