//go:build cgo && spikeauth_static

package spikeauth

// The archive stands before what pkg-config adds, and so resolves everything. The shared library that pkg-config
// names as well, and that the linker would prefer, is then needed by nothing.

// #cgo pkg-config: --static spike_auth
// #cgo CFLAGS: -DSPIKE_AUTH_STATIC
// #cgo LDFLAGS: -l:libspike_auth.a -Wl,--as-needed
import "C"
