// Signing in Go with the standard library: as documented, and with one hash that is reset.
//
// In the timed loop: one signature per id, 256 ids in turn. The protocol is that of ../step.h.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"syscall"
	"time"
)

const answer = "e070ea58e2b1d7d01a9570b89fc99e76c73cf3dc8aab4f31ae0136821f8f0199"

var (
	key = []byte("HMAC_KEY_FROM_ADMIN_CONSOLE")
	ids [256]string
)

func documented(count int) (signature string) {
	for i := range count {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(ids[i%256]))
		signature = hex.EncodeToString(h.Sum(nil))
	}
	return signature
}

// The form for a program that needs speed: no allocation in the loop.
func reset(count int) (signature string) {
	h := hmac.New(sha256.New, key)
	var digest [sha256.Size]byte
	var text [2 * sha256.Size]byte
	for i := range count {
		h.Reset()
		h.Write([]byte(ids[i%256]))
		hex.Encode(text[:], h.Sum(digest[:0]))
	}
	return string(text[:])
}

var kinds = map[string]func(int) string{"documented": documented, "reset": reset}

func cpu() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func main() {
	for i := range ids {
		ids[i] = fmt.Sprintf("my_application_user_%03d", (i+123)%1000)
	}
	for name, run := range kinds {
		if run(1) != answer {
			fmt.Fprintln(os.Stderr, name+": not the known answer")
			os.Exit(1)
		}
	}
	var name string
	var count int
	for {
		if _, err := fmt.Scan(&name, &count); err != nil {
			return
		}
		before, start := cpu(), time.Now()
		kinds[name](count)
		wall := time.Since(start)
		fmt.Println(cpu()-before, wall.Nanoseconds())
	}
}
