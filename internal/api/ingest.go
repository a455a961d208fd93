package api

import (
	"context"
	"net/http"

	"tocsin.dev/tocsin/indexer"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/ingest"
)

// registries answers httpapi.Ingest with the indexer.
type registries struct {
	ix     *indexer.Indexer
	secret string // GitHub's; "" for none
}

func (s registries) Signed(kind string, h http.Header, body []byte) bool {
	return kind == "github" && ingest.VerifyGitHub(s.secret, h.Get("X-Hub-Signature-256"), body)
}

func (s registries) Pushed(ctx context.Context, kind, registry string, body []byte) (v1.Ingested, error) {
	out := v1.Ingested{Images: []string{}, Jobs: []string{}, Deleted: []string{}}
	changes, err := ingest.Parse(kind, registry, body)
	if err != nil {
		return out, err
	}
	for _, c := range changes {
		if c.Deleted {
			if _, err := s.ix.Unname(ctx, c.Repository, c.Tag, c.Digest); err != nil {
				return out, err
			}
			out.Deleted = append(out.Deleted, c.Reference())
			continue
		}
		job, err := s.ix.Enqueue(ctx, indexer.Request{Image: c.Reference()})
		if err != nil {
			return out, indexerError(err)
		}
		out.Images, out.Jobs = append(out.Images, c.Reference()), append(out.Jobs, job.ID.String())
	}
	return out, nil
}
