package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	random "math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/status"
	kms "k8s.io/kms/apis/v2"
)

const (
	// A kube-apiserver's default for one call.
	callTimeout = 3 * time.Second
	// After a failed call, so that a plugin that is away is not hammered.
	pause = time.Millisecond
	// A DEK seed is always of this size.
	seedSize = 32
)

// wrapped is a seed with what the plugin made of it.
type wrapped struct {
	seed       []byte
	ciphertext []byte
	keyID      string
}

// first tells whoever started this program, once, that the plugin has answered.
var first sync.Once

// caller makes one call at a time.
type caller struct {
	number    int
	kms       kms.KeyManagementServiceClient
	budget    *atomic.Int64
	keep      int
	announced string
	kept      []wrapped
	encrypted int
	reopened  int
	tally
}

// repeat makes the calls of the round, again and again; what is in flight at the end is waited for.
func (c *caller) repeat(stop context.Context, round []string) {
	for stop.Err() == nil {
		for _, method := range round {
			if stop.Err() != nil || c.budget.Add(-1) < 0 {
				return
			}
			c.call(method)
		}
	}
}

func (c *caller) call(method string) {
	// There is nothing to decrypt before the first Encrypt.
	if method == "Decrypt" && len(c.kept) == 0 {
		method = "Encrypt"
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	begin := time.Now()
	err := c.attempt(ctx, method)
	if err == nil {
		c.latency(method).record(time.Since(begin))
		return
	}
	c.failures[fmt.Sprintf("%s: %s: %s", method, status.Code(err), status.Convert(err).Message())]++
	time.Sleep(pause)
}

func (c *caller) attempt(ctx context.Context, method string) error {
	switch method {
	case "Status":
		return c.status(ctx)
	case "Encrypt":
		return c.encrypt(ctx)
	default:
		return c.decrypt(ctx, c.kept[random.IntN(len(c.kept))])
	}
}

func (c *caller) status(ctx context.Context) error {
	// Whatever comes next must not be compared with an announcement from before a failed Status.
	c.announced = ""
	answer, err := c.kms.Status(ctx, &kms.StatusRequest{})
	if err != nil {
		return err
	}
	if answer.Healthz != "ok" || answer.Version != "v2" {
		return fmt.Errorf("healthz %q, version %q", answer.Healthz, answer.Version)
	}
	c.announced = answer.KeyId
	return nil
}

func (c *caller) encrypt(ctx context.Context) error {
	seed := make([]byte, seedSize)
	rand.Read(seed)
	answer, err := c.kms.Encrypt(ctx, &kms.EncryptRequest{Plaintext: seed, Uid: c.uid()})
	if err != nil {
		return err
	}
	if c.announced != "" && answer.KeyId != c.announced {
		c.mismatches++
	}
	c.remember(wrapped{seed, answer.Ciphertext, answer.KeyId})
	return nil
}

func (c *caller) decrypt(ctx context.Context, w wrapped) error {
	answer, err := c.kms.Decrypt(ctx, &kms.DecryptRequest{Ciphertext: w.ciphertext, Uid: c.uid(), KeyId: w.keyID})
	if err == nil && !bytes.Equal(answer.Plaintext, w.seed) {
		c.wrong++
	}
	return err
}

// remember keeps a uniform sample, so that old ones are as likely to be there at the end as new ones. The very first
// one is always kept.
func (c *caller) remember(w wrapped) {
	first.Do(func() { fmt.Fprintln(os.Stderr, "kms-client: the plugin wrapped the first seed") })
	c.encrypted++
	if len(c.kept) < c.keep {
		c.kept = append(c.kept, w)
	} else if place := 1 + random.IntN(c.encrypted); place < c.keep {
		c.kept[place] = w
	}
}

// reopen decrypts all that was kept.
func (c *caller) reopen() {
	for _, w := range c.kept {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		if err := c.decrypt(ctx, w); err == nil {
			c.reopened++
		} else {
			c.failures["reopening: "+err.Error()]++
		}
		cancel()
	}
}

func (c *caller) uid() string {
	return fmt.Sprintf("kms-client-%d-%d", c.number, c.encrypted)
}
