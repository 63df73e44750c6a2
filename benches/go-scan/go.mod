module claviger.test/go-scan

go 1.26.0

godebug default=go1.26

require (
	go.etcd.io/bbolt v1.5.0
	go.etcd.io/etcd/api/v3 v3.7.3
	google.golang.org/protobuf v1.36.11
)

require golang.org/x/sys v0.49.0 // indirect
