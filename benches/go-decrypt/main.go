// Command go-decrypt decrypts every live Secret in a database file of etcd with kube-apiserver's own transformers, and writes the
// bytes to standard output, each object after a line with its length, revision, type and key.
//
// It is the strongest simple program of its kind: one goroutine walks the file from the newest revision to the oldest, all
// processors decrypt, and the KMS is in the process: it looks a seed up in a map. The file is mapped. A transformer keeps the key
// of every object for ten minutes, which takes gigabytes and most of the time, so each batch of objects gets a new one.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	kmsservice "k8s.io/kms/pkg/service"
)

const (
	provider  = "claviger"
	prefix    = "k8s:enc:kms:v2:" + provider + ":"
	inBatch   = 256
	tombstone = 18
)

// seeds are those that a plugin wrapped: the bytes by what it made of them.
type seeds struct {
	KeyID string `json:"key_id"`
	Seeds []struct {
		Seed    string `json:"seed"`
		Wrapped string `json:"wrapped"`
	} `json:"seeds"`

	known map[string][]byte
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "go-decrypt:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 3 {
		return errors.New("expected the file with the seeds, and the database")
	}
	service, err := readSeeds(os.Args[1])
	if err != nil {
		return err
	}
	db, err := bbolt.Open(os.Args[2], 0o400, &bbolt.Options{ReadOnly: true, PreLoadFreelist: false})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error { return decryptAll(tx, service) })
}

func readSeeds(path string) (*seeds, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := &seeds{known: map[string][]byte{}}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, err
	}
	for _, pair := range s.Seeds {
		seed, err := hex.DecodeString(pair.Seed)
		if err != nil {
			return nil, err
		}
		wrapped, err := hex.DecodeString(pair.Wrapped)
		if err != nil {
			return nil, err
		}
		s.known[string(wrapped)] = seed
	}
	return s, nil
}

func (s *seeds) Decrypt(_ context.Context, _ string, req *kmsservice.DecryptRequest) ([]byte, error) {
	if seed, ok := s.known[string(req.Ciphertext)]; ok && req.KeyID == s.KeyID {
		return seed, nil
	}
	return nil, errors.New("a seed that no plugin has wrapped")
}

func (s *seeds) Encrypt(context.Context, string, []byte) (*kmsservice.EncryptResponse, error) {
	return nil, errors.New("nothing is encrypted here")
}

func (s *seeds) Status(context.Context) (*kmsservice.StatusResponse, error) {
	return &kmsservice.StatusResponse{Version: "v2", Healthz: "ok", KeyID: s.KeyID}, nil
}

func newTransformer(service *seeds) value.Transformer {
	state := func() (kmsv2.State, error) {
		return kmsv2.State{EncryptedObjectKeyID: service.KeyID, ExpirationTimestamp: time.Now().Add(time.Hour)}, nil
	}
	kms := kmsv2.NewEnvelopeTransformer(service, provider, state, "bench")
	return value.NewPrefixTransformers(
		nil,
		value.PrefixTransformer{Prefix: []byte(prefix), Transformer: kms},
		value.PrefixTransformer{Prefix: []byte{}, Transformer: plain{}},
	)
}

// plain is kube-apiserver's identity transformer.
type plain struct{}

func (plain) TransformFromStorage(_ context.Context, data []byte, _ value.Context) ([]byte, bool, error) {
	return data, false, nil
}

func (plain) TransformToStorage(context.Context, []byte, value.Context) ([]byte, error) {
	return nil, errors.New("nothing is encrypted here")
}

// record is one change, as etcd stores it.
type record struct{ message []byte }

func decryptAll(tx *bbolt.Tx, service *seeds) error {
	bucket := tx.Bucket([]byte("key"))
	if bucket == nil {
		return errors.New("no bucket of keys")
	}
	batches := make(chan []record, 2*runtime.GOMAXPROCS(0))
	outputs := make(chan []byte, 2*runtime.GOMAXPROCS(0))
	failed := make(chan error, runtime.GOMAXPROCS(0)+1)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for batch := range batches {
				out, err := decrypt(batch, newTransformer(service))
				if err != nil {
					failed <- err
					os.Exit(1)
				}
				outputs <- out
			}
		}()
	}
	go func() {
		walk(bucket, batches)
		close(batches)
		workers.Wait()
		close(outputs)
	}()
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	for output := range outputs {
		if _, err := out.Write(output); err != nil {
			return err
		}
	}
	return out.Flush()
}

// walk sends the newest change of each key, if it is no deletion.
func walk(bucket *bbolt.Bucket, batches chan<- []record) {
	met := map[string]struct{}{}
	batch := make([]record, 0, inBatch)
	cursor := bucket.Cursor()
	for revision, message := cursor.Last(); revision != nil; revision, message = cursor.Prev() {
		key := keyOf(message)
		if _, ok := met[string(key)]; ok {
			continue
		}
		met[string(key)] = struct{}{}
		if len(revision) == tombstone {
			continue
		}
		if batch = append(batch, record{message}); len(batch) == inBatch {
			batches <- batch
			batch = make([]record, 0, inBatch)
		}
	}
	batches <- batch
}

// keyOf is the first field of the message, which etcd writes first.
func keyOf(message []byte) []byte {
	if len(message) > 2 && message[0] == 0x0a && message[1] < 0x80 && len(message) >= 2+int(message[1]) {
		return message[2 : 2+int(message[1])]
	}
	var kv mvccpb.KeyValue
	if err := proto.Unmarshal(message, &kv); err != nil {
		return nil
	}
	return kv.Key
}

func decrypt(batch []record, transformer value.Transformer) ([]byte, error) {
	var out bytes.Buffer
	for _, one := range batch {
		var kv mvccpb.KeyValue
		if err := proto.Unmarshal(one.message, &kv); err != nil {
			return nil, err
		}
		object, _, err := transformer.TransformFromStorage(context.Background(), kv.Value, value.DefaultContext(kv.Key))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kv.Key, err)
		}
		if err := write(&out, &kv, object); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

func write(out io.Writer, kv *mvccpb.KeyValue, object []byte) error {
	kind := "- -"
	if message, ok := bytes.CutPrefix(object, []byte("k8s\x00")); ok {
		var unknown k8sruntime.Unknown
		if err := unknown.Unmarshal(message); err != nil {
			return err
		}
		kind = unknown.APIVersion + " " + unknown.Kind
	}
	if _, err := fmt.Fprintf(out, "%d %d %s %s\n", len(object), kv.ModRevision, kind, kv.Key); err != nil {
		return err
	}
	if _, err := out.Write(object); err != nil {
		return err
	}
	_, err := out.Write([]byte("\n"))
	return err
}
