package cli

import (
	"fmt"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/terminal"
)

type doctorCmd struct {
	All bool `help:"Show what is well, too."`
}

func (doctorCmd) Help() string {
	return `Asks the server to look at PostgreSQL (version, durability, connections, clock), NATS, disk, listeners, keys, tokens, feeds, work
and subscriptions, and says what to do about what it finds. It writes nothing but what readiness writes to prove itself. Exits 1 if something failed, 0 if there are
warnings alone.

Examples:
  tocsin doctor
  tocsin doctor --all
  tocsin doctor -o json | jq '.checks[] | select(.status != "ok")'`
}

func (c *doctorCmd) Run(e *env) error {
	cl, err := e.client()
	if err != nil {
		return err
	}
	var d v1.Doctor
	if err := cl.call("GET", "/doctor", nil, nil, &d); err != nil {
		return err
	}
	count := map[string]int{}
	for _, check := range d.Checks {
		count[check.Status]++
	}
	if err := e.print(d, func() error { return c.show(e, d, count) }); err != nil {
		return err
	}
	if n := count["failed"]; n > 0 {
		return fmt.Errorf("%s failed", terminal.Count(n, "check"))
	}
	return nil
}

func (c *doctorCmd) show(e *env, d v1.Doctor, count map[string]int) error {
	for _, status := range []string{"failed", "warning", "ok"} {
		if status == "ok" && !c.All {
			continue
		}
		for _, check := range d.Checks {
			if check.Status != status {
				continue
			}
			if err := e.printf("%s  %s: %s\n", e.style.State(check.Status), e.style.Bold(terminal.Clean(check.Name)), terminal.Clean(check.Says)); err != nil {
				return err
			}
			if check.Do != "" {
				if err := e.printf("    %s\n", terminal.Clean(check.Do)); err != nil {
					return err
				}
			}
		}
	}
	if count["failed"]+count["warning"] == 0 {
		return e.printf("%s\n", e.style.Good(fmt.Sprintf("All is well: %s.", terminal.Count(count["ok"], "check"))))
	}
	return e.printf("%d well, %s, %d failed\n", count["ok"], terminal.Count(count["warning"], "warning"), count["failed"])
}
