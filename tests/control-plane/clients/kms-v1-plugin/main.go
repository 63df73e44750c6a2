// Command kms-v1-plugin is the least plugin that speaks version 1 of the protocol: AES-GCM under one key, which lives as long as
// its process. It puts into etcd what a cluster that came from KMS v1 still has there.
//
// Version 1 calls itself v1beta1. A kube-apiserver speaks it with --feature-gates=KMSv1=true only, up to 1.37 at least.
package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"flag"
	"log"
	"net"

	"google.golang.org/grpc"
	kms "k8s.io/kms/apis/v1beta1"
)

type plugin struct {
	kms.UnimplementedKeyManagementServiceServer
	aead cipher.AEAD
}

func (p *plugin) Version(context.Context, *kms.VersionRequest) (*kms.VersionResponse, error) {
	return &kms.VersionResponse{Version: "v1beta1", RuntimeName: "kms-v1-plugin", RuntimeVersion: "0.0.0"}, nil
}

func (p *plugin) Encrypt(_ context.Context, r *kms.EncryptRequest) (*kms.EncryptResponse, error) {
	return &kms.EncryptResponse{Cipher: p.aead.Seal(nil, nil, r.Plain, nil)}, nil
}

func (p *plugin) Decrypt(_ context.Context, r *kms.DecryptRequest) (*kms.DecryptResponse, error) {
	plain, err := p.aead.Open(nil, nil, r.Cipher, nil)
	return &kms.DecryptResponse{Plain: plain}, err
}

func main() {
	socket := flag.String("socket", "", "where to listen")
	flag.Parse()
	if *socket == "" || flag.NArg() != 0 {
		log.Fatal("expected --socket and nothing else")
	}
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		log.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("unix", *socket)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	kms.RegisterKeyManagementServiceServer(server, &plugin{aead: aead})
	log.Fatal(server.Serve(listener))
}
