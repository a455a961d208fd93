package indexer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"tocsin.dev/tocsin/internal/bus"
	"tocsin.dev/tocsin/internal/jsonlimit"
	"tocsin.dev/tocsin/internal/text"
)

// maxMessage bounds a message, in bytes.
const maxMessage = 1 << 20

// body is every form a message may have: a reference, a manifest with names,
// or claircore's manifest alone.
type body struct {
	Image     string            `json:"image"`
	Platforms []string          `json:"platforms"`
	Platform  string            `json:"platform"`
	Manifest  *wireManifest     `json:"manifest"`
	Names     []string          `json:"names"`
	Labels    map[string]string `json:"labels"`
	wireManifest
}

type wireManifest struct {
	Hash   string      `json:"hash"`
	Config string      `json:"config"`
	Layers []wireLayer `json:"layers"`
}

type wireLayer struct {
	Hash    string              `json:"hash"`
	URI     string              `json:"uri"`
	Headers map[string][]string `json:"headers"`
}

// parseMessage reads a request from a message: JSON as it is, or as the data of
// a CloudEvent in structured or binary mode.
func parseMessage(m bus.Message) (Request, error) {
	if len(m.Data) > maxMessage {
		return Request{}, fmt.Errorf("message of %d bytes is over the limit of %d", len(m.Data), maxMessage)
	}
	data, err := eventData(m)
	if err != nil {
		return Request{}, err
	}
	return parseBody(data)
}

// parseBody reads a request from JSON.
func parseBody(data []byte) (Request, error) {
	if err := (jsonlimit.Limits{}).Check(data); err != nil {
		return Request{}, fmt.Errorf("not JSON of the expected form: %w", err)
	}
	var b body
	dec := json.NewDecoder(bytes.NewReader(data))
	switch err := dec.Decode(&b); {
	case errors.Is(err, io.EOF):
		return Request{}, errors.New("message is empty")
	case err != nil:
		return Request{}, fmt.Errorf("not JSON of the expected form: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Request{}, errors.New("something follows the JSON object")
	}
	r := Request{Image: b.Image, Platforms: b.Platforms, Names: b.Names, Labels: b.Labels}
	if b.Platform != "" {
		r.Platforms = append(r.Platforms, b.Platform)
	}
	bare := b.Hash != "" || b.Layers != nil
	switch {
	case b.Manifest != nil && bare:
		return Request{}, errors.New(`either "manifest" or "hash" and "layers", not both`)
	case b.Manifest != nil:
		r.Manifest = b.Manifest.manifest()
	case bare:
		r.Manifest = b.wireManifest.manifest()
	case b.Image == "":
		return Request{}, errors.New(`needs "image", "manifest", or "hash" and "layers"`)
	}
	return r, nil
}

func (w wireManifest) manifest() *Manifest {
	m := &Manifest{Digest: w.Hash, Config: w.Config}
	for _, l := range w.Layers {
		m.Layers = append(m.Layers, Layer{Digest: l.Hash, URI: l.URI, Headers: l.Headers})
	}
	return m
}

// eventData returns what a message is about: its body, unless it is a
// CloudEvent in structured mode, whose data it is then.
func eventData(m bus.Message) ([]byte, error) {
	header := func(name string) string {
		for k, vs := range m.Header {
			if strings.EqualFold(k, name) && len(vs) > 0 {
				return vs[0]
			}
		}
		return ""
	}
	kind, _, _ := mime.ParseMediaType(header("content-type"))
	switch {
	case kind == cloudevents.ApplicationCloudEventsBatchJSON:
		return nil, errors.New("batches of CloudEvents are not taken: publish each in a message of its own")
	case header("ce-specversion") != "":
		if v := header("ce-specversion"); v != cloudevents.VersionV1 && v != cloudevents.VersionV03 {
			return nil, fmt.Errorf("CloudEvents version %q is unknown", text.Cut(v, 20))
		}
		for _, name := range []string{"ce-id", "ce-source", "ce-type"} {
			if header(name) == "" {
				return nil, fmt.Errorf("not a CloudEvent: header %s is missing", name)
			}
		}
		if kind != "" && !isJSON(kind) {
			return nil, fmt.Errorf("data of type %q is not JSON", text.Cut(kind, 100))
		}
		return m.Data, nil
	case strings.HasPrefix(kind, "application/cloudevents"), looksStructured(m.Data):
		e := cloudevents.NewEvent()
		if err := json.Unmarshal(m.Data, &e); err != nil {
			return nil, fmt.Errorf("not a CloudEvent: %w", err)
		}
		if err := e.Validate(); err != nil {
			return nil, fmt.Errorf("not a CloudEvent: %s", strings.Join(strings.Fields(err.Error()), " "))
		}
		if e.DataContentType() != "" {
			kind, _, _ := mime.ParseMediaType(e.DataContentType())
			if !isJSON(kind) {
				return nil, fmt.Errorf("data of type %q is not JSON", text.Cut(e.DataContentType(), 100))
			}
		}
		if len(e.Data()) == 0 {
			return nil, errors.New("the CloudEvent has no data")
		}
		return e.Data(), nil
	default:
		return m.Data, nil
	}
}

func isJSON(kind string) bool {
	return kind == "application/json" || kind == "text/json" || strings.HasSuffix(kind, "+json")
}

// looksStructured reports whether JSON without a content type is a CloudEvent.
func looksStructured(data []byte) bool {
	var e struct {
		SpecVersion *string `json:"specversion"`
	}
	return json.Unmarshal(data, &e) == nil && e.SpecVersion != nil
}
