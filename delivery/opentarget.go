package delivery

import (
	"context"
	"sync"
	"sync/atomic"
)

// openTarget is a target that is opened by the first attempt with it and
// closed after the last. The lane is one of its users, each attempt another.
type openTarget struct {
	sub   Subscription
	users atomic.Int32

	once   sync.Once
	target Target // set by open, as err is
	err    error
	opened atomic.Bool
	failed atomic.Bool

	close func(Target) // called once, after the last use, if it was opened
}

// newTarget is a target with one user.
func newTarget(sub Subscription, close func(Target)) *openTarget {
	t := &openTarget{sub: sub, close: close}
	t.users.Store(1)
	return t
}

// use adds a user, who must release it.
func (t *openTarget) use() *openTarget {
	t.users.Add(1)
	return t
}

// release ends one use.
func (t *openTarget) release() {
	if t.users.Add(-1) == 0 && t.opened.Load() {
		t.close(t.target)
	}
}

// open opens the target on its first use; all others wait for that.
func (t *openTarget) open(ctx context.Context, opener Opener) (Target, error) {
	t.once.Do(func() {
		// A panic must leave an error behind, for those who wait.
		t.err = errNotOpened
		t.failed.Store(true)
		if t.target, t.err = opener.Open(ctx, t.sub); t.err == nil {
			t.failed.Store(false)
			t.opened.Store(true)
		}
	})
	return t.target, t.err
}

// rate is the limit that the target itself asks for; 0 for none.
func (t *openTarget) rate() float64 {
	if t.opened.Load() {
		if limited, ok := t.target.(Limited); ok {
			return limited.Rate()
		}
	}
	return 0
}
