package delivery

import (
	"bytes"
	"context"
	"errors"
	"math"
	"sync"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// rendering is an event made ready to send once, for all its subscriptions.
// done is closed when the rest is set; event is nil if it does not exist.
type rendering struct {
	id         uuid.UUID
	done       chan struct{}
	event      *event.Event
	structured []byte
	invalid    error // why the event cannot be sent
	unreadable error // why it cannot be read, others can
	err        error // why none could be read
}

func (r *rendering) size() int {
	if r.event == nil {
		return 128
	}
	return 1024 + len(r.structured) + len(r.event.DataEncoded)
}

// renderer reads events and marshals them, several at a time, and keeps the
// ones used last.
type renderer struct {
	events Events
	limit  int // bytes

	mu      sync.Mutex
	recent  *simplelru.LRU[uuid.UUID, *rendering] // those read
	bytes   int                                   // of recent
	awaited map[uuid.UUID]*rendering              // those that are not read yet
	wanted  []*rendering                          // those of awaited that no read has begun of
	reads   int                                   // under way
}

func newRenderer(events Events, limit int) *renderer {
	r := &renderer{events: events, limit: limit, awaited: map[uuid.UUID]*rendering{}}
	// Bytes bound it, not their number.
	recent, err := simplelru.NewLRU(math.MaxInt, func(_ uuid.UUID, x *rendering) { r.bytes -= x.size() })
	if err != nil {
		panic(err) // it refuses sizes below one
	}
	r.recent = recent
	return r
}

const (
	// maxRender is how many events are read at a time; maxLoads how many reads
	// run at once.
	maxRender = 128
	maxLoads  = 2
)

// get returns the renderings of ids in their order, reading those that are not
// cached, together with those that other callers wait for. It fails only if ctx
// ends.
func (r *renderer) get(ctx context.Context, ids []uuid.UUID) ([]*rendering, error) {
	out := make([]*rendering, len(ids))
	r.mu.Lock()
	for i, id := range ids {
		x, ok := r.recent.Get(id)
		if !ok {
			x, ok = r.awaited[id]
		}
		if !ok {
			x = &rendering{id: id, done: make(chan struct{})}
			r.awaited[id] = x
			r.wanted = append(r.wanted, x)
		}
		out[i] = x
	}
	for len(r.wanted) > 0 && r.reads < maxLoads {
		r.reads++
		some := r.wanted[:min(len(r.wanted), maxRender)]
		r.wanted = r.wanted[len(some):]
		r.mu.Unlock()
		r.load(ctx, some)
		r.mu.Lock()
		r.reads--
	}
	r.mu.Unlock()
	for _, x := range out {
		select {
		case <-x.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return out, nil
}

// load reads some events. It is called without the lock.
func (r *renderer) load(ctx context.Context, some []*rendering) {
	ids := make([]uuid.UUID, len(some))
	for i, x := range some {
		ids[i] = x.id
	}
	// Others wait for these too: the caller's end must not be theirs.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	found, err := r.events.Events(ctx, ids)
	var unreadable map[uuid.UUID]error
	if some, ok := errors.AsType[Unreadable](err); ok {
		unreadable, err = some.Unreadable(), nil
	}
	bodies := make([][]byte, len(some))
	invalid := make([]error, len(some))
	for i, x := range some {
		e, ok := found[x.id]
		if err != nil || !ok {
			continue
		}
		var b bytes.Buffer
		b.Grow(len(e.DataEncoded) + 512)
		invalid[i] = event.WriteJson(&e, &b)
		bodies[i] = b.Bytes()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, x := range some {
		x.err, x.invalid, x.unreadable = err, invalid[i], unreadable[x.id]
		delete(r.awaited, x.id)
		if e, ok := found[x.id]; ok && err == nil {
			x.event, x.structured = &e, bodies[i]
			r.recent.Add(x.id, x)
			r.bytes += x.size()
		}
		close(x.done)
	}
	for r.bytes > r.limit && r.recent.Len() > 0 {
		r.recent.RemoveOldest()
	}
}
