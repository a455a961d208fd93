package indexer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	mappingFresh   = 24 * time.Hour // how long a fetched file is used without asking
	mappingBackoff = 10 * time.Minute
	mappingMax     = 128 << 20 // bytes of a mapping file
	mappingTimeout = 15 * time.Second
)

// mapping is one of the files of Red Hat that say which products a package or
// an image belongs to. Scanners of claircore that need one fetch it when they
// are made, and fail every image when that failed. Here it is fetched when the
// first image needs it, kept in a file, renewed once a day, and missed only by
// the images that need it.
type mapping struct {
	url   string // "" if there is only a file
	file  string // from the configuration, may be ""
	cache string
	http  *http.Client
	log   *slog.Logger
	// backoff is how long a fetch that failed is not repeated.
	backoff time.Duration

	mu     sync.Mutex
	failed time.Time // of the last fetch
	err    error     // of the last fetch
}

// path returns a file with the mapping. The error is for people.
func (m *mapping) path(ctx context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.url == "" {
		return m.file, nil
	}
	fi, err := os.Stat(m.cache)
	have := err == nil
	if have && time.Since(fi.ModTime()) < mappingFresh {
		return m.cache, nil
	}
	if time.Since(m.failed) > m.backoff {
		if m.err = m.fetch(ctx); m.err == nil {
			return m.cache, nil
		}
		if ctx.Err() != nil {
			return "", context.Cause(ctx) // not the server's fault
		}
		m.failed = time.Now()
		m.log.WarnContext(ctx, "mapping file not fetched", "url", bareURI(m.url), "error", m.err)
	}
	switch {
	case have:
		return m.cache, nil
	case m.file != "":
		return m.file, nil
	default:
		return "", m.err
	}
}

// fetch replaces the cached file by what the URL has.
func (m *mapping) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, mappingTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url, nil)
	if err != nil {
		return errors.New("its URL is malformed")
	}
	resp, err := m.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", bareURI(m.url), resp.Status)
	}
	f, err := os.CreateTemp(filepath.Dir(m.cache), filepath.Base(m.cache)+".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it has been renamed
	defer f.Close()
	body := io.TeeReader(io.LimitReader(resp.Body, mappingMax), f)
	var content struct {
		Data map[string]json.RawMessage `json:"data"`
	}
	if err := json.NewDecoder(body).Decode(&content); err != nil {
		return fmt.Errorf("%s sent no mapping: %w", bareURI(m.url), err)
	}
	if len(content.Data) == 0 {
		return fmt.Errorf("%s sent an empty mapping", bareURI(m.url))
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), m.cache)
}
