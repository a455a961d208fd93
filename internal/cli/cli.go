package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/alecthomas/kong"

	"tocsin.dev/tocsin/internal/config"
	v1 "tocsin.dev/tocsin/internal/httpapi/v1"
	"tocsin.dev/tocsin/internal/terminal"
)

// Exit codes.
const (
	ExitOK          = 0 // done
	ExitFailed      = 1 // something went wrong
	ExitUsage       = 2 // the command line is wrong
	ExitFound       = 3 // report --fail-on found something
	ExitUnreachable = 4 // no server answers
	ExitRefused     = 5 // the server refused the token
)

// DemoOptions are how to run the demo.
type DemoOptions struct {
	Keep bool // stay up afterwards
	Dir  string
}

// Actions are what the program does besides talking to a server.
type Actions struct {
	// Defaults are the configuration with nothing configured.
	Defaults config.Config
	// Check finds what is wrong with a valid configuration in the eyes of the
	// parts it is for, and starts nothing.
	Check func(c config.Config) error
	// Serve runs until ctx ends.
	Serve func(ctx context.Context, c config.Config) error
	// Migrate brings the database up to date and says what it did.
	Migrate func(ctx context.Context, c config.Config, w io.Writer) error
	// TakeOver takes over a database of Clair's, or says what that would do.
	TakeOver func(ctx context.Context, c config.Config, dry bool) (ClairTakeover, error)
	// ExportUpdaters runs the updaters of the configuration, only the named
	// sets if any are named, and writes their data to w as an airgap archive,
	// compressed by the ending of name.
	ExportUpdaters func(ctx context.Context, c config.Config, sets []string, name string, w io.Writer, progress func(string)) error
	// Demo shows the whole flow.
	Demo    func(ctx context.Context, o DemoOptions, out io.Writer, style terminal.Style) error
	Version v1.Version
}

// Streams are the program's input and outputs.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// commands is the command line as kong reads it.
type commands struct {
	Server  string        `help:"URL of the server." env:"TOCSIN_SERVER" placeholder:"URL"`
	Token   string        `help:"API token; better in the environment than here." env:"TOCSIN_TOKEN" placeholder:"TOKEN"`
	DataDir string        `help:"Data directory, where the token of a local server is found." env:"TOCSIN_DATA_DIR" placeholder:"DIR"`
	Output  string        `help:"Format of the output: table or json." short:"o" enum:"table,json" default:"table"`
	JSON    bool          `name:"json" help:"The same as --output json."`
	Timeout time.Duration `help:"How long one request may take." default:"60s"`

	Serve   serveCmd   `cmd:"" group:"run" help:"Run the server."`
	Demo    demoCmd    `cmd:"" group:"run" help:"Show the whole flow in less than a minute."`
	Migrate migrateCmd `cmd:"" group:"run" help:"Bring the database up to date, or take over Clair's."`
	Config  configCmd  `cmd:"" group:"run" help:"Check or print the configuration."`
	Health  healthCmd  `cmd:"" group:"run" help:"Say whether the server is there and ready."`
	Doctor  doctorCmd  `cmd:"" group:"run" help:"Look whether the deployment is as it should be, and say what to do."`
	Version versionCmd `cmd:"" group:"run" help:"Print the version."`

	Completion  completionCmd    `cmd:"" group:"run" help:"Print what a shell needs to complete commands."`
	Man         manCmd           `cmd:"" group:"run" help:"Print the manual, or write a page a command."`
	ShowVersion kong.VersionFlag `name:"version" help:"Print the version."`

	Index    indexCmd    `cmd:"" group:"images" help:"Have images indexed."`
	Images   imagesCmd   `cmd:"" group:"images" help:"List, show or forget images."`
	Follow   followCmd   `cmd:"" group:"images" help:"Ask for tags again on a schedule."`
	Report   reportCmd   `cmd:"" group:"images" help:"Print the vulnerabilities of an image."`
	Affected affectedCmd `cmd:"" group:"images" help:"List the images that have a vulnerability."`
	Diff     diffCmd     `cmd:"" group:"images" help:"Say what changed for which image between two updates."`

	Subscribe     subscribeCmd     `cmd:"" group:"hub" help:"Send events to a URL."`
	Subscriptions subscriptionsCmd `cmd:"" group:"hub" help:"List, show, pause, test or delete subscriptions."`
	Events        eventsCmd        `cmd:"" group:"hub" help:"List or show events."`
	Deliveries    deliveriesCmd    `cmd:"" group:"hub" help:"List deliveries, show their attempts, or drop them."`
	Replay        replayCmd        `cmd:"" group:"hub" help:"Deliver again, one or many."`
	Listen        listenCmd        `cmd:"" group:"hub" help:"Receive events and print them."`
	Stats         statsCmd         `cmd:"" group:"hub" help:"Backlog, success rate and latency by subscription."`

	Updaters updatersCmd `cmd:"" group:"feeds" help:"Run, list, export or import vulnerability feeds."`
	Jobs     jobsCmd     `cmd:"" group:"feeds" help:"List jobs, and try failed ones again."`
	Tokens   tokensCmd   `cmd:"" group:"feeds" help:"Make, list or revoke API tokens."`
	Audit    auditCmd    `cmd:"" group:"feeds" help:"Say who did what."`
}

// env is what a command runs in.
type env struct {
	ctx     context.Context
	in      io.Reader
	out     io.Writer
	err     io.Writer
	style   terminal.Style // of out
	notice  terminal.Style // of err
	json    bool
	width   int // columns of the terminal; 0 where the output is none
	now     func() time.Time
	actions Actions
	global  *commands
}

const about = `Tocsin tells you when a vulnerability feed changes what is known about the container images you run.

Quick start:
  tocsin serve                                        run everything, with no configuration
  tocsin index alpine:3.20                            tell it of an image
  tocsin subscribe https://example.com/hook --severity high --fixable
  tocsin listen --subscribe                           watch events come in

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 found or unknown (report --fail-on), 4 no server answers, 5 token refused.`

// Main runs the program with its arguments (without its name) and returns the
// exit code.
func Main(ctx context.Context, args []string, s Streams, a Actions) int {
	var c commands
	exited := -1
	e := &env{
		ctx: ctx, in: s.In, out: s.Out, err: s.Err, now: time.Now, actions: a, global: &c,
		style: terminal.StyleFor(s.Out), notice: terminal.StyleFor(s.Err),
	}
	parser, err := newParser(&c, s, func(code int) {
		if exited < 0 {
			exited = code
		}
	}, a.Version)
	if err != nil {
		fmt.Fprintln(s.Err, "tocsin: the command line is built wrongly:", err)
		return ExitFailed
	}
	if e.complete(parser) {
		return ExitOK
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if exited >= 0 { // --help has been printed
		return exited
	}
	if err != nil {
		fmt.Fprintf(s.Err, "tocsin: %v\n%s\n", err, hintFor(err))
		return ExitUsage
	}
	e.json, e.width = c.Output == "json" || c.JSON, terminal.Width(s.Out)
	return e.report(k.Run(e))
}

// newParser is the command line's parser; it reads into c.
func newParser(c *commands, s Streams, exit func(int), version v1.Version) (*kong.Kong, error) {
	c.Subscribe.Plugins = kong.Plugins{settingFlags()}
	return kong.New(c,
		kong.Name("tocsin"),
		kong.Vars{"sinks": sinkExamples(), "version": versionLine(version)},
		kong.Description(about),
		kong.Writers(s.Out, s.Err),
		kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "run", Title: "Running it:"},
			{Key: "images", Title: "Images:"},
			{Key: "hub", Title: "Events and subscribers:"},
			{Key: "feeds", Title: "Feeds, work and access:"},
		}),
	)
}

func hintFor(err error) string {
	command := ""
	if pe, ok := errors.AsType[*kong.ParseError](err); ok && pe.Context != nil {
		for _, p := range pe.Context.Path {
			if p.Command != nil {
				command += " " + p.Command.Name
			}
		}
	}
	return "Try: tocsin" + command + " --help"
}

// report tells the person what went wrong, and returns the exit code.
func (e *env) report(err error) int {
	if err == nil {
		return ExitOK
	}
	if f, ok := errors.AsType[*found](err); ok {
		fmt.Fprintln(e.err, f.Error())
		return ExitFound
	}
	if errors.Is(err, context.Canceled) && e.ctx.Err() != nil {
		fmt.Fprintln(e.err, "tocsin: interrupted")
		return ExitFailed
	}
	fmt.Fprintf(e.err, "%s %v\n", e.notice.Bad("tocsin:"), err)
	code := ExitFailed
	if h, ok := errors.AsType[*hinted](err); ok {
		fmt.Fprintln(e.err, h.hint)
		if h.code != 0 {
			code = h.code
		}
	}
	return code
}

// hinted is an error with what to do about it.
type hinted struct {
	error
	hint string
	code int // exit code; 0 for ExitFailed
}

func (h *hinted) Unwrap() error { return h.error }

// found is the outcome of report --fail-on.
type found struct{ text string }

func (f *found) Error() string { return f.text }

// usage is an error of the command line that kong cannot see.
func usage(format string, args ...any) error {
	return &hinted{error: fmt.Errorf(format, args...), hint: "The command's --help says more.", code: ExitUsage}
}

// notef tells the person something that is not a result.
func (e *env) notef(format string, args ...any) { fmt.Fprintf(e.err, format+"\n", args...) }

// dataDir is where the server of this machine keeps its data.
func (e *env) dataDir() string {
	if e.global.DataDir != "" {
		return e.global.DataDir
	}
	return config.Default().DataDir
}
