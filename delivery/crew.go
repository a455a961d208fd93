package delivery

import "sync/atomic"

// assignment is one attempt for a worker to make.
type assignment struct {
	target  *openTarget
	verdict func(verdict)
	batch   []row
}

// worker is where a worker's next assignment goes; closed, it ends.
type worker chan assignment

// crew are the workers of one lane. The first at work needs no one's leave; the
// others each hold a permit of the replica's budget, so that there are always
// busy-1 of them.
type crew struct {
	budget *budget
	busy   int
	idle   []worker // waiting, to be used again
}

// hire takes up one more attempt, if fewer than most are under way and the
// budget allows it.
func (c *crew) hire(most int) bool {
	if c.busy >= most || c.busy > 0 && !c.budget.take() {
		return false
	}
	c.busy++
	return true
}

// dismiss ends an attempt.
func (c *crew) dismiss() {
	c.busy--
	if c.busy > 0 {
		c.budget.give()
	}
}

// next is a worker that waits; if there is none, it is a new one for the caller
// to start.
func (c *crew) next() (w worker, fresh bool) {
	if n := len(c.idle); n > 0 {
		w = c.idle[n-1]
		c.idle = c.idle[:n-1]
		return w, false
	}
	return make(worker, 1), true
}

// rest keeps a worker that has no assignment.
func (c *crew) rest(w worker) { c.idle = append(c.idle, w) }

// leave ends the workers that wait.
func (c *crew) leave() {
	for _, w := range c.idle {
		close(w)
	}
	c.idle = nil
}

// budget is a number of permits that the lanes of a replica share.
type budget struct{ left atomic.Int64 }

func newBudget(n int) *budget {
	b := new(budget)
	b.left.Store(int64(n))
	return b
}

func (b *budget) take() bool {
	if b.left.Add(-1) < 0 {
		b.left.Add(1)
		return false
	}
	return true
}

func (b *budget) give() { b.left.Add(1) }
