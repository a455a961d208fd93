package e2e

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// contrast finds text that is too weak against what is behind it, by WCAG 2.2,
// 1.4.3 (level AA).
//
//go:embed testdata/contrast.js
var contrast string

// A browser is Chromium with one page open.
type browser struct {
	t    *testing.T
	ctx  context.Context
	site demoSite

	mu       sync.Mutex
	problems []string // what the console said
}

func newBrowser(t *testing.T, site demoSite) *browser {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			program = p
			break
		}
	}
	if program == "" {
		t.Fatal("no Chromium here: `make test` installs it, or deploy/setup.sh chromium")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(program), chromedp.NoSandbox,
		chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.WSURLReadTimeout(2*time.Minute))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 10*time.Minute)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, site: site}
	chromedp.ListenTarget(ctx, func(ev any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			b.problems = append(b.problems, "exception: "+ev.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			b.problems = append(b.problems, "console."+string(ev.Type))
		case *log.EventEntryAdded:
			if ev.Entry.Level == log.LevelError || ev.Entry.Level == log.LevelWarning {
				b.problems = append(b.problems, string(ev.Entry.Level)+": "+ev.Entry.Text+" "+ev.Entry.URL)
			}
		}
	})
	b.run(log.Enable())
	return b
}

func (b *browser) run(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// open loads a page of the site.
func (b *browser) open(path string) {
	b.t.Helper()
	b.run(chromedp.Navigate(b.site.API + path))
}

// clean fails the test with what the console said.
func (b *browser) clean(where string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		b.t.Errorf("%s: %s", where, p)
	}
	b.problems = nil
}

// submit presses the button with this text, and waits for the page that
// follows to say what it should.
func (b *browser) submit(button, says string) {
	b.t.Helper()
	b.press(button)
	b.sees(says)
}

// press clicks the button whose text begins so, where it is visible.
func (b *browser) press(button string) {
	b.t.Helper()
	xpath := fmt.Sprintf(`//button[starts-with(normalize-space(.), %q)]`, button)
	b.run(chromedp.Click(xpath, chromedp.BySearch))
}

// sees waits until the page has the text.
func (b *browser) sees(text string) {
	b.t.Helper()
	last := ""
	eventually(b.t, time.Minute, fmt.Sprintf("the page says %q", text), func() (bool, string) {
		var nodes []*cdp.Node
		ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
		defer cancel()
		if err := chromedp.Run(ctx, chromedp.Nodes("body", &nodes), chromedp.TextContent("body", &last)); err != nil {
			return false, err.Error()
		}
		return strings.Contains(last, text), tail(strings.Join(strings.Fields(last), " "), 600)
	})
}

func (b *browser) login() {
	b.t.Helper()
	b.open("/ui/login")
	b.run(chromedp.SendKeys("#token", b.site.Token))
	b.submit("Log in", "images indexed")
}

// look takes a picture of the whole page and holds it to what every page must
// be: nothing beside the screen, no weak text, a name for everything that can be
// used.
func (b *browser) look(name string, width int64, scheme string) {
	b.t.Helper()
	var picture []byte
	var beside bool
	var weak []string
	b.run(
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}),
		chromedp.EmulateViewport(width, 900),
		chromedp.Evaluate(`document.documentElement.scrollWidth > document.documentElement.clientWidth`, &beside),
		chromedp.Evaluate(contrast, &weak),
		chromedp.FullScreenshot(&picture, 100),
	)
	file := filepath.Join(b.t.ArtifactDir(), fmt.Sprintf("%s-%d-%s.png", name, width, scheme))
	if err := os.WriteFile(file, picture, 0o644); err != nil {
		b.t.Fatal(err)
	}
	if _, err := png.DecodeConfig(bytes.NewReader(picture)); err != nil {
		b.t.Errorf("%s: %v", file, err)
	}
	if beside {
		b.t.Errorf("%s: it is wider than %d pixels", name, width)
	}
	for _, w := range weak {
		b.t.Errorf("%s, %s: too little contrast: %s", name, scheme, w)
	}
	for _, n := range b.nameless() {
		b.t.Errorf("%s: a %s without a name", name, n)
	}
}

// nameless are the roles of things that can be used and have no name in the
// accessibility tree.
func (b *browser) nameless() []string {
	b.t.Helper()
	var out []string
	b.run(chromedp.ActionFunc(func(ctx context.Context) error {
		// Asked for by hand: the library refuses values newer than itself.
		var tree struct {
			Nodes []struct {
				Ignored    bool
				Role, Name struct{ Value any }
			}
		}
		if err := cdp.Execute(ctx, accessibility.CommandGetFullAXTree, nil, &tree); err != nil {
			return err
		}
		for _, n := range tree.Nodes {
			role, _ := n.Role.Value.(string)
			name, _ := n.Name.Value.(string)
			used := slices.Contains([]string{"link", "button", "textbox", "combobox", "checkbox", "heading"}, role)
			if used && !n.Ignored && strings.TrimSpace(name) == "" {
				out = append(out, role)
			}
		}
		return nil
	}))
	return out
}

// testBrowser goes through every page as a person does.
func testBrowser(t *testing.T, site demoSite) {
	b := newBrowser(t, site)
	links := b.everyPage()
	b.live()
	b.actions(links)
	b.keyboard()
}

// everyPage looks at each page in both colours and on a phone, and returns
// addresses that were found on the way.
func (b *browser) everyPage() (links map[string]string) {
	b.open("/ui/login")
	b.look("login", 1280, "light")
	b.look("login", 360, "dark")
	b.login()
	links = map[string]string{}
	first := func(page, selector string) {
		b.t.Helper()
		b.open(page)
		var ok bool
		var href string
		b.run(chromedp.AttributeValue(selector, "href", &href, &ok, chromedp.ByQuery))
		if !ok {
			b.t.Fatalf("%s has no %s", page, selector)
		}
		links[selector] = href
	}
	first("/ui/subscriptions", `td a[href^="/ui/subscriptions/"]`)
	subscription := links[`td a[href^="/ui/subscriptions/"]`]
	first(subscription, `td a[href^="/ui/deliveries/"]`)
	first("/ui/events?type=dev.tocsin.manifest.vulnerabilities_changed.v1", `td a[href^="/ui/events/"]`)
	for _, p := range []struct{ name, path, says string }{
		{"now", "/ui/", "Changed in the last 24 hours"},
		{"images", "/ui/images", "demo/shop:1.0"},
		{"image", "/ui/images/demo%2Fshop:1.0", "Known against it"},
		{"compare", "/ui/compare?a=demo/shop:1.0&b=demo/shop:1.0", "findings in both"},
		{"vulnerability", "/ui/vulnerabilities/CVE-2025-30204", "demo/shop:1.0"},
		{"vulnerabilities", "/ui/vulnerabilities", "Any id or alias"},
		{"events", "/ui/events", "Vulnerabilities changed"},
		{"event", links[`td a[href^="/ui/events/"]`], "Who was told"},
		{"subscriptions", "/ui/subscriptions", "p99"},
		{"subscription", subscription, "Deliveries"},
		{"delivery", links[`td a[href^="/ui/deliveries/"]`], "Attempts"},
		{"new-subscription", "/ui/subscriptions/new", "Which events"},
		{"feeds", "/ui/feeds", "osv/go"},
		{"jobs", "/ui/jobs", "manifest"},
		{"tokens", "/ui/tokens", "yours"},
		{"doctor", "/ui/doctor", "postgres.durability"},
		{"audit", "/ui/audit", "subscriptions.create"},
		{"nothing", "/ui/nothing", "There is nothing here"},
	} {
		b.open(p.path)
		b.sees(p.says)
		b.look(p.name, 1280, "light")
		b.look(p.name, 1280, "dark")
		b.look(p.name, 360, "light")
		if p.name == "nothing" {
			b.mu.Lock()
			b.problems = nil // the console tells of the 404
			b.mu.Unlock()
		}
		b.clean(p.name)
	}
	b.run(chromedp.EmulateViewport(1280, 900))
	return links
}

// live sees an event come without loading the page again.
func (b *browser) live() {
	b.open("/ui/events")
	b.run(chromedp.Evaluate(`window.stayed = true`, nil))
	// A message that nobody can understand is an event at once.
	b.site.publish(b.t, "tocsin.manifests", []byte("<xml/>"))
	var stayed bool
	b.sees("Message refused")
	b.run(chromedp.WaitVisible("tr.fresh"), chromedp.Evaluate(`window.stayed === true`, &stayed))
	if !stayed {
		b.t.Error("the page was loaded again")
	}
	b.clean("live")
}

// actions does everything that can be done, with script switched off.
func (b *browser) actions(links map[string]string) {
	b.run(emulation.SetScriptExecutionDisabled(true))
	defer b.run(emulation.SetScriptExecutionDisabled(false))

	b.open("/ui/images")
	b.run(chromedp.SendKeys(`input[name=image]`, "not a reference"))
	b.submit("Index", "is not a reference")

	b.open("/ui/vulnerabilities")
	b.run(chromedp.SendKeys(`input[name=id]`, "CVE-1999-0001"))
	b.submit("Which images have it?", "no such vulnerability")
	b.mu.Lock()
	b.problems = nil // the console tells of the 422 and the 404
	b.mu.Unlock()

	b.open("/ui/subscriptions/new")
	b.run(chromedp.SendKeys(`input[name=image]`, "demo/*"), chromedp.SetAttributeValue(`select[name=severity] option:nth-child(3)`, "selected", "", chromedp.ByQuery))
	b.submit("Show what it would have matched", "would have been sent")
	b.sees("Of the last")
	b.run(chromedp.SendKeys(`input[name=sink]`, "http://127.0.0.1:9/nobody"), chromedp.SendKeys(`input[name=name]`, "from the page"))
	b.submit("Subscribe", "shown this once")
	b.run(chromedp.Click(`a[href^="/ui/subscriptions/"]:not([href$=new]):not([href$="subscriptions/"])`, chromedp.ByQuery))
	b.sees("from the page")
	b.submit("Send a test event", "A test event is on its way")
	b.submit("Pause", "deliveries gather")
	b.submit("Resume", "Resumed.")
	b.submit("Send what is there now", "is on its way")
	b.submit("New signing secret", "shown this once: whsec_")
	b.run(chromedp.Click(`form[action$="/delete"] summary`, chromedp.ByQuery))
	b.submit("Delete it", "Deleted.")

	b.open(links[`td a[href^="/ui/deliveries/"]`])
	b.submit("Deliver it again", "Queued again.")
	b.open("/ui/feeds")
	b.submit("Run all now", "Queued.")

	b.open("/ui/tokens")
	b.run(chromedp.SendKeys(`input[name=name]`, "a reader"), chromedp.Click(`input[name=scope][value=read]`))
	b.submit("Make it", "shown this once: tocsin_")
	b.run(chromedp.Click(`//tr[contains(., "a reader")]//summary`, chromedp.BySearch), chromedp.Click(`//tr[contains(., "a reader")]//button`, chromedp.BySearch))
	b.sees("The token is revoked.")

	b.open("/ui/images/demo%2Fshop:1.0")
	b.run(chromedp.Click(`form[action$="/forget"] summary`, chromedp.ByQuery))
	b.submit("Forget it", "The image is forgotten.")
	b.clean("actions")
}

// keyboard logs out and in again without a mouse.
func (b *browser) keyboard() {
	b.open("/ui/")
	b.run(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter)) // skip to the content
	var at string
	b.run(chromedp.Evaluate(`location.hash`, &at))
	if at != "#main" {
		b.t.Errorf("the first tab leads to %q", at)
	}
	b.open("/ui/")
	b.run(chromedp.Focus(".me summary"), chromedp.KeyEvent(kb.Enter), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
	b.sees("API token")
	b.run(chromedp.KeyEvent("x"+b.site.Token[1:]), chromedp.KeyEvent(kb.Enter))
	b.sees("unknown, revoked or expired")
	b.mu.Lock()
	b.problems = nil // the console tells of the 401
	b.mu.Unlock()
	b.run(chromedp.KeyEvent(b.site.Token), chromedp.KeyEvent(kb.Enter))
	b.sees("images indexed")
	b.clean("keyboard")
}
