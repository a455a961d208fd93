package v1

import "time"

// FollowRequest asks for a tag to be asked for again on a schedule.
type FollowRequest struct {
	Image     string   `json:"image" doc:"A reference; in its tag *, ? and [a-z] are as in a shell" minLength:"1" maxLength:"512" example:"registry.example/team/app:latest"`
	Schedule  string   `json:"schedule,omitempty" doc:"Cron specification: five fields in UTC, @hourly, or @every 6h; default: @every 1h" maxLength:"100"`
	Platforms []string `json:"platforms,omitempty" doc:"Only these, as os/arch" maxItems:"20"`
}

// Follow is a tag, or a pattern of tags, that is asked for on a schedule.
type Follow struct {
	ID        string     `json:"id"`
	Image     string     `json:"image"`
	Schedule  string     `json:"schedule"`
	Platforms []string   `json:"platforms" nullable:"false"`
	NextAt    time.Time  `json:"next_at"`
	LookedAt  *time.Time `json:"looked_at,omitempty" doc:"When it was last asked for"`
	Images    int        `json:"images" doc:"Tags there were then"`
	Reason    string     `json:"reason,omitempty" doc:"Why the last look failed"`
	CreatedAt time.Time  `json:"created_at"`
}
