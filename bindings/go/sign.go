package spikeauth

// SignUser signs a user id with a key: HMAC-SHA256 as 64 lowercase hexadecimal characters. The key is the raw bytes
// that the Spike console shows, never decoded.
//
// A signature never expires: keep it as secret as a password. [Client.SignUser] does the same faster.
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

// VerifyUser checks a signature against a key and a user id, in constant time. It returns nil if it is the right one,
// in either case of its characters, and an error with [StatusSignatureMismatch] if it is another one.
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

// AppendSignature appends the signature of a user id to dst, as [Client.SignUser] makes it. It allocates only where
// dst lacks the room. If it fails, it returns dst as it was.
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
	if err := c.enter(op); err != nil {
		return err
	}
	err := clientSign(c.handle.native, userID, signature, op)
	c.leave()
	return err
}

// SignUsers signs many user ids in one call of the library, which is faster than one by one.
//
// A user id that is not valid gets an empty signature, and makes an error with [StatusInvalidUserID] that names the
// index of the first one; all others are signed, and their signatures returned beside the error. With any other error
// the result is nil.
func (c *Client) SignUsers(userIDs []string) ([]string, error) {
	const op = "sign"
	if err := c.enter(op); err != nil {
		return nil, err
	}
	defer c.leave()
	ids, offsets := column(userIDs)
	out := make([]byte, signatureLen*len(userIDs))
	err := clientSignMany(c.handle.native, ids, offsets, out, op)
	if err != nil && err.Status != StatusInvalidUserID {
		return nil, err
	}
	signatures := rows(out)
	clear(out)
	if err != nil {
		return signatures, err
	}
	return signatures, nil
}

// column lays the ids out as the library takes them: one after the other, and where each begins and ends.
func column(userIDs []string) (ids []byte, offsets []int64) {
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

// rows cuts what the library wrote into signatures, which share their memory. Those of bad ids are empty.
func rows(out []byte) []string {
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
