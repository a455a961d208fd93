package cli

import (
	"net/url"
	"strings"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/listen"
	"tocsin.dev/tocsin/internal/terminal"
)

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
			name := strings.Join(i.Manifest.Names, " ")
			if i.Manifest.Superseded {
				name += " (superseded)"
			}
			for _, f := range i.Findings {
				t.Row(name, terminal.Digest(i.Manifest.Digest), e.severity(f.NormalizedSeverity), f.ID, f.Package.Name, f.Package.Version, f.FixedInVersion)
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
