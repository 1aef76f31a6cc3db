// Signing with the Go binding. It is built together with ../peers/sign.go, and shares its ids and protocol.
//
// In the timed loop: one call per id of SignUser(), which makes a string, or of AppendSignature(), into one buffer.
package main

import (
	"fmt"
	"os"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

var client *spikeauth.Client

func signUser(count int) (signature string) {
	for i := range count {
		var err error
		if signature, err = client.SignUser(ids[i%256]); err != nil {
			die(err)
		}
	}
	return signature
}

func appendSignature(count int) string {
	var text [64]byte
	for i := range count {
		if _, err := client.AppendSignature(text[:0], ids[i%256]); err != nil {
			die(err)
		}
	}
	return string(text[:])
}

func die(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func init() {
	var err error
	if client, err = spikeauth.New("9999", key, spikeauth.WithBaseURL("http://127.0.0.1:9/v3")); err != nil {
		die(err)
	}
	kinds = map[string]func(int) string{"sign_user": signUser, "append_signature": appendSignature}
}
