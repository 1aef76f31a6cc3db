// In the timed loop: a plain GET with go-redis on a kept connection, for one key after the other, with a cancellable
// context. The tokens are stored as they are, and the client keeps none.
package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

func openRedis(arguments []string) error {
	options, err := redis.ParseURL(arguments[0])
	if err != nil {
		return err
	}
	// Only then does its connection obey a cancelled context, as the library's does.
	options.ContextTimeoutEnabled = true
	client := redis.NewClient(options)
	token := strings.Repeat("t", 143)
	for i := range users {
		if err := client.Set(context.Background(), "token:"+name(i), token, time.Hour).Err(); err != nil {
			return err
		}
	}
	get = func(ctx context.Context, user string) error {
		got, err := client.Get(ctx, "token:"+user).Result()
		if err == nil && len(got) != len(token) {
			err = errors.New("not the token")
		}
		return err
	}
	return nil
}

func init() { open = openRedis }
