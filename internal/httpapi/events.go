package httpapi

import (
	"context"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/danielgtaylor/huma/v2"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/schemas"
)

// Events is the event log: package notifier.
type Events interface {
	List(ctx context.Context, q v1.EventQuery) (v1.Page[cloudevents.Event], error)
	// Get and Manifests know no event that is another owner's alone.
	Get(ctx context.Context, owner, id string) (cloudevents.Event, error)
	// Findings pages through the lists of a vulnerabilities_changed event, in
	// full: first what was added, then what was removed, then what was revised,
	// each with the most severe first. kind, if not empty, picks one list.
	Findings(ctx context.Context, id, kind string, p v1.Paging) (v1.Page[v1.EventFinding], error)
	// Manifests pages through the manifests of an update's digest event.
	Manifests(ctx context.Context, owner, id string, p v1.Paging) (v1.Page[schemas.ChangedManifest], error)
}

// eventBody is a CloudEvent in structured JSON.
type eventBody struct{ cloudevents.Event }

// Schema describes it for OpenAPI; the data's own schema is its dataschema.
func (eventBody) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{
		Type: huma.TypeObject, Title: "CloudEvent",
		Description: "A CloudEvents 1.0 event in structured JSON; dataschema says what is in data",
		Properties: map[string]*huma.Schema{
			"specversion": {Type: huma.TypeString}, "id": {Type: huma.TypeString}, "source": {Type: huma.TypeString},
			"type": {Type: huma.TypeString}, "time": {Type: huma.TypeString, Format: "date-time"}, "data": {},
		},
		Required:             []string{"specversion", "id", "source", "type"},
		AdditionalProperties: true,
	}
	s.PrecomputeMessages()
	return s
}

func (s *server) registerEvents() {
	type listIn struct {
		PageParams
		Type     []string  `query:"type,explode" doc:"Only these types" maxItems:"32"`
		Subject  string    `query:"subject" doc:"Only events of this manifest digest" maxLength:"256"`
		Image    string    `query:"image" doc:"Shell pattern over the image's first name; * also matches slashes" maxLength:"1024"`
		Updater  string    `query:"updater" doc:"Only events by this updater" maxLength:"256"`
		Severity string    `query:"severity" enum:"Unknown,Negligible,Low,Medium,High,Critical" doc:"At least this severe"`
		Since    time.Time `query:"since" doc:"Not before this time"`
		Until    time.Time `query:"until" doc:"Before this time"`
	}
	add(s, get, "/events", "List events, newest first", reads, 0, func(ctx context.Context, in *listIn) (*body[v1.Page[eventBody]], error) {
		if s.Services.Events == nil {
			return nil, absent("the event log")
		}
		p, err := s.Services.Events.List(ctx, v1.EventQuery{
			Paging: in.page(), Owner: principal(ctx).Sees(), Types: in.Type, Subject: in.Subject, Image: in.Image, Updater: in.Updater,
			MinRank: schemas.SeverityRank(in.Severity), Since: in.Since, Until: in.Until,
		})
		out := v1.Page[eventBody]{Items: make([]eventBody, len(p.Items)), Next: p.Next}
		for i, e := range p.Items {
			out.Items[i] = eventBody{e}
		}
		return &body[v1.Page[eventBody]]{out}, err
	})
	add(s, get, "/events/{id}", "One event", reads, 0, func(ctx context.Context, in *IDParam) (*body[eventBody], error) {
		if s.Services.Events == nil {
			return nil, absent("the event log")
		}
		e, err := s.Services.Events.Get(ctx, principal(ctx).Sees(), in.ID)
		return &body[eventBody]{eventBody{e}}, err
	})
	type findingsIn struct {
		IDParam
		PageParams
		Kind string `query:"kind" enum:"added,removed,revised" doc:"Only this list"`
	}
	add(s, get, "/events/{id}/findings", "All findings of a vulnerabilities_changed event", reads, 0,
		func(ctx context.Context, in *findingsIn) (*body[v1.Page[v1.EventFinding]], error) {
			if s.Services.Events == nil {
				return nil, absent("the event log")
			}
			p, err := s.Services.Events.Findings(ctx, in.ID, in.Kind, in.page())
			return &body[v1.Page[v1.EventFinding]]{p}, err
		})
	type manifestsIn struct {
		IDParam
		PageParams
	}
	add(s, get, "/events/{id}/manifests", "All manifests of an update's digest event", reads, 0,
		func(ctx context.Context, in *manifestsIn) (*body[v1.Page[schemas.ChangedManifest]], error) {
			if s.Services.Events == nil {
				return nil, absent("the event log")
			}
			p, err := s.Services.Events.Manifests(ctx, principal(ctx).Sees(), in.ID, in.page())
			return &body[v1.Page[schemas.ChangedManifest]]{p}, err
		})
}
