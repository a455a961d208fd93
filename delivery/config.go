package delivery

import "time"

// WithDefaults fills in what c leaves open.
func (c Config) WithDefaults() Config {
	def(&c.Timeout, 15*time.Second)
	def(&c.Concurrency, 16)
	def(&c.Burst, 1)
	def(&c.Mode, Structured)
	def(&c.BatchSize, 64)
	if c.Schedule == nil {
		c.Schedule = DefaultSchedule()
	}
	b := &c.Breaker
	def(&b.Failures, 10)
	def(&b.Ratio, 0.6)
	def(&b.Window, time.Minute)
	def(&b.Minimum, 20)
	def(&b.Open, 10*time.Second)
	def(&b.MaxOpen, 15*time.Minute)
	def(&b.DisableAfter, 5*24*time.Hour)
	return c
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
