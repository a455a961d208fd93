package delivery

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"sync"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/uuid"
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
	known   map[uuid.UUID]*list.Element // of *rendering
	recent  list.List                   // the one used last in front
	bytes   int
	wanted  []*rendering
	loading int
}

func newRenderer(events Events, limit int) *renderer {
	return &renderer{events: events, limit: limit, known: map[uuid.UUID]*list.Element{}}
}

const (
	// maxRender is how many events are read at a time; maxLoads how many reads
	// run at once.
	maxRender = 128
	maxLoads  = 2
)

// get returns the renderings of ids in their order, reading those that are not
// at hand together with what others are waiting for. It fails only with ctx.
func (r *renderer) get(ctx context.Context, ids []uuid.UUID) ([]*rendering, error) {
	out := make([]*rendering, len(ids))
	r.mu.Lock()
	for i, id := range ids {
		if el, ok := r.known[id]; ok {
			r.recent.MoveToFront(el)
			out[i] = el.Value.(*rendering)
			continue
		}
		out[i] = &rendering{id: id, done: make(chan struct{})}
		r.known[id] = r.recent.PushFront(out[i])
		r.wanted = append(r.wanted, out[i])
	}
	for len(r.wanted) > 0 && r.loading < maxLoads {
		r.loading++
		some := r.wanted[:min(len(r.wanted), maxRender)]
		r.wanted = r.wanted[len(some):]
		r.mu.Unlock()
		r.load(ctx, some)
		r.mu.Lock()
		r.loading--
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
		if e, ok := found[x.id]; ok && err == nil {
			x.event, x.structured = &e, bodies[i]
			r.bytes += x.size()
		} else {
			r.evict(r.known[x.id])
		}
		close(x.done)
	}
	for el := r.recent.Back(); r.bytes > r.limit && el != nil; {
		older := el.Prev()
		if x := el.Value.(*rendering); x.event != nil {
			r.bytes -= x.size()
			r.evict(el)
		}
		el = older
	}
}

// evict forgets an element. The lock is held.
func (r *renderer) evict(el *list.Element) {
	delete(r.known, el.Value.(*rendering).id)
	r.recent.Remove(el)
}
