//go:build cgo && !spikeauth_dynamic && !spikeauth_static

package spikeauth

// What a build without a tag links. A checkout has no archives, so it links the installed library, as with the tag
// spikeauth_dynamic. The published module has archives, and files made from packaging/go-module in place of this one.

// #cgo pkg-config: spike_auth
import "C"
