package main

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// report is what is printed at the end.
type report struct {
	Seconds float64 `json:"seconds"`
	// Requests counts them by verb, failed ones included; the slowest are in milliseconds.
	Requests map[string]int     `json:"requests"`
	Slowest  map[string]float64 `json:"slowest_ms"`
	// Failures counts everything that was not as expected, by verb and text.
	Failures map[string]int `json:"failures"`
	// Events counts what all watchers saw, Disordered those that came after a later one, and Lost the lives of Secrets
	// of which a watcher saw something else than what was written.
	Events     int `json:"events"`
	Disordered int `json:"disordered"`
	Lost       int `json:"lost"`
	// Repeated counts the events of writes that changed nothing but how the value is encrypted.
	Repeated int `json:"repeated"`
}

func (a *api) report(seconds float64, j *journal) *report {
	a.lock.Lock()
	defer a.lock.Unlock()
	j.lock.Lock()
	defer j.lock.Unlock()
	return &report{seconds, a.requests, a.slowest, a.failures, j.events, j.disordered, j.lost(), j.repeated}
}

// journal holds what was written against what each watcher saw, for each name.
type journal struct {
	lock       sync.Mutex
	written    map[string][]string
	seen       []map[string][]string
	latest     []uint64
	events     int
	disordered int
	repeated   int
}

func newJournal(watchers int) *journal {
	j := &journal{written: map[string][]string{}, seen: make([]map[string][]string, watchers), latest: make([]uint64, watchers)}
	for i := range j.seen {
		j.seen[i] = map[string][]string{}
	}
	return j
}

func (j *journal) wrote(name string, events []string) {
	j.lock.Lock()
	defer j.lock.Unlock()
	j.written[name] = events
}

func (j *journal) saw(watcher int, event string, s *secret) {
	j.lock.Lock()
	defer j.lock.Unlock()
	j.events++
	if version, err := strconv.ParseUint(s.Metadata.ResourceVersion, 10, 64); err != nil || version <= j.latest[watcher] {
		j.disordered++
	} else {
		j.latest[watcher] = version
	}
	name := s.Metadata.Name
	if seen := j.seen[watcher][name]; event == "MODIFIED" && len(seen) > 0 && strings.HasSuffix(seen[len(seen)-1], " "+s.value()) {
		j.repeated++
		return
	}
	j.seen[watcher][name] = append(j.seen[watcher][name], event+" "+s.value())
}

// wait returns when every watcher has seen everything, or after the limit.
func (j *journal) wait(limit time.Duration) {
	for begin := time.Now(); time.Since(begin) < limit; time.Sleep(50 * time.Millisecond) {
		j.lock.Lock()
		lost := j.lost()
		j.lock.Unlock()
		if lost == 0 {
			return
		}
	}
}

func (j *journal) lost() int {
	lost := 0
	for _, seen := range j.seen {
		for name, events := range j.written {
			if !slices.Equal(seen[name], events) {
				lost++
			}
		}
	}
	return lost
}
