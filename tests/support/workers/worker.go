// As worker.c.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func main() {
	client, err := spikeauth.NewFromEnv()
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		start, words := time.Now(), strings.Fields(lines.Text())
		if words[0] == "replace" {
			if err := client.Invalidate(words[1], words[2]); err != nil {
				log.Fatal(err)
			}
		}
		var status int
		token, err := client.Token(context.Background(), words[1])
		if failure := (*spikeauth.Error)(nil); errors.As(err, &failure) {
			status, token = int(failure.Status), "-"
		} else if err != nil {
			log.Fatal(err)
		}
		fmt.Println(status, float64(time.Since(start).Microseconds())/1000, token)
	}
}
