package cli

import (
	"net/http"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/terminal"
)

type followCmd struct {
	Add    followAddCmd    `cmd:"" default:"withargs" help:"Follow a tag, or a pattern of tags (the default)."`
	List   followListCmd   `cmd:"" help:"List what is followed."`
	Remove followRemoveCmd `cmd:"" help:"Follow it no more."`
}

type followAddCmd struct {
	Image    string   `arg:"" help:"A reference; in its tag *, ? and [a-z] are as in a shell."`
	Schedule string   `help:"Cron specification: five fields in UTC, @hourly, or @every 6h." default:"@every 1h"`
	Platform []string `help:"Only this platform, as linux/arm64. May be repeated." placeholder:"OS/ARCH"`
}

func (followAddCmd) Help() string {
	return `The server asks the registry what the tag stands for, now and on the schedule: a new image is indexed, and the one that the
tag stood for before is superseded. Following an image again changes its schedule.

Examples:
  tocsin follow registry.example.com/team/app:latest
  tocsin follow 'registry.example.com/team/app:1.*' --schedule '30 3 * * *'
  tocsin follow list
  tocsin follow remove registry.example.com/team/app:latest`
}

func (c *followAddCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	var f v1.Follow
	if err := cl.call(http.MethodPost, "/follows", nil, v1.FollowRequest{Image: c.Image, Schedule: c.Schedule, Platforms: c.Platform}, &f); err != nil {
		return err
	}
	return e.print(f, func() error { return e.printf("%s\n", f.ID) })
}

type followListCmd struct{}

func (followListCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	all, err := list[v1.Follow](cl, "/follows", nil, 0)
	if err != nil {
		return err
	}
	return e.print(all, func() error {
		t := terminal.NewTable("ID", "IMAGE", "SCHEDULE", "NEXT", "LAST", "TAGS", "REASON")
		for _, f := range all {
			t.Row(e.id(f.ID), f.Image, f.Schedule, e.ago(&f.NextAt), e.ago(f.LookedAt), f.Images, f.Reason)
		}
		return e.table(t, "Nothing is followed.")
	})
}

type followRemoveCmd struct {
	Follow []string `arg:"" help:"Ids, or images as they were given."`
}

func (c *followRemoveCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	for _, f := range c.Follow {
		if err := cl.call(http.MethodDelete, "/follows/"+seg(f), nil, nil, nil); err != nil {
			return err
		}
	}
	return nil
}
