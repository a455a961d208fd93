package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"

	"tocsin.dev/tocsin/indexer/image"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/terminal"
)

type indexCmd struct {
	Refs     []string          `arg:"" name:"image" help:"Image references, oci:PATH, oci-archive:PATH, docker-archive:PATH, or - for standard input."`
	Names    []string          `name:"name" help:"Name people know the image by; may be repeated. Default: the reference." placeholder:"NAME"`
	Labels   map[string]string `name:"label" short:"l" help:"Label kept with the image; may be repeated." placeholder:"KEY=VALUE"`
	Platform []string          `help:"Platforms of a multi-platform image, as os/arch. Default: all that run Linux." placeholder:"OS/ARCH"`
	Wait     bool              `short:"w" help:"Wait until it is indexed, and say what was found."`

	refused []string // references on standard input, and why
}

func (indexCmd) Help() string {
	return `A reference is resolved at its registry by the server. An image on this machine's disk is read here, and its layers
are uploaded. Standard input may be an archive of docker save or of an OCI layout, compressed by gzip or not, a manifest in JSON, or references one a line.
Indexing an image again costs nothing.

Examples:
  tocsin index alpine:3.20 --wait
  tocsin index registry.example.com/team/app:1.4 --label team=payments --platform linux/amd64
  tocsin index oci:./layout --name team/app:dev
  docker save team/app | tocsin index - --name team/app:dev
  kubectl get pods -A -o jsonpath='{range .items[*].spec.containers[*]}{.image}{"\n"}{end}' | sort -u | tocsin index -`
}

func (c *indexCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	submitted := []v1.Submitted{}
	for _, ref := range c.Refs {
		var list []v1.Submitted
		switch {
		case ref == "-":
			list, err = c.stdin(e, cl)
		case image.IsLocal(ref):
			list, err = c.local(e, cl, ref)
		default:
			list, err = c.submit(cl, v1.ImageRequest{Image: ref, Platforms: c.Platform})
		}
		if err != nil {
			return fmt.Errorf("%s: %w", ref, err)
		}
		submitted = append(submitted, list...)
	}
	if c.Wait {
		return errors.Join(c.wait(e, cl, submitted), c.refusals())
	}
	return errors.Join(e.print(submitted, func() error {
		t := terminal.NewTable("DIGEST", "PLATFORM", "STATE", "JOB")
		for _, s := range submitted {
			state, job := "indexed", ""
			if s.Job != nil {
				state, job = s.Job.State, s.Job.ID
			}
			t.Row(s.Digest, s.Platform, e.state(state), job)
		}
		return e.table(t, "Nothing to index.")
	}), c.refusals())
}

// submit asks for one image.
func (c *indexCmd) submit(cl *client, r v1.ImageRequest) ([]v1.Submitted, error) {
	r.Names = append(r.Names, c.Names...)
	if r.Labels == nil {
		r.Labels = map[string]string{}
	}
	maps.Copy(r.Labels, c.Labels)
	var page v1.Page[v1.Submitted]
	err := cl.call(http.MethodPost, "/images", nil, r, &page)
	return page.Items, err
}

// local uploads the layers of an image on this disk, then asks for it.
func (c *indexCmd) local(e *env, cl *client, ref string) ([]v1.Submitted, error) {
	images, err := image.Open(ref, c.Platform)
	if err != nil {
		return nil, err
	}
	var out []v1.Submitted
	for _, img := range images {
		m := &v1.ManifestSpec{Hash: img.Digest, Config: img.Config}
		for i, l := range img.Layers {
			if !l.Local() {
				m.Layers = append(m.Layers, v1.Layer{Hash: l.Digest, URI: l.URI})
				continue
			}
			e.progress("uploading layer %d of %d of %s", i+1, len(img.Layers), terminal.Digest(img.Digest))
			if err := upload(cl, l); err != nil {
				e.progressEnd()
				return nil, fmt.Errorf("layer %s: %w", l.Digest, err)
			}
			m.Layers = append(m.Layers, v1.Layer{Hash: l.Digest})
		}
		e.progressEnd()
		r := v1.ImageRequest{Manifest: m}
		if len(c.Names) == 0 {
			r.Names = img.Names
		}
		if img.Platform != "" {
			r.Labels = map[string]string{"platform": img.Platform}
		}
		list, err := c.submit(cl, r)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

// upload sends a layer's blob unless the server has it.
func upload(cl *client, l image.Layer) error {
	path := "/layers/" + seg(l.Digest)
	err := cl.call(http.MethodHead, path, nil, nil, nil)
	if err == nil || !notFound(err) {
		return err
	}
	r, err := l.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	return cl.stream(http.MethodPut, path, r, nil)
}

// stdin tells by its beginning what standard input is.
func (c *indexCmd) stdin(e *env, cl *client) ([]v1.Submitted, error) {
	in := bufio.NewReaderSize(e.in, 64<<10)
	head, err := in.Peek(262)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("reading standard input: %w", err)
	}
	switch {
	case len(bytes.TrimSpace(head)) == 0:
		return nil, usage("standard input is empty")
	case len(head) >= 262 && string(head[257:262]) == "ustar", bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return c.archive(e, cl, in)
	case bytes.HasPrefix(bytes.TrimSpace(head), []byte("{")):
		return c.manifest(cl, in)
	}
	var out []v1.Submitted
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		ref := strings.TrimSpace(lines.Text())
		if ref == "" || strings.HasPrefix(ref, "#") {
			continue
		}
		list, err := c.submit(cl, v1.ImageRequest{Image: ref, Platforms: c.Platform})
		if err != nil {
			c.refused = append(c.refused, fmt.Sprintf("%s: %v", ref, err))
			continue
		}
		out = append(out, list...)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading standard input: %w", err)
	}
	return out, nil
}

// refusals is the error of the references on standard input that could not be
// had, if there are any.
func (c *indexCmd) refusals() error {
	if len(c.refused) == 0 {
		return nil
	}
	return fmt.Errorf("%s could not be indexed:\n%s", terminal.Count(len(c.refused), "reference"), strings.Join(c.refused, "\n"))
}

// archive keeps a docker save archive in a file for as long as it is read.
func (c *indexCmd) archive(e *env, cl *client, in io.Reader) ([]v1.Submitted, error) {
	f, err := os.CreateTemp("", "tocsin-archive-*.tar")
	if err != nil {
		return nil, fmt.Errorf("keeping the archive: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := io.Copy(f, in); err != nil {
		return nil, fmt.Errorf("keeping the archive: %w", err)
	}
	kind := "docker-archive:"
	if image.IsLayoutArchive(f.Name()) {
		kind = "oci-archive:"
	}
	return c.local(e, cl, kind+f.Name())
}

// manifest takes a manifest as it would be published over NATS.
func (c *indexCmd) manifest(cl *client, in io.Reader) ([]v1.Submitted, error) {
	var m struct {
		v1.ImageRequest
		Hash   string     `json:"hash"`
		Layers []v1.Layer `json:"layers"`
	}
	if err := json.NewDecoder(in).Decode(&m); err != nil {
		return nil, fmt.Errorf("standard input is not a manifest in JSON: %w", err)
	}
	if m.Hash != "" { // claircore's own form
		m.ImageRequest.Manifest = &v1.ManifestSpec{Hash: m.Hash, Layers: m.Layers}
	}
	return c.submit(cl, m.ImageRequest)
}

// wait follows the jobs to their end and prints the images.
func (c *indexCmd) wait(e *env, cl *client, submitted []v1.Submitted) error {
	images := []v1.Image{}
	var failed []string
	for _, s := range submitted {
		if s.Job != nil {
			job, err := e.follow(cl, *s.Job)
			if err != nil {
				return err
			}
			if job.Failed {
				failed = append(failed, job.Key+": "+job.Reason)
				continue
			}
		}
		if s.Digest == "" {
			continue
		}
		var img v1.Image
		if err := cl.call(http.MethodGet, "/images/"+seg(s.Digest), nil, nil, &img); err != nil {
			return err
		}
		images = append(images, img)
	}
	if err := e.print(images, func() error { return e.images(images) }); err != nil {
		return err
	}
	if failed != nil {
		return &hinted{error: fmt.Errorf("%s", strings.Join(failed, "\n")), hint: "`tocsin jobs --failed` lists failed jobs; `tocsin jobs retry ID` tries one again."}
	}
	return nil
}
