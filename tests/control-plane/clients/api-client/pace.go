package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"
)

// How many Secrets the paced client updates in turn.
const pacedSecrets = 100

// paced is the report of a paced client. A time is from when a request was due until it was answered.
type paced struct {
	Requests int     `json:"requests"`
	Failed   int     `json:"failed"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
}

// pace makes so many requests a second until SIGTERM, whether or not the ones before were answered: in turn it reads a
// Secret that was there before and updates one of its own. Then it prints how long they took.
func pace(kubeconfig string, perSecond int) error {
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	api, err := connect(kubeconfig)
	if err != nil {
		return err
	}
	old, _, err := api.secrets()
	if err == nil && len(old) == 0 {
		err = errors.New("there is no Secret to read")
	}
	if err != nil {
		return err
	}
	own := func(number int) *secret { return newSecret(fmt.Sprintf("paced-%d", number%pacedSecrets), "value") }
	for number := range pacedSecrets {
		api.try("create", "POST", path, own(number), nil)
	}
	var lock sync.Mutex
	var took []float64
	failed := 0
	request := func(number int, due time.Time) {
		var done bool
		if number%2 == 0 {
			s := old[number/2%len(old)]
			done = api.expect(s.Metadata.Name, s.value())
		} else {
			done = api.update(own(number / 2))
		}
		lock.Lock()
		defer lock.Unlock()
		took = append(took, time.Since(due).Seconds()*1000)
		if !done {
			failed++
		}
	}
	var requests sync.WaitGroup
	begin, gap := time.Now(), time.Second/time.Duration(perSecond)
	for number := 0; stop.Err() == nil; number++ {
		due := begin.Add(time.Duration(number) * gap)
		time.Sleep(time.Until(due))
		requests.Go(func() { request(number, due) })
	}
	requests.Wait()
	slices.Sort(took)
	at := func(part float64) float64 { return took[int(math.Ceil(part*float64(len(took))))-1] }
	return json.NewEncoder(os.Stdout).Encode(paced{len(took), failed, at(0.5), at(0.99)})
}
