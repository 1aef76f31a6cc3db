package spikeauth

import "errors"

// SignUser signs a user id with a key and returns the HMAC-SHA256 as 64 lowercase hexadecimal characters. The key is
// the bytes that the Spike console shows, not decoded.
//
// A signature never expires: keep it as secret as a password. [Client.SignUser] does the same, faster.
func SignUser(hmacKey []byte, userID string) (string, error) {
	if err := checkLibrary(); err != nil {
		return "", err
	}
	var signature [signatureSize]byte
	if err := sign(hmacKey, userID, &signature, "sign"); err != nil {
		return "", err
	}
	text := string(signature[:signatureLen])
	clear(signature[:])
	return text, nil
}

// VerifyUser checks a signature in constant time. It returns nil if the signature is valid, in lower or upper case, and
// an error with [StatusSignatureMismatch] if it belongs to another key or user id.
func VerifyUser(hmacKey []byte, userID, signature string) error {
	if err := checkLibrary(); err != nil {
		return err
	}
	return verify(hmacKey, userID, signature, "verify")
}

// SignUser signs a user id with the client's key. It sends nothing.
func (c *Client) SignUser(userID string) (string, error) {
	var signature [signatureSize]byte
	if err := c.sign(userID, &signature); err != nil {
		return "", err
	}
	text := string(signature[:signatureLen])
	clear(signature[:])
	return text, nil
}

// AppendSignature appends the signature of a user id to dst. It allocates only if dst lacks the capacity. On failure it
// returns dst unchanged.
func (c *Client) AppendSignature(dst []byte, userID string) ([]byte, error) {
	var signature [signatureSize]byte
	if err := c.sign(userID, &signature); err != nil {
		return dst, err
	}
	dst = append(dst, signature[:signatureLen]...)
	clear(signature[:])
	return dst, nil
}

func (c *Client) sign(userID string, signature *[signatureSize]byte) error {
	const op = "sign"
	if _, err := c.acquire(op, oneCall); err != nil {
		return err
	}
	err := clientSign(c.handle.native, userID, signature, op)
	c.release(oneCall)
	return err
}

// SetHMACKey signs with another key from now on, while other goroutines use the client. Kept tokens stay, and exchanges
// under way finish: one whose signature the service refuses is repeated with the new key.
//
// A client whose key came from SPIKE_HMAC_KEY_FILE needs no call: after a 401 it reads the file again, at most once in five
// seconds. After this call it does not. A key of another length than 1 to 4096 bytes is [StatusInvalidKey].
func (c *Client) SetHMACKey(key []byte) error {
	const op = "set key"
	if _, err := c.acquire(op, oneCall); err != nil {
		return err
	}
	defer c.release(oneCall)
	return clientSetKey(c.handle.native, key, op)
}

// SignUsers signs many user ids in one call of the library, which is faster than one by one.
//
// An invalid user id receives an empty signature. The error is then [StatusInvalidUserID] and names the index of the
// first one; the signatures of all others are returned with it. With any other error the result is nil.
func (c *Client) SignUsers(userIDs []string) ([]string, error) {
	const op = "sign"
	if _, err := c.acquire(op, oneCall); err != nil {
		return nil, err
	}
	defer c.release(oneCall)
	ids, offsets := packIDs(userIDs)
	out := make([]byte, signatureLen*len(userIDs))
	err := clientSignMany(c.handle.native, ids, offsets, out, op)
	if err != nil && !errors.Is(err, StatusInvalidUserID) {
		return nil, err
	}
	signatures := splitSignatures(out)
	clear(out)
	return signatures, err
}

// packIDs concatenates the ids and returns the offsets of their boundaries, as the library takes them.
func packIDs(userIDs []string) (ids []byte, offsets []int64) {
	size := 0
	for _, id := range userIDs {
		size += len(id)
	}
	ids = make([]byte, 0, size)
	offsets = make([]int64, 1, len(userIDs)+1)
	for _, id := range userIDs {
		ids = append(ids, id...)
		offsets = append(offsets, int64(len(ids)))
	}
	return ids, offsets
}

// splitSignatures splits the library's output into strings that share one allocation. An invalid id has a zero row and
// yields an empty string.
func splitSignatures(out []byte) []string {
	all := string(out)
	signatures := make([]string, 0, len(all)/signatureLen)
	for ; len(all) > 0; all = all[signatureLen:] {
		if all[0] == 0 {
			signatures = append(signatures, "")
		} else {
			signatures = append(signatures, all[:signatureLen])
		}
	}
	return signatures
}
