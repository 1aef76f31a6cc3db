// Client fetches a URL with a user's token through an http.Client.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: client USER_ID URL")
		os.Exit(2)
	}
	if err := get(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func get(userID, url string) error {
	spike, err := spikeauth.NewFromEnv()
	if err != nil {
		return err
	}
	defer spike.Close()

	client := &http.Client{
		Transport: spike.RoundTripper(userID, nil),
		Timeout:   30 * time.Second, // for the token and the request together
	}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}
