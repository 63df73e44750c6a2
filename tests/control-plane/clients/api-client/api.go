package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	path = "/api/v1/namespaces/default/secrets"
	// The one entry of every Secret here.
	entry = "value"
	// For one request; a kube-apiserver gives itself 60 s.
	requestTimeout = 60 * time.Second
)

type secret struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   metadata          `json:"metadata"`
	Data       map[string][]byte `json:"data"`
}

type metadata struct {
	Name            string `json:"name"`
	ResourceVersion string `json:"resourceVersion,omitempty"`
}

func newSecret(name, value string) *secret {
	return &secret{"v1", "Secret", metadata{Name: name}, map[string][]byte{entry: []byte(value)}}
}

func (s *secret) value() string {
	return string(s.Data[entry])
}

// api is a connection to an API server, with what went wrong on it.
type api struct {
	server, token string
	client        *http.Client

	lock     sync.Mutex
	requests map[string]int
	slowest  map[string]float64
	failures map[string]int
}

// connect reads a kubeconfig of the harness: one cluster, one user, each entry on a line of its own.
func connect(kubeconfig string) (*api, error) {
	text, err := os.ReadFile(kubeconfig)
	if err != nil {
		return nil, err
	}
	entries := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, found := strings.Cut(strings.TrimSpace(line), ": "); found {
			entries[key] = value
		}
	}
	authority, err := base64.StdEncoding.DecodeString(entries["certificate-authority-data"])
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM(authority) {
		return nil, errors.New("the kubeconfig has no certificate authority")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	return &api{
		server: entries["server"], token: entries["token"], client: &http.Client{Transport: transport},
		requests: map[string]int{}, slowest: map[string]float64{}, failures: map[string]int{},
	}, nil
}

func (a *api) create(s *secret) bool {
	return a.try("create", http.MethodPost, path, s, nil) == nil
}

func (a *api) update(s *secret) bool {
	return a.try("update", http.MethodPut, path+"/"+s.Metadata.Name, s, nil) == nil
}

func (a *api) delete(name string) bool {
	return a.try("delete", http.MethodDelete, path+"/"+name, nil, nil) == nil
}

// expect reads a Secret and compares its value.
func (a *api) expect(name, value string) bool {
	var found secret
	if a.try("get", http.MethodGet, path+"/"+name, nil, &found) != nil {
		return false
	}
	return a.check(found.value() == value, "get: another value was read")
}

// listed reads all Secrets and looks for one.
func (a *api) listed(name string) bool {
	all, _, err := a.secrets()
	if err != nil {
		return false
	}
	for _, s := range all {
		if s.Metadata.Name == name {
			return true
		}
	}
	return a.check(false, "list: a Secret is missing")
}

// secrets returns all Secrets, and the version from which a watch goes on.
func (a *api) secrets() ([]secret, string, error) {
	var list struct {
		Metadata metadata
		Items    []secret
	}
	err := a.try("list", http.MethodGet, path, nil, &list)
	return list.Items, list.Metadata.ResourceVersion, err
}

// watch tells of every event until the context ends; a watch that ends before is a failure.
func (a *api) watch(ctx context.Context, version string, tell func(event string, s *secret)) {
	request := a.request(ctx, http.MethodGet, path+"?watch=1&resourceVersion="+version, nil)
	response, err := a.client.Do(request)
	if err != nil {
		a.fail("watch: " + err.Error())
		return
	}
	defer response.Body.Close()
	for events := json.NewDecoder(response.Body); ; {
		var event struct {
			Type   string
			Object secret
		}
		if err := events.Decode(&event); err != nil {
			a.check(ctx.Err() != nil, "watch: "+err.Error())
			return
		}
		tell(event.Type, &event.Object)
	}
}

// try makes one request, once, and counts it.
func (a *api) try(verb, method, path string, body, answer any) error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	begin := time.Now()
	err := a.exchange(a.request(ctx, method, path, body), answer)
	a.count(verb, time.Since(begin))
	if err != nil {
		a.fail(verb + ": " + err.Error())
	}
	return err
}

func (a *api) request(ctx context.Context, method, path string, body any) *http.Request {
	var content io.Reader
	if body != nil {
		// A Secret is always JSON.
		text, _ := json.Marshal(body)
		content = bytes.NewReader(text)
	}
	// The method is a constant, and the address was good for those before.
	request, _ := http.NewRequestWithContext(ctx, method, a.server+path, content)
	request.Header.Set("Authorization", "Bearer "+a.token)
	request.Header.Set("Content-Type", "application/json")
	return request
}

func (a *api) exchange(request *http.Request, answer any) error {
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return err
	case response.StatusCode/100 != 2:
		return fmt.Errorf("%s: %s", response.Status, text)
	case answer == nil:
		return nil
	default:
		return json.Unmarshal(text, answer)
	}
}

func (a *api) count(verb string, duration time.Duration) {
	a.lock.Lock()
	defer a.lock.Unlock()
	a.requests[verb]++
	a.slowest[verb] = max(a.slowest[verb], duration.Seconds()*1000)
}

func (a *api) fail(what string) {
	a.lock.Lock()
	defer a.lock.Unlock()
	a.failures[what]++
}

// check counts a failure if something does not hold.
func (a *api) check(holds bool, otherwise string) bool {
	if !holds {
		a.fail(otherwise)
	}
	return holds
}
