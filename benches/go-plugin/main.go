// Command go-plugin is the least KMS v2 plugin in Go: AES-GCM under one key, grpc-go and k8s.io/kms's generated code. It is
// what one would otherwise write, made to be measured: its key lives as long as its process.
package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"log"
	"net"
	"os"

	"google.golang.org/grpc"
	kms "k8s.io/kms/apis/v2"
)

const keyID = "k1-00000000000000000000000000000000"

type plugin struct {
	kms.UnimplementedKeyManagementServiceServer
	aead cipher.AEAD
}

func (p *plugin) Status(context.Context, *kms.StatusRequest) (*kms.StatusResponse, error) {
	return &kms.StatusResponse{Version: "v2", Healthz: "ok", KeyId: keyID}, nil
}

func (p *plugin) Encrypt(_ context.Context, r *kms.EncryptRequest) (*kms.EncryptResponse, error) {
	return &kms.EncryptResponse{Ciphertext: p.aead.Seal(nil, nil, r.Plaintext, nil), KeyId: keyID}, nil
}

func (p *plugin) Decrypt(_ context.Context, r *kms.DecryptRequest) (*kms.DecryptResponse, error) {
	plaintext, err := p.aead.Open(nil, nil, r.Ciphertext, nil)
	return &kms.DecryptResponse{Plaintext: plaintext}, err
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("expected the path of the socket")
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
	listener, err := net.Listen("unix", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	kms.RegisterKeyManagementServiceServer(server, &plugin{aead: aead})
	log.Fatal(server.Serve(listener))
}
