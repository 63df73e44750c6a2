package main

import (
	"fmt"
	"sync"
)

// The size of a value that fill writes, in bytes.
const valueSize = 1000

// How many requests fill has under way.
const fillers = 32

// bulk makes Secrets, or updates those that are there.
func bulk(kubeconfig string, filled, rewriters int) error {
	api, err := connect(kubeconfig)
	switch {
	case err != nil:
		return err
	case filled > 0:
		return fill(api, filled)
	default:
		return rewrite(api, rewriters)
	}
}

// fill makes count Secrets.
func fill(api *api, count int) error {
	value := fmt.Sprintf("%0*d", valueSize, count)
	return each(fillers, count, func(number int) bool {
		return api.create(newSecret(fmt.Sprintf("filled-%06d", number), value))
	})
}

// rewrite updates every Secret with what is in it, with so many requests under way.
func rewrite(api *api, atOnce int) error {
	all, _, err := api.secrets()
	if err != nil {
		return err
	}
	return each(atOnce, len(all), func(number int) bool {
		s := all[number]
		s.APIVersion, s.Kind = "v1", "Secret"
		return api.update(&s)
	})
}

// each calls do with every number below count, and says how many calls failed.
func each(atOnce, count int, do func(number int) bool) error {
	numbers := make(chan int)
	var lock sync.Mutex
	var workers sync.WaitGroup
	failed := 0
	for range atOnce {
		workers.Go(func() {
			for number := range numbers {
				if !do(number) {
					lock.Lock()
					failed++
					lock.Unlock()
				}
			}
		})
	}
	for number := range count {
		numbers <- number
	}
	close(numbers)
	workers.Wait()
	if failed > 0 {
		return fmt.Errorf("%d of %d requests failed", failed, count)
	}
	return nil
}
