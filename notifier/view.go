package notifier

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"tocsin.dev/tocsin/notifier/filter"
	"tocsin.dev/tocsin/schemas"
)

// subscriber is a subscription compiled for matching.
type subscriber struct {
	id      uuid.UUID
	owner   string
	spec    schemas.Subscription
	asks    string // its source and filters: the same for those who ask for the same
	set     *filter.Set
	plan    filter.Plan
	digests string // the group it shares its digests with; "" if it wants an event a manifest
}

// view is all subscriptions as of a stamp, and the index over those that are
// matched. It does not change.
type view struct {
	stamp int64
	subs  map[uuid.UUID]*subscriber
	index index
}

const changedSubscriptions = `
SELECT id, owner, stamp, state, spec, deleted_at IS NOT NULL, COALESCE(writer = pg_current_xact_id_if_assigned(), FALSE)
FROM tocsin.subscription WHERE stamp > @stamp ORDER BY stamp`

// subscribers keeps the compiled subscriptions. It is safe for concurrent use.
type subscribers struct {
	filters *filter.Compiler
	log     *slog.Logger
	broken  prometheus.Gauge
	view    atomic.Pointer[view]
}

// current is the subscriptions as db sees them now, the uncommitted writes of
// its own transaction included. If nothing has changed since the last call, it
// costs one look at an index.
func (x *subscribers) current(ctx context.Context, db querier) (*view, error) {
	known := x.view.Load()
	if known == nil {
		known = &view{}
	}
	next := &view{stamp: known.stamp}
	own := false
	sets := map[string]*filter.Set{} // many ask for the same
	rows, err := db.Query(ctx, changedSubscriptions, pgx.NamedArgs{"stamp": known.stamp})
	if err != nil {
		return nil, fmt.Errorf("notifier: read subscriptions: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var (
			id            uuid.UUID
			owner, state  string
			text          []byte
			deleted, mine bool
		)
		if err := rows.Scan(&id, &owner, &next.stamp, &state, &text, &deleted, &mine); err != nil {
			return nil, fmt.Errorf("notifier: read subscriptions: %w", err)
		}
		own = own || mine
		if next.subs == nil {
			next.subs = maps.Clone(known.subs)
			if next.subs == nil {
				next.subs = map[uuid.UUID]*subscriber{}
			}
		}
		if deleted || state == schemas.StateDisabled {
			delete(next.subs, id)
			continue
		}
		next.subs[id] = x.stored(ctx, id, text, sets)
		next.subs[id].owner = owner
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("notifier: read subscriptions: %w", err)
	}
	if next.subs == nil {
		return known, nil
	}
	next.index = buildIndex(next.subs)
	if own {
		return next, nil // not committed: for this transaction alone
	}
	for {
		have := x.view.Load()
		if have != nil && have.stamp >= next.stamp {
			return next, nil
		}
		if x.view.CompareAndSwap(have, next) {
			x.broken.Set(float64(next.broken()))
			return next, nil
		}
	}
}

// stored compiles a subscription from its row. One that does not compile, as
// when limits were lowered, is kept with no set and matches nothing.
func (x *subscribers) stored(ctx context.Context, id uuid.UUID, text []byte, sets map[string]*filter.Set) *subscriber {
	var spec schemas.Subscription
	if err := json.Unmarshal(text, &spec); err != nil {
		x.log.ErrorContext(ctx, "a stored subscription can't be read and matches nothing", "subscription", id, "reason", err)
		return &subscriber{id: id}
	}
	s, problems := x.compile(id, spec, sets)
	if problems != nil {
		x.log.ErrorContext(ctx, "a stored subscription's filters do not compile and match nothing",
			"subscription", id, "pointer", problems[0].Pointer, "reason", problems[0].Detail)
		return &subscriber{id: id, spec: spec}
	}
	return s
}

// compile compiles a subscription; it is nil if its filters do not compile.
// sets, if not nil, has sets that were compiled before, by what they ask for.
func (x *subscribers) compile(id uuid.UUID, spec schemas.Subscription, sets map[string]*filter.Set) (*subscriber, []filter.Problem) {
	s := &subscriber{id: id, spec: spec, asks: asks(spec)}
	if s.set = sets[s.asks]; s.set == nil {
		set, problems := x.filters.CompileStored(spec.AllFilters())
		if problems != nil {
			return nil, problems
		}
		if s.set = set; sets != nil {
			sets[s.asks] = set
		}
	}
	s.settle()
	return s, nil
}

// compiled is a subscriber whose filters were compiled before.
func compiled(spec schemas.Subscription, set *filter.Set) *subscriber {
	id, _ := uuid.Parse(spec.ID)
	s := &subscriber{id: id, spec: spec, asks: asks(spec), set: set}
	s.settle()
	return s
}

// settle works out what follows from the filters and the configuration.
func (s *subscriber) settle() {
	s.plan = s.set.Plan()
	if s.wantsDigests() {
		s.digests = s.group()
	}
}

// asks names what a subscription asks for, "" for everything.
func asks(spec schemas.Subscription) string {
	if len(spec.Filters) == 0 && spec.Source == "" {
		return ""
	}
	text, _ := json.Marshal([]any{spec.Source, spec.Filters}) // maps of strings have one form
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func (v *view) broken() (n int) {
	for _, s := range v.subs {
		if s.set == nil {
			n++
		}
	}
	return n
}

// wantsDigests says whether the subscription gets digests instead of an event
// for each manifest.
func (s *subscriber) wantsDigests() bool {
	if s.spec.Config.Granularity != schemas.GranularityUpdate && s.spec.Config.Mode != schemas.ModeClair {
		return false
	}
	if len(s.spec.Types) == 0 {
		return true
	}
	for _, t := range s.spec.Types {
		if t == schemas.TypeVulnerabilitiesChanged || t == schemas.TypeManifestsChanged {
			return true
		}
	}
	return false
}

// types are the types of events that are delivered to the subscription one by
// one.
func (s *subscriber) types() []string {
	if s.spec.Config.Mode == schemas.ModeClair {
		return nil
	}
	wanted := s.spec.Types
	if len(wanted) == 0 {
		wanted = schemas.Types
	}
	var out []string
	for _, t := range wanted {
		switch {
		case t == schemas.TypeVulnerabilitiesChanged && s.digests != "":
		case t == schemas.TypeManifestsChanged && (s.digests != "" || len(s.spec.Types) == 0):
			// By default one gets either the events or their digest.
		default:
			out = append(out, t)
		}
	}
	return out
}

// everything is the group of those who get the digest of all of an update's
// events.
const everything = "all"

// group names those who share digests: the same filters give the same digest.
// A client of Clair's API deletes its notifications and so has its own; so has
// a subscription whose filters read the data, which is matched by itself.
func (s *subscriber) group() string {
	switch {
	case s.spec.Config.Mode == schemas.ModeClair || s.set.NeedsData():
		return s.id.String()
	case s.asks == "":
		return everything
	}
	return s.asks
}
