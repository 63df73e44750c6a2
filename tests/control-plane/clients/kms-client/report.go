package main

import (
	"maps"
	"math/bits"
	"sync"
	"time"
)

// report is what is printed at the end.
type report struct {
	Seconds float64 `json:"seconds"`
	// Methods has the calls that succeeded, with how long they took, the wait for a connection included.
	Methods map[string]latencies `json:"methods"`
	// Failures counts failed calls by method, gRPC code and text.
	Failures map[string]int `json:"failures"`
	// Dials counts attempts to connect by how they went.
	Dials map[string]int `json:"dials"`
	// Wrong counts seeds that came back as something else.
	Wrong int `json:"wrong"`
	// Mismatches counts Encrypts that named another key than the caller's Status before them.
	Mismatches int `json:"mismatches"`
	// Kept is how many wrapped seeds were kept until the end, and Reopened how many of them opened then.
	Kept     int `json:"kept"`
	Reopened int `json:"reopened"`
}

type latencies struct {
	Calls uint64  `json:"calls"`
	P50   float64 `json:"p50_us"`
	P90   float64 `json:"p90_us"`
	P99   float64 `json:"p99_us"`
	P999  float64 `json:"p999_us"`
	Max   float64 `json:"max_us"`
}

// tally is what one caller counts; only its goroutine touches it.
type tally struct {
	latencies  map[string]*histogram
	failures   map[string]int
	wrong      int
	mismatches int
}

func newTally() tally {
	return tally{latencies: map[string]*histogram{}, failures: map[string]int{}}
}

func (t *tally) latency(method string) *histogram {
	if t.latencies[method] == nil {
		t.latencies[method] = new(histogram)
	}
	return t.latencies[method]
}

func sum(seconds float64, callers []*caller, dials *counts) *report {
	r := &report{Seconds: seconds, Methods: map[string]latencies{}, Failures: map[string]int{}, Dials: dials.snapshot()}
	total := newTally()
	for _, c := range callers {
		for method, histogram := range c.latencies {
			total.latency(method).merge(histogram)
		}
		for failure, count := range c.failures {
			r.Failures[failure] += count
		}
		r.Wrong += c.wrong
		r.Mismatches += c.mismatches
		r.Kept += len(c.kept)
		r.Reopened += c.reopened
	}
	for method, histogram := range total.latencies {
		r.Methods[method] = histogram.latencies()
	}
	return r
}

// counts is a tally that several goroutines share.
type counts struct {
	lock sync.Mutex
	by   map[string]int
}

func newCounts() *counts {
	return &counts{by: map[string]int{}}
}

func (c *counts) add(what string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.by[what]++
}

// snapshot returns a copy, as connections go on dialling until the process ends.
func (c *counts) snapshot() map[string]int {
	c.lock.Lock()
	defer c.lock.Unlock()
	return maps.Clone(c.by)
}

// histogram counts durations with an error below 1.6 %: 64 buckets for each power of two nanoseconds.
type histogram struct {
	buckets [64 * 59]uint64
	count   uint64
	max     time.Duration
}

func (h *histogram) record(duration time.Duration) {
	nanoseconds := uint64(max(duration, 0))
	shift := max(bits.Len64(nanoseconds)-7, 0)
	h.buckets[shift<<6+int(nanoseconds>>shift)]++
	h.count++
	h.max = max(h.max, duration)
}

func (h *histogram) merge(other *histogram) {
	for i, count := range other.buckets {
		h.buckets[i] += count
	}
	h.count += other.count
	h.max = max(h.max, other.max)
}

// microseconds returns the lower end of the bucket below which a share of all durations is.
func (h *histogram) microseconds(share float64) float64 {
	rank, seen := uint64(share*float64(h.count)), uint64(0)
	for i, count := range h.buckets {
		if seen += count; seen > rank {
			shift := max(i>>6-1, 0)
			return float64(uint64(i-shift<<6)<<shift) / 1e3
		}
	}
	return float64(h.max) / 1e3
}

func (h *histogram) latencies() latencies {
	return latencies{
		Calls: h.count,
		P50:   h.microseconds(0.5),
		P90:   h.microseconds(0.9),
		P99:   h.microseconds(0.99),
		P999:  h.microseconds(0.999),
		Max:   float64(h.max) / 1e3,
	}
}
