// The same exchanges with Go's net/http: `exchange BASE_URL CA_FILE` (an empty CA_FILE over HTTP).
//
// In the timed loop: hmac as documented, encoding/json both ways, one POST on a kept connection, with a cancellable
// context like that of a server's request. All goroutines share one http.Client. The protocol is that of ../step.h;
// NAME is the number of goroutines. With the NAME "crowd:USERS", COUNT goroutines at once each need a token of one of as
// many users, whose tokens nobody has asked for yet (singleflight.go).
package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	threadsMax = 8
	warmUp     = 20 // as in ../exchange.h
	replyMax   = 65536
)

var (
	key    = []byte("HMAC_KEY_FROM_ADMIN_CONSOLE")
	url    string
	client *http.Client

	// Opens the client, makes an exchange, and gets a token. The binding replaces them; token is set by singleflight.go.
	open     = openHTTP
	exchange = exchangeHTTP
	token    func(ctx context.Context, user string) error

	kept   = threadsMax // idle connections
	crowds int          // how many there were
)

type request struct {
	ApplicationID     int    `json:"application_id"`
	ApplicationUserID string `json:"application_user_id"`
	Signature         string `json:"signature"`
}

type reply struct {
	AccessToken string `json:"access_token"`
}

func exchangeHTTP(ctx context.Context, user string) error {
	_, err := exchangeForToken(ctx, user)
	return err
}

func exchangeForToken(ctx context.Context, user string) (string, error) {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(user))
	body, err := json.Marshal(request{9999, user, hex.EncodeToString(h.Sum(nil))})
	if err != nil {
		return "", err
	}
	post, err := http.NewRequestWithContext(ctx, "POST", url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	post.Header.Set("Content-Type", "application/json")
	post.Header.Set("Accept", "application/json")
	response, err := client.Do(post)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, replyMax))
	if err != nil {
		return "", err
	}
	var got reply
	if err := json.Unmarshal(text, &got); err != nil {
		return "", err
	}
	if response.StatusCode != 200 || got.AccessToken == "" {
		return "", fmt.Errorf("no token in the reply, status %d", response.StatusCode)
	}
	return got.AccessToken, nil
}

func exchangeMany(count int) {
	for i := range count {
		ctx, cancel := context.WithCancel(context.Background())
		if err := exchange(ctx, fmt.Sprintf("my_application_user_%03d", i%1000)); err != nil {
			die(err)
		}
		cancel()
	}
}

func run(threads, count int) (cpuNs, wallNs int64) {
	var warm, done sync.WaitGroup
	start := make(chan struct{})
	for range threads {
		warm.Add(1)
		done.Add(1)
		go func() {
			exchangeMany(warmUp)
			warm.Done()
			<-start
			exchangeMany(count / threads)
			done.Done()
		}()
	}
	warm.Wait()
	cpuBefore, wallBefore := cpu(), time.Now()
	close(start)
	done.Wait()
	return cpu() - cpuBefore, time.Since(wallBefore).Nanoseconds()
}

func crowd(users, count int) (cpuNs, wallNs int64) {
	crowds++
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	for i := range count {
		ready.Add(1)
		done.Add(1)
		go func() {
			defer done.Done()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			user := fmt.Sprintf("my_application_%04d_%03d", crowds, i%users)
			ready.Done()
			<-start
			if err := token(ctx, user); err != nil {
				die(err)
			}
		}()
	}
	ready.Wait()
	cpuBefore, wallBefore := cpu(), time.Now()
	close(start)
	done.Wait()
	return cpu() - cpuBefore, time.Since(wallBefore).Nanoseconds()
}

func cpu() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		die(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func die(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func openHTTP(baseURL string, ca []byte) {
	url = baseURL + "/auth/hmac"
	transport := &http.Transport{MaxIdleConnsPerHost: kept}
	if ca != nil {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(ca)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	client = &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

func main() {
	var ca []byte
	if path := os.Args[2]; path != "" {
		var err error
		if ca, err = os.ReadFile(path); err != nil {
			die(err)
		}
	}
	open(os.Args[1], ca)
	var name string
	var count int
	for {
		if _, err := fmt.Scan(&name, &count); err != nil {
			return
		}
		users, isCrowd := strings.CutPrefix(name, "crowd:")
		n, err := strconv.Atoi(users)
		if err != nil {
			die(err)
		}
		if isCrowd {
			fmt.Println(crowd(n, count))
		} else {
			fmt.Println(run(n, count))
		}
	}
}
