package postgres

import "time"

// What tests outside of the package need.
var (
	FindBinaries = findBinaries
	FreePort     = freePort
)

// SetPatience sets how long a server that does not start is tried again.
func (c *Cluster) SetPatience(d time.Duration) { c.patience = d }
