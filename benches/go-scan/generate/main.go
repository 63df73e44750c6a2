// Command generate writes a database file of etcd as a cluster with many Secrets has it, and tells what a scan must find in it.
//
// It writes with go.etcd.io/bbolt what etcd 3.7 writes with it: the same buckets, options, share of each page and number of
// changes in a transaction, so that the pages are as etcd's; and without Raft, so that a million take seconds. The values are of
// the form that kube-apiserver gives them under KMS v2, around random bytes: a server lists their keys, but can read none. With
// --keys they are encrypted under seeds that a plugin has wrapped, and can be read. Every object is created once, in the order of their numbers, and then rewritten as often as asked, each time in another order.
// Nothing is deleted or compacted. The same flags give the same objects.
package main

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	kmsPrefix   = "k8s:enc:kms:v2:claviger:"
	plainPrefix = "k8s\x00"
	madeUpKeyID = "k1-2517b9937729870a8af1b1ea89d33cad"
	namespaces  = 200
	// Of a thousand objects, the last stays as it was before encryption.
	plainShare = 1000

	// A start of the API server makes a seed.
	seeds         = 8
	wrappedLength = 108

	// As in etcd's storage/backend and storage/mvcc.
	changesInTransaction = 10_000
	fillPercent          = 0.9
	firstRevision        = 2
)

type options struct {
	objects int
	history int
	out     string
	seed    uint64
	digest  bool
	keys    string
}

// keys are the seeds that a plugin wrapped, and the key that it used.
type keys struct {
	KeyID string `json:"key_id"`
	Seeds []struct {
		Seed    string `json:"seed"`
		Wrapped string `json:"wrapped"`
	} `json:"seeds"`
}

// report is what a scan must find: objects under each provider and key, the same of all revisions, and how many different
// encryptedDEKSource there are in either.
type report struct {
	Objects      int            `json:"objects"`
	Revisions    int            `json:"revisions"`
	LastRevision int            `json:"last_revision"`
	Providers    map[string]int `json:"providers"`
	Stored       map[string]int `json:"stored"`
	Seeds        int            `json:"seeds"`
	StoredSeeds  int            `json:"stored_seeds"`
	FileSize     int64          `json:"file_size"`
}

func main() {
	report, err := run(parse())
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(report)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func parse() options {
	var o options
	flag.IntVar(&o.objects, "objects", 1000, "how many Secrets")
	flag.IntVar(&o.history, "history", 0, "how often each is rewritten")
	flag.StringVar(&o.out, "out", "", "the file to write, which must not exist")
	flag.Uint64Var(&o.seed, "seed", 1, "of all that is random")
	flag.BoolVar(&o.digest, "digest", false, "cut the file to its pages and append their SHA-256, as in a snapshot")
	flag.StringVar(&o.keys, "keys", "", "a file of JSON with the 8 seeds to encrypt under, and what a plugin made of them")
	flag.Parse()
	return o
}

func run(o options) (*report, error) {
	if o.objects < 1 || o.history < 0 || o.out == "" || flag.NArg() != 0 {
		return nil, errors.New("expected --objects 1 or more, --history 0 or more, --out, and nothing else")
	}
	if _, err := os.Lstat(o.out); err == nil {
		return nil, fmt.Errorf("%s exists", o.out)
	}
	source, err := newSource(o)
	if err != nil {
		return nil, err
	}
	pages, err := source.write(o.out)
	if err == nil && o.digest {
		err = appendDigest(o.out, pages)
	}
	if err != nil {
		return nil, err
	}
	return source.expected()
}

// write makes the database and returns how long it is up to its last page; etcd's files are longer, as they grow in steps.
func (s *source) write(path string) (int64, error) {
	// No freelist on disk, as with etcd. What is not synced would be lost with the machine only.
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoFreelistSync: true, NoSync: true})
	if err != nil {
		return 0, err
	}
	defer db.Close()
	if err := db.Update(initialize); err != nil {
		return 0, err
	}
	for start := 0; start < s.revisions; start += changesInTransaction {
		end := min(start+changesInTransaction, s.revisions)
		if err := db.Update(func(tx *bbolt.Tx) error { return s.put(tx, start, end) }); err != nil {
			return 0, err
		}
	}
	pages := int64(0)
	err = db.View(func(tx *bbolt.Tx) error {
		pages = tx.Size()
		return nil
	})
	return pages, errors.Join(err, db.Sync())
}

// initialize makes the buckets that every server makes, and says that it was one of version 3.7.
func initialize(tx *bbolt.Tx) error {
	for _, name := range []string{
		"key", "meta", "lease", "alarm", "cluster", "members", "members_removed", "auth", "authUsers", "authRoles",
	} {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	meta := tx.Bucket([]byte("meta"))
	return errors.Join(
		meta.Put([]byte("confState"), []byte(`{"voters":[10276657743932975437],"auto_leave":false}`)),
		meta.Put([]byte("storageVersion"), []byte("3.7.0")),
		meta.Put([]byte("term"), binary.BigEndian.AppendUint64(nil, 2)),
	)
}

// source makes one revision after the other.
type source struct {
	options
	revisions int
	random    *rand.ChaCha8
	keyID     string
	wrapped   [seeds][]byte
	// plaintexts are the seeds, if the values are encrypted under them.
	plaintexts [seeds][]byte
	// order has the objects in the order in which this round writes them.
	order []int
	value []byte
	// Of each seed, whether any revision is under it, and whether the last of an object is.
	stored, live [seeds]bool
}

func newSource(o options) (*source, error) {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], o.seed)
	s := &source{options: o, revisions: o.objects * (o.history + 1), random: rand.NewChaCha8(seed), keyID: madeUpKeyID}
	for i := range s.wrapped {
		s.wrapped[i] = s.bytes(nil, wrappedLength)
	}
	if o.keys != "" {
		if err := s.readKeys(); err != nil {
			return nil, err
		}
	}
	s.order = make([]int, o.objects)
	for i := range s.order {
		s.order[i] = i
	}
	return s, nil
}

func (s *source) readKeys() error {
	text, err := os.ReadFile(s.keys)
	if err != nil {
		return err
	}
	var read keys
	if err := json.Unmarshal(text, &read); err != nil {
		return err
	}
	if len(read.Seeds) != seeds {
		return fmt.Errorf("%s has %d seeds, expected %d", s.keys, len(read.Seeds), seeds)
	}
	s.keyID = read.KeyID
	for i, pair := range read.Seeds {
		var one, other error
		s.plaintexts[i], one = hex.DecodeString(pair.Seed)
		s.wrapped[i], other = hex.DecodeString(pair.Wrapped)
		if err := errors.Join(one, other); err != nil {
			return err
		}
	}
	return nil
}

// put writes the revisions from start to before end, counted from 0, and where Raft would be after them.
func (s *source) put(tx *bbolt.Tx, start, end int) error {
	bucket := tx.Bucket([]byte("key"))
	bucket.FillPercent = fillPercent
	for i := start; i < end; i++ {
		message, err := s.next(i)
		if err != nil {
			return err
		}
		revision := binary.BigEndian.AppendUint64(nil, uint64(firstRevision+i))
		revision = binary.BigEndian.AppendUint64(append(revision, '_'), 0)
		if err := bucket.Put(revision, message); err != nil {
			return err
		}
	}
	// A few entries of the log come before the first write.
	index := binary.BigEndian.AppendUint64(nil, uint64(end+4))
	return tx.Bucket([]byte("meta")).Put([]byte("consistent_index"), index)
}

// next is the message of revision i, whose bytes the transaction keeps until its end.
func (s *source) next(i int) ([]byte, error) {
	round, place := i/s.objects, i%s.objects
	if round > 0 && place == 0 {
		rand.New(s.random).Shuffle(s.objects, func(a, b int) { s.order[a], s.order[b] = s.order[b], s.order[a] })
	}
	object := s.order[place]
	namespace, name := fmt.Sprintf("ns-%03d", object%namespaces), fmt.Sprintf("secret-%07d", object)
	kv := mvccpb.KeyValue{
		Key:            fmt.Appendf(nil, "/registry/secrets/%s/%s", namespace, name),
		CreateRevision: int64(firstRevision + object),
		ModRevision:    int64(firstRevision + i),
		Version:        int64(round + 1),
	}
	if s.isPlain(object) {
		kv.Value = s.plain(namespace, name)
	} else {
		seed := s.seedOf(i)
		s.stored[seed] = true
		s.live[seed] = s.live[seed] || round == s.history
		var err error
		if kv.Value, err = s.encrypted(seed, kv.Key, namespace, name); err != nil {
			return nil, err
		}
	}
	return proto.Marshal(&kv)
}

func (o options) isPlain(object int) bool {
	return object >= o.objects-o.objects/plainShare
}

// seedOf is the number of the start of the API server that wrote revision i.
func (s *source) seedOf(i int) int {
	return i * seeds / s.revisions
}

// encrypted is an EncryptedObject of k8s.io/apiserver's kmsv2/v2/api.proto: info, nonce, what is encrypted, tag.
func (s *source) encrypted(seed int, key []byte, namespace, name string) ([]byte, error) {
	data, err := s.sealed(s.plaintexts[seed], key, namespace, name)
	if err != nil {
		return nil, err
	}
	value := append(s.value[:0], kmsPrefix...)
	value = field(value, 1, data)
	value = field(value, 2, []byte(s.keyID))
	value = field(value, 3, s.wrapped[seed])
	value = protowire.AppendTag(value, 5, protowire.VarintType)
	s.value = protowire.AppendVarint(value, 1)
	return s.value, nil
}

// sealed is a Secret under the key that kube-apiserver derives from the seed, or random bytes if there is no seed.
func (s *source) sealed(seed, key []byte, namespace, name string) ([]byte, error) {
	if seed == nil {
		return s.bytes(nil, 32+12+s.between(300, 900)+16), nil
	}
	random := s.bytes(nil, 32+12)
	mac := hmac.New(sha256.New, seed)
	mac.Write(random[:32])
	mac.Write([]byte{1})
	block, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return gcm.Seal(random, random[32:], s.plain(namespace, name), key), nil
}

// plain is a Secret that an API server can read, with one entry.
func (s *source) plain(namespace, name string) []byte {
	metadata := field(field(nil, 1, []byte(name)), 3, []byte(namespace))
	entry := field(field(nil, 1, []byte("password")), 2, s.bytes(nil, s.between(300, 900)))
	secret := field(field(field(nil, 1, metadata), 2, entry), 3, []byte("Opaque"))
	kind := field(field(nil, 1, []byte("v1")), 2, []byte("Secret"))
	return append([]byte(plainPrefix), field(field(nil, 1, kind), 2, secret)...)
}

func field(message []byte, number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(message, number, protowire.BytesType), value)
}

func (s *source) bytes(onto []byte, n int) []byte {
	onto = slices.Grow(onto, n)
	random := onto[len(onto) : len(onto)+n]
	s.random.Read(random) // never fails
	return onto[:len(onto)+n]
}

func (s *source) between(least, most int) int {
	return least + int(s.random.Uint64()%uint64(most-least+1))
}

func appendDigest(path string, pages int64) error {
	if err := os.Truncate(path, pages); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, bufio.NewReaderSize(file, 1<<20)); err != nil {
		return err
	}
	if _, err := file.Write(hash.Sum(nil)); err != nil {
		return err
	}
	return file.Sync()
}

// expected is what a scan finds once all is written.
func (s *source) expected() (*report, error) {
	file, err := os.Stat(s.out)
	if err != nil {
		return nil, err
	}
	plain := s.objects / plainShare
	count := func(times int) map[string]int {
		counts := map[string]int{kmsPrefix + s.keyID: (s.objects - plain) * times}
		if plain > 0 {
			counts[plainPrefix] = plain * times
		}
		return counts
	}
	return &report{
		Objects:      s.objects,
		Revisions:    s.revisions,
		LastRevision: firstRevision + s.revisions - 1,
		Providers:    count(1),
		Stored:       count(s.history + 1),
		Seeds:        number(s.live),
		StoredSeeds:  number(s.stored),
		FileSize:     file.Size(),
	}, nil
}

func number(used [seeds]bool) (n int) {
	for _, used := range used {
		if used {
			n++
		}
	}
	return n
}
