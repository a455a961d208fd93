//go:build peers

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"
)

// measure asks both programs the same, in turns, and prints how long they take
// and what they do at a time; the last line has Tocsin's share of Clair's time.
func (p *peers) measure() {
	if p.clair == "" {
		return
	}
	const rounds = 15
	bases := map[string]string{"tocsin": p.base(), "clair": p.clair}
	known := p.image("known", "flask", "django", "requests")
	for _, b := range bases {
		p.index(b, known)
	}
	_, b, err := p.ask(p.clair, "GET", "/matcher/api/v1/vulnerability_report/"+known.Hash, nil)
	var report struct {
		Vulnerabilities map[string]map[string]any `json:"vulnerabilities"`
	}
	if err == nil {
		err = json.Unmarshal(b, &report)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	var question struct {
		Vulnerabilities []any `json:"vulnerabilities"`
	}
	for range 50 {
		for _, v := range report.Vulnerabilities {
			question.Vulnerabilities = append(question.Vulnerabilities, v)
		}
	}
	var fresh peerImage
	calls := []struct {
		name string
		do   func(base string) (int, error)
	}{
		{"post_new", func(base string) (int, error) {
			s, _, err := p.ask(base, "POST", "/indexer/api/v1/index_report", fresh)
			return s, err
		}},
		{"post_known", func(base string) (int, error) {
			s, _, err := p.ask(base, "POST", "/indexer/api/v1/index_report", known)
			return s, err
		}},
		{"report", func(base string) (int, error) {
			s, _, err := p.ask(base, "GET", "/matcher/api/v1/vulnerability_report/"+known.Hash, nil)
			return s, err
		}},
		{"affected", func(base string) (int, error) {
			s, _, err := p.ask(base, "POST", "/indexer/api/v1/internal/affected_manifest/", question)
			return s, err
		}},
		{"state", func(base string) (int, error) {
			s, _, err := p.ask(base, "GET", "/indexer/api/v1/index_state", nil)
			return s, err
		}},
	}
	ratios := map[string]float64{}
	for _, c := range calls {
		took := map[string][]time.Duration{}
		for round := range rounds {
			if c.name == "post_new" { // its push is not part of the time
				fresh = p.image(fmt.Sprintf("fresh%d", round), "flask", fmt.Sprintf("own%d", round))
			}
			for name, base := range bases {
				begin := time.Now()
				status, err := c.do(base)
				if err != nil || status/100 != 2 {
					p.t.Errorf("%s at %s: %d %v", c.name, name, status, err)
					return
				}
				took[name] = append(took[name], time.Since(begin))
			}
		}
		for _, list := range took {
			slices.Sort(list)
		}
		ours, theirs := took["tocsin"][rounds/2], took["clair"][rounds/2]
		ratios[c.name] = ours.Seconds() / theirs.Seconds()
		fmt.Printf("latency  %-10s tocsin %8.1fms  clair %8.1fms\n", c.name, ours.Seconds()*1000, theirs.Seconds()*1000)
		if c.name == "post_new" {
			continue
		}
		rate := map[string]float64{}
		for name, base := range bases {
			rate[name] = throughput(func() error {
				_, err := c.do(base)
				return err
			})
		}
		fmt.Printf("rate     %-10s tocsin %8.0f/s   clair %8.0f/s, 8 clients\n", c.name, rate["tocsin"], rate["clair"])
	}
	fmt.Printf("clair post_new=%.2f post_known=%.2f report=%.2f affected=%.2f\n", ratios["post_new"], ratios["post_known"], ratios["report"], ratios["affected"])
}

// throughput is how often eight clients get an answer in a second.
func throughput(do func() error) float64 {
	const clients, window = 8, 3 * time.Second
	var mu sync.Mutex
	var wg sync.WaitGroup
	answers := 0
	end := time.Now().Add(window)
	for range clients {
		wg.Go(func() {
			for time.Now().Before(end) {
				if do() != nil {
					return
				}
				mu.Lock()
				answers++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return float64(answers) / window.Seconds()
}
