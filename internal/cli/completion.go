package cli

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/posener/complete"
	"github.com/willabides/kongplete"

	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/schemas"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (completionCmd) Help() string {
	return `Prints what a shell needs to complete commands, flags and their values; names of subscriptions and images are asked of
the server.

Examples:
  tocsin completion bash > /etc/bash_completion.d/tocsin
  source <(tocsin completion zsh)
  tocsin completion fish > ~/.config/fish/completions/tocsin.fish`
}

// The program completes by itself, with the line in COMP_LINE.
var completions = map[string]string{
	"bash": "complete -o default -C tocsin tocsin\n",
	"zsh":  "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\ncomplete -o default -C tocsin tocsin\n",
	"fish": `function __tocsin_complete
    set -lx COMP_LINE (commandline -cp)
    test -z (commandline -ct); and set COMP_LINE "$COMP_LINE "
    tocsin
end
complete -f -c tocsin -a "(__tocsin_complete)"
`,
}

func (c *completionCmd) Run(e *env) error { return e.printf("%s", completions[c.Shell]) }

// completeTimeout bounds how long a shell waits for the server.
const completeTimeout = time.Second

// complete answers a shell that asks for completions, and reports whether one
// did: it gives the line typed so far in the environment.
func (e *env) complete(parser *kong.Kong) bool {
	command, err := kongplete.Command(parser, kongplete.WithPredictors(e.predictors()))
	if err != nil {
		return false
	}
	withDefaults(parser.Model.Node, &command)
	done := complete.New("tocsin", command)
	done.Out = e.out
	return done.Complete()
}

// withDefaults gives a command the flags and arguments of its subcommand that
// may be left out.
func withDefaults(n *kong.Node, c *complete.Command) {
	for _, child := range n.Children {
		sub, ok := c.Sub[child.Name]
		if !ok {
			continue
		}
		withDefaults(child, &sub)
		c.Sub[child.Name] = sub
	}
	if n.DefaultCmd == nil {
		return
	}
	if sub, ok := c.Sub[n.DefaultCmd.Name]; ok {
		for name, p := range sub.GlobalFlags {
			c.GlobalFlags[name] = p
		}
		c.Args = sub.Args
	}
}

// predictors are the words that a flag or argument with the tag predictor may have.
func (e *env) predictors() map[string]complete.Predictor {
	words := func(w ...string) complete.Predictor { return complete.PredictSet(w...) }
	ask := func(names func(cl *client) []string) complete.Predictor {
		return complete.PredictFunc(func(complete.Args) []string {
			e.global.Timeout = completeTimeout
			if e.global.DataDir == "" {
				e.global.DataDir = e.dataDir()
			}
			cl, err := e.client()
			if err != nil {
				return nil
			}
			return names(cl)
		})
	}
	short := make([]string, 0, len(schemas.Types))
	for _, t := range schemas.Types {
		short = append(short, shortType(t))
	}
	severities := make([]string, len(schemas.SeverityNames))
	for i, s := range schemas.SeverityNames {
		severities[i] = strings.ToLower(s)
	}
	return map[string]complete.Predictor{
		"file":           complete.PredictFiles("*"),
		"delivery-state": words("pending", "delivered", "dead", "dropped"),
		"job-state":      words("queued", "running", "done", "failed"),
		"job-kind":       words("manifest", "update"),
		"event-type":     words(short...),
		"severity":       words(severities...),
		"scope":          words("admin", "read", "publish", "subscriptions"),
		"role":           words("indexer", "updater", "matcher", "notifier", "delivery"),
		"subscription": ask(func(cl *client) (out []string) {
			subs, _ := list[schemas.Subscription](cl, "/subscriptions", nil, 200) // without an answer nothing is completed
			for _, s := range subs {
				out = append(out, s.ID)
				if s.Name != "" && !strings.ContainsAny(s.Name, " \t") {
					out = append(out, s.Name)
				}
			}
			return out
		}),
		"image": ask(func(cl *client) (out []string) {
			images, _ := list[v1.Image](cl, "/images", url.Values{}, 200)
			for _, i := range images {
				out = append(out, i.Names...)
			}
			return out
		}),
		"updater-set": ask(func(cl *client) (out []string) {
			var page v1.Page[v1.UpdaterSet]
			_ = cl.call("GET", "/updaters", nil, nil, &page)
			for _, s := range page.Items {
				out = append(out, s.Name)
			}
			return out
		}),
	}
}

// shortType is an event type as people write it.
func shortType(t string) string {
	return strings.TrimSuffix(strings.TrimPrefix(t, schemas.TypePrefix), ".v1")
}

// versionLine is what `tocsin version` and --version print.
func versionLine(v v1.Version) string {
	line := "tocsin " + v.Version
	if v.Commit != "" {
		line += " (" + v.Commit + ")"
	}
	return fmt.Sprintf("%s, claircore %s, %s %s", line, v.Claircore, v.Go, platform)
}
