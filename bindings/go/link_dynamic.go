//go:build cgo && spikeauth_dynamic && !spikeauth_static

package spikeauth

// #cgo pkg-config: spike_auth
import "C"
