// Command api-client is a small crowd of users of an API server's Secrets, and tells what went wrong for them.
//
// Writers take Secrets through their lives: created, read back, updated, read back, listed, deleted. Readers read Secrets
// that were there before, whose seeds the API server may have to ask its KMS plugin for. Watchers must see every write,
// in order. Every answer other than the expected one is a failure, and none is tried again. One JSON object on standard
// output is the report.
//
// It judges nothing: exit code 0 means that it ran to its end, at SIGTERM.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// For the watchers to catch up with the last write.
const catchUp = 10 * time.Second

func main() {
	kubeconfig := flag.String("kubeconfig", "", "whom to talk to, as the test harness writes it")
	crowd := flag.Int("crowd", 4, "how many writers, and how many readers")
	watchers := flag.Int("watchers", 2, "how many watchers")
	filled := flag.Int("fill", 0, "make so many Secrets, and nothing else")
	rewriters := flag.Int("rewrite", 0, "update every Secret once by so many requests at a time, and nothing else")
	perSecond := flag.Int("pace", 0, "make so many requests a second until SIGTERM, and tell how long they took")
	flag.Parse()
	if *perSecond > 0 {
		if err := pace(*kubeconfig, *perSecond); err != nil {
			fmt.Fprintln(os.Stderr, "api-client:", err)
			os.Exit(1)
		}
		return
	}
	if *filled > 0 || *rewriters > 0 {
		if err := bulk(*kubeconfig, *filled, *rewriters); err != nil {
			fmt.Fprintln(os.Stderr, "api-client:", err)
			os.Exit(1)
		}
		return
	}
	report, err := run(*kubeconfig, *crowd, *watchers)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(report)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "api-client:", err)
		os.Exit(1)
	}
}

func run(kubeconfig string, crowd, watchers int) (*report, error) {
	if kubeconfig == "" || crowd < 1 || flag.NArg() > 0 {
		return nil, errors.New("expected --kubeconfig, and at least one writer and reader; see --help")
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	api, err := connect(kubeconfig)
	if err != nil {
		return nil, err
	}
	old, version, err := api.secrets()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	journal := newJournal(watchers)
	watching, unwatch := context.WithCancel(context.Background())
	for number := range watchers {
		go api.watch(watching, version, func(event string, s *secret) { journal.saw(number, event, s) })
	}
	var users sync.WaitGroup
	for number := range crowd {
		users.Go(func() { write(stop, api, journal, number) })
		users.Go(func() { read(stop, api, old) })
	}
	users.Wait()
	seconds := time.Since(begin).Seconds()
	journal.wait(catchUp)
	unwatch()
	return api.report(seconds, journal), nil
}

// write takes Secrets through their lives until it is told to stop; a life that has begun is lived to its end.
func write(stop context.Context, api *api, journal *journal, writer int) {
	for number := 0; stop.Err() == nil; number++ {
		s := newSecret(fmt.Sprintf("written-%d-%d", writer, number), "first")
		if live(api, s) {
			journal.wrote(s.Metadata.Name, []string{"ADDED first", "MODIFIED second", "DELETED second"})
		}
	}
}

// live says whether every step went well, so that watchers must have seen all of it.
func live(api *api, s *secret) bool {
	name := s.Metadata.Name
	return api.create(s) && api.expect(name, "first") &&
		api.update(newSecret(name, "second")) && api.expect(name, "second") &&
		api.listed(name) && api.delete(name)
}

// read reads the Secrets that were there before, and compares them with what they were.
func read(stop context.Context, api *api, old []secret) {
	for stop.Err() == nil {
		for _, s := range old {
			api.expect(s.Metadata.Name, s.value())
		}
		if len(old) == 0 {
			return
		}
	}
}
