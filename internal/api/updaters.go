package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/google/uuid"

	"tocsin.dev/tocsin/internal/httpapi"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/jobs"
	"tocsin.dev/tocsin/internal/text"
	"tocsin.dev/tocsin/updater"
)

// updaters answers httpapi.Updaters with the updater role.
type updaters struct{ service *updater.Service }

func (s updaters) List(ctx context.Context) ([]v1.UpdaterSet, error) {
	status, err := s.service.Status(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]v1.UpdaterSet, len(status))
	for i, set := range status {
		out[i] = v1.UpdaterSet{
			Name: set.Set, About: set.About, Fixed: set.Fixed, Enabled: set.Enabled,
			Schedule: set.Schedule, Next: set.Next, Running: set.Running, Updaters: []v1.Updater{},
		}
		if set.Error != "" { // of the set's own, as when its updaters could not be discovered
			out[i].Updaters = append(out[i].Updaters, v1.Updater{
				Set: set.Set, Name: set.Set, Status: string(set.Result), Error: set.Error, LastRun: set.LastAttempt, LastOK: set.LastSuccess,
			})
		}
		for _, u := range set.Updaters {
			row := v1.Updater{
				Set: set.Set, Name: u.Updater, Status: string(u.Result), Error: u.Error, LastRun: &u.LastAttempt,
				LastOK: u.LastSuccess, Fetched: int(u.Rows), Enrichment: u.Enrichment,
			}
			if u.HeldRows != nil && u.Result == updater.Held {
				row.Error = fmt.Sprintf("held back: %d of %d rows are left (`tocsin updaters accept %s` lets it through)", *u.HeldRows, u.Rows, u.Updater)
			}
			if u.Ref != uuid.Nil {
				row.Ref = u.Ref.String()
			}
			out[i].Updaters = append(out[i].Updaters, row)
		}
	}
	return out, nil
}

// known reports an error unless there is an updater of this name.
func (s updaters) known(ctx context.Context, name string) error {
	status, err := s.service.Status(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, set := range status {
		for _, u := range set.Updaters {
			names = append(names, u.Updater)
		}
	}
	if slices.Contains(names, name) {
		return nil
	}
	hint := text.DidYouMean(name, names)
	if hint == "" {
		hint = "`tocsin updaters status` lists them"
	}
	return &httpapi.FieldError{Field: "updater", Message: "no updater is called that, and no event is of one", Hint: hint, Value: name}
}

func (s updaters) Run(ctx context.Context, set string, accept bool) ([]v1.Job, error) {
	var sets []string
	if set != "" {
		sets = []string{set}
	}
	run := func() ([]jobs.Job, error) { return s.service.RunNow(ctx, sets) }
	if accept {
		run = func() ([]jobs.Job, error) { return s.service.Accept(ctx, set) }
	}
	submitted, err := run()
	switch {
	case errors.Is(err, updater.ErrNothingHeld):
		return nil, refused(httpapi.ErrConflict, err)
	case errors.Is(err, updater.ErrUnknownSet):
		return nil, &httpapi.FieldError{Field: "set", Message: err.Error(), Value: set}
	case errors.Is(err, updater.ErrDisabledSet):
		return nil, refused(httpapi.ErrConflict, err)
	case err != nil:
		return nil, err
	}
	out := make([]v1.Job, len(submitted))
	for i, j := range submitted {
		out[i] = toJob(j)
	}
	return out, nil
}

func (s updaters) Import(ctx context.Context, r io.Reader) (v1.ImportResult, error) {
	imported, err := s.service.Import(ctx, r)
	if errors.Is(err, updater.ErrTooLarge) {
		return v1.ImportResult{}, refused(httpapi.ErrTooLarge, err)
	}
	return v1.ImportResult{Updaters: len(imported.Updated)}, err
}
