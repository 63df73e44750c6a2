// Command scan counts what is encrypted how in a database file of etcd. It is the least that one would otherwise write, made
// to be measured: go.etcd.io/bbolt, etcd's own message, and a map from each key to how its last value is encrypted.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"log"
	"os"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// tombstone is the length of a revision that is a deletion: 8 bytes, '_', 8 bytes, 't'.
const tombstone = 18

type report struct {
	Objects   int            `json:"objects"`
	Revisions int            `json:"revisions"`
	Providers map[string]int `json:"providers"`
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("expected the path of a database file")
	}
	report, err := scan(os.Args[1])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(report)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func scan(path string) (*report, error) {
	db, err := bbolt.Open(path, 0o400, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	revisions := 0
	live := make(map[string]string)
	err = db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte("key"))
		if bucket == nil {
			return errors.New("no bucket \"key\"")
		}
		return bucket.ForEach(func(revision, value []byte) error {
			revisions++
			var kv mvccpb.KeyValue
			if err := proto.Unmarshal(value, &kv); err != nil {
				return err
			}
			if len(revision) == tombstone {
				delete(live, string(kv.Key))
			} else {
				live[string(kv.Key)] = class(kv.Value)
			}
			return nil
		})
	})
	providers := make(map[string]int)
	for _, class := range live {
		providers[class]++
	}
	return &report{Objects: len(live), Revisions: revisions, Providers: providers}, err
}

// class is the value's prefix up to its provider's name, and under KMS v2 the name of the key.
func class(value []byte) string {
	rest, encrypted := bytes.CutPrefix(value, []byte("k8s:enc:"))
	switch {
	case encrypted:
	case bytes.HasPrefix(value, []byte("k8s\x00")):
		return "k8s\x00"
	default:
		return "other"
	}
	// "kms:v2:NAME:", or "aescbc:v1:NAME:" and its like.
	parts := bytes.SplitN(rest, []byte(":"), 4)
	if len(parts) != 4 {
		return "k8s:enc:"
	}
	payload := parts[3]
	prefix := string(value[:len(value)-len(payload)])
	if !bytes.HasPrefix(rest, []byte("kms:v2:")) {
		return prefix
	}
	return prefix + keyID(payload)
}

// keyID is field 2 of k8s.io/apiserver's EncryptedObject.
func keyID(object []byte) string {
	for len(object) > 0 {
		number, kind, n := protowire.ConsumeTag(object)
		if n < 0 {
			return "malformed"
		}
		object = object[n:]
		if number == 2 && kind == protowire.BytesType {
			id, n := protowire.ConsumeBytes(object)
			if n < 0 {
				return "malformed"
			}
			return string(id)
		}
		if n = protowire.ConsumeFieldValue(number, kind, object); n < 0 {
			return "malformed"
		}
		object = object[n:]
	}
	return "none"
}
