package cli

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
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
	State   string `help:"Only images in this state." enum:",pending,indexed,failed,deleted,retired" default:""`
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
	t := terminal.NewTable("IMAGE", "PLATFORM", "DIGEST", "STATE", "PACKAGES", "COVERAGE", "VULNERABILITIES", "INDEXED", "REASON")
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
		state := e.state(i.State)
		if i.Superseded && i.State != "retired" {
			state = terminal.Cell{Text: i.State + ", superseded", Paint: e.style.Dim}
		}
		t.Row(name, i.Platform, terminal.Digest(i.Digest), state, packages, e.coverage(i.Coverage), found, e.ago(i.IndexedAt), terminal.Clip(i.Reason, 80))
	}
	return e.table(t, "No images. `tocsin index REF` adds one.")
}

// coverage marks what nothing could be known of.
func (e *env) coverage(state string) string {
	switch state {
	case schemas.CoverageNone:
		return e.style.Bad(state)
	case schemas.CoveragePartial:
		return e.style.Warn(state)
	}
	return state
}

type imagesShowCmd struct {
	Image string `arg:"" help:"Name, digest or its beginning." predictor:"image"`
}

func (c *imagesShowCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	found, err := cl.meaning(c.Image, "")
	if err != nil {
		return err
	}
	if len(found) == 1 {
		return e.print(found[0], func() error { return e.images(found) })
	}
	return e.print(found, func() error { return e.images(found) })
}

// meaning lists the images that a name stands for now, or those of them for one
// platform. There is at least one.
func (cl *client) meaning(ref, platform string) ([]v1.Image, error) {
	ref, err := cl.imageRef(ref)
	if err != nil {
		return nil, err
	}
	found, err := list[v1.Image](cl, "/images", url.Values{"ref": {ref}}, 0)
	if err != nil || platform == "" {
		return found, err
	}
	var of []v1.Image
	var others []string
	for _, i := range found {
		if i.Platform == platform || strings.HasPrefix(i.Platform, platform+"/") {
			of = append(of, i)
		} else {
			others = append(others, cmp.Or(i.Platform, "unknown"))
		}
	}
	if len(of) == 0 {
		return nil, fmt.Errorf("%s has nothing for the platform %s; it has %s", ref, platform, strings.Join(others, ", "))
	}
	return of, nil
}

type imagesDropCmd struct {
	Images []string `arg:"" name:"image" predictor:"image" help:"Digests, or names: all that they stand for is forgotten."`
}

func (c *imagesDropCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	for _, meant := range c.Images {
		i, err := cl.imageRef(meant)
		if err != nil {
			return err
		}
		if err := cl.call(http.MethodDelete, "/images/"+seg(i), nil, nil, nil); err != nil {
			return fmt.Errorf("%s: %w", i, err)
		}
		e.notef("forgot %s", i)
	}
	return nil
}
