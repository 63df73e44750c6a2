// Command kms-client calls a KMS v2 plugin as a kube-apiserver does, checks every answer, and tells what it saw.
//
// Each connection has the dialer, the authority, the waiting for a connection, the back-off and the time limit that
// k8s.io/apiserver v0.37.2 gives its own (pkg/storage/value/encrypt/envelope/kmsv2/grpc_service.go), so that what fails
// here fails there. Each caller repeats a round of calls; every Decrypt is compared with the seed that was wrapped, and
// at the end everything that was kept is opened once more. One JSON object on standard output is the report.
//
// It judges nothing: exit code 0 means that it ran to its end, by a limit or by SIGTERM.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	kms "k8s.io/kms/apis/v2"
)

var methods = []string{"Status", "Encrypt", "Decrypt"}

type options struct {
	socket          string
	callers         int
	connections     int
	duration        time.Duration
	calls           int64
	round           []string
	keep            int
	failFast        bool
	reconnectWithin time.Duration
}

func main() {
	report, err := run(parse())
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(report)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kms-client:", err)
		os.Exit(1)
	}
}

func parse() options {
	var o options
	round := flag.String("round", "Status,Encrypt,Decrypt,Decrypt", "the calls that a caller repeats")
	seconds := flag.Float64("seconds", 0, "how long to call; 0 means until SIGTERM")
	flag.StringVar(&o.socket, "socket", "", "path of the plugin's socket, or @name")
	flag.IntVar(&o.callers, "callers", 8, "how many call at a time")
	flag.IntVar(&o.connections, "connections", 1, "how many connections they share; an API server has one for each provider")
	flag.Int64Var(&o.calls, "calls", 0, "how many calls to make; 0 means no limit")
	flag.IntVar(&o.keep, "keep", 256, "how many seeds a caller keeps, from all of its time alike")
	flag.BoolVar(&o.failFast, "fail-fast", false, "fail at once without a connection, where a kube-apiserver waits for one")
	flag.DurationVar(&o.reconnectWithin, "reconnect-within", 0, "cap of the back-off; 0 means a kube-apiserver's, 1 s to 2 min")
	flag.Parse()
	o.duration = time.Duration(*seconds * float64(time.Second))
	o.round = strings.Split(*round, ",")
	return o
}

// run calls until a limit or a signal, opens what was kept, and sums up.
func run(o options) (*report, error) {
	unknown := slices.ContainsFunc(o.round, func(method string) bool { return !slices.Contains(methods, method) })
	if o.socket == "" || o.callers < 1 || o.connections < 1 || o.keep < 1 || unknown || flag.NArg() > 0 {
		return nil, errors.New("expected --socket, at least one caller, connection and seed to keep, and known methods; see --help")
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	if o.duration > 0 {
		stop, cancel = context.WithTimeout(stop, o.duration)
		defer cancel()
	}
	dials := newCounts()
	connections, err := connect(o, dials)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	callers := o.callersOn(connections)
	together(callers, func(c *caller) { c.repeat(stop, o.round) })
	seconds := time.Since(begin).Seconds()
	for _, connection := range connections {
		connection.ResetConnectBackoff()
	}
	together(callers, (*caller).reopen)
	return sum(seconds, callers, dials), nil
}

func connect(o options, dials *counts) ([]*grpc.ClientConn, error) {
	connections := make([]*grpc.ClientConn, o.connections)
	for i := range connections {
		connection, err := o.dial(dials)
		if err != nil {
			return nil, err
		}
		connections[i] = connection
	}
	return connections, nil
}

// dial makes a connection as a kube-apiserver does, with grpc.Dial, which is deprecated but what it calls.
func (o options) dial(dials *counts) (*grpc.ClientConn, error) {
	dialer := func(context.Context, string) (net.Conn, error) {
		connection, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: o.socket})
		dials.add(outcome(err))
		return connection, err
	}
	settings := []grpc.DialOption{
		grpc.WithAuthority("localhost"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(!o.failFast)),
		grpc.WithContextDialer(dialer),
	}
	if o.reconnectWithin > 0 {
		eager := backoff.DefaultConfig
		eager.BaseDelay, eager.MaxDelay = o.reconnectWithin/4, o.reconnectWithin
		settings = append(settings, grpc.WithConnectParams(grpc.ConnectParams{Backoff: eager, MinConnectTimeout: 20 * time.Second}))
	}
	return grpc.Dial(o.socket, settings...)
}

// outcome names how a dial went: "connected", or the system's word for why not.
func outcome(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "connected"
	case errors.As(err, &errno):
		return errno.Error()
	default:
		return err.Error()
	}
}

func (o options) callersOn(connections []*grpc.ClientConn) []*caller {
	budget := new(atomic.Int64)
	budget.Store(o.calls)
	if o.calls == 0 {
		budget.Store(1 << 62)
	}
	callers := make([]*caller, o.callers)
	for i := range callers {
		client := kms.NewKeyManagementServiceClient(connections[i%len(connections)])
		callers[i] = &caller{number: i, kms: client, budget: budget, keep: o.keep, tally: newTally()}
	}
	return callers
}

func together(callers []*caller, work func(*caller)) {
	var all sync.WaitGroup
	for _, c := range callers {
		all.Go(func() { work(c) })
	}
	all.Wait()
}
