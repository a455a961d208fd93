package indexer

//lint:file-ignore SA1019 claircore's Manifest has no other place for where a layer is.

import (
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/quay/claircore"

	"tocsin.dev/tocsin/internal/secrets"
)

// spec is a manifest as it is stored: claircore's, without anything that may
// be a credential.
type spec struct {
	Hash   string      `json:"hash"`
	Layers []specLayer `json:"layers"`
}

type specLayer struct {
	Hash string `json:"hash"`
	URI  string `json:"uri"`
}

// access is what it takes to fetch one layer and must not be stored in clear.
type access struct {
	URI     string              `json:"uri,omitempty"` // whole, if spec's was cut
	Headers map[string][]string `json:"headers,omitempty"`
}

// Sealer encrypts what must not be stored in clear; [secrets.Keyring] does.
type Sealer interface {
	Seal(secret []byte, context string) secrets.Sealed
	Open(s secrets.Sealed, context string) ([]byte, error)
}

// split separates a manifest into what is stored in clear and what is not. A
// query string may be a signature that grants access, so it is not.
func split(m *Manifest) (spec, []access) {
	s := spec{Hash: m.Digest, Layers: make([]specLayer, len(m.Layers))}
	as := make([]access, len(m.Layers))
	secret := false
	for i, l := range m.Layers {
		s.Layers[i] = specLayer{Hash: l.Digest, URI: l.URI}
		if u, err := url.Parse(l.URI); err == nil && u.RawQuery != "" {
			as[i].URI = l.URI
			u.RawQuery = ""
			s.Layers[i].URI = u.String()
		}
		as[i].Headers = l.Headers
		secret = secret || as[i].URI != "" || len(l.Headers) > 0
	}
	if !secret {
		return s, nil
	}
	return s, as
}

func seal(sealer Sealer, digest string, as []access) (secrets.Sealed, error) {
	if as == nil {
		return secrets.Sealed{}, nil
	}
	b, err := json.Marshal(as)
	if err != nil {
		return secrets.Sealed{}, fmt.Errorf("seal access to layers: %w", err)
	}
	return sealer.Seal(b, sealContext(digest)), nil
}

func sealContext(digest string) string { return "manifest " + digest }

// join makes claircore's manifest of the two again.
func join(sealer Sealer, s spec, sealed secrets.Sealed) (*claircore.Manifest, error) {
	as := make([]access, len(s.Layers))
	if len(sealed.Box) > 0 {
		b, err := sealer.Open(sealed, sealContext(s.Hash))
		if err != nil {
			return nil, fmt.Errorf("open access to layers: %w", err)
		}
		if err := json.Unmarshal(b, &as); err != nil || len(as) != len(s.Layers) {
			return nil, fmt.Errorf("open access to layers: not what was sealed: %w", err)
		}
	}
	hash, err := claircore.ParseDigest(s.Hash)
	if err != nil {
		return nil, err
	}
	m := &claircore.Manifest{Hash: hash, Layers: make([]*claircore.Layer, len(s.Layers))}
	for i, l := range s.Layers {
		h, err := claircore.ParseDigest(l.Hash)
		if err != nil {
			return nil, err
		}
		uri := l.URI
		if as[i].URI != "" {
			uri = as[i].URI
		}
		m.Layers[i] = &claircore.Layer{Hash: h, URI: uri, Headers: as[i].Headers}
	}
	return m, nil
}
