package amqp

import (
	"errors"
	"sync"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"tocsin.dev/tocsin/delivery"
)

// alarmPause is how long a broker that has stopped publishers is left alone.
const alarmPause = 5 * time.Second

// alarm knows whether the broker has told publishers to wait (the extension
// connection.blocked). RabbitMQ tells it to a connection only after that has
// published something, and then takes nothing from it until the alarm is over.
// The zero value is off.
type alarm struct {
	mu     sync.Mutex
	active bool
	raised chan struct{} // closed while active; made on demand
}

// watch follows the broker's notices until there are no more.
func (a *alarm) watch(notices <-chan amqp091.Blocking) {
	for n := range notices {
		a.set(n.Active)
	}
}

func (a *alarm) set(active bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.raised == nil {
		a.raised = make(chan struct{})
	}
	if active == a.active {
		return
	}
	a.active = active
	if active {
		close(a.raised)
	} else {
		a.raised = make(chan struct{})
	}
}

// on is closed once the alarm is on.
func (a *alarm) on() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.raised == nil {
		a.raised = make(chan struct{})
	}
	return a.raised
}

func (a *alarm) isOn() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.active
}

func throttled() delivery.Outcome {
	return delivery.Outcome{
		Class: delivery.ClassThrottled, RetryAfter: alarmPause,
		Err: errors.New("the broker has blocked publishers: it is short of memory or disk"),
	}
}
