package spikeauthtest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const bodyMax = 64 * 1024

var (
	userPattern      = regexp.MustCompile(`\A[A-Za-z0-9._-]{1,128}\z`)
	signaturePattern = regexp.MustCompile(`\A[0-9a-f]{64}\z`)
	members          = []string{"application_id", "application_user_id", "signature"}
)

// exchange is what a well-formed request asks for.
type exchange struct{ application, user, signature string }

func (e exchange) isSignedBy(key string) bool {
	hash := hmac.New(sha256.New, []byte(key))
	hash.Write([]byte(e.user))
	return hmac.Equal([]byte(e.signature), []byte(hex.EncodeToString(hash.Sum(nil))))
}

// parse returns the exchange that is asked for, or the refusal. Of wrong members all are told at once, as the service's
// framework does it.
func parse(r *http.Request, body []byte, applicationID string) (asked exchange, refusal *Response) {
	mediaType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	status, detail, flaws := 0, "", []flaw(nil)
	switch {
	case r.Method != http.MethodPost:
		status, detail = http.StatusMethodNotAllowed, "only POST is allowed here"
	case !strings.EqualFold(strings.TrimSpace(mediaType), "application/json"):
		status, detail = http.StatusUnsupportedMediaType, "unknown content type"
	case len(body) > bodyMax:
		status, detail = http.StatusRequestEntityTooLarge, "the body is too large"
	case !json.Valid(body) || !utf8.Valid(body):
		status, detail = http.StatusBadRequest, "the body is not JSON"
	default:
		var document map[string]json.RawMessage
		if document, flaws = object(body); len(flaws) == 0 {
			asked, flaws = read(document, applicationID)
		}
		if len(flaws) == 0 {
			return asked, nil
		}
		status, detail = http.StatusUnprocessableEntity, "validation failed"
	}
	answer := problem(status, detail, flaws...)
	return exchange{}, &answer
}

// read checks the types and values of the members, which are all there.
func read(document map[string]json.RawMessage, applicationID string) (asked exchange, flaws []flaw) {
	var ok bool
	if isNumber(applicationID) {
		var number int64
		if text := document["application_id"]; text[0] == 'n' || json.Unmarshal(text, &number) != nil { // null is no error
			flaws = append(flaws, flaw{"expected integer", "body.application_id"})
		}
		asked.application = strconv.FormatInt(number, 10)
	} else if asked.application, ok = text(document["application_id"]); !ok {
		flaws = append(flaws, flaw{"expected string", "body.application_id"})
	}
	if asked.user, ok = text(document["application_user_id"]); !ok || !userPattern.MatchString(asked.user) {
		flaws = append(flaws, flaw{"expected string to match pattern " + userPattern.String(), "body.application_user_id"})
	}
	if asked.signature, ok = text(document["signature"]); !ok || !signaturePattern.MatchString(asked.signature) {
		flaws = append(flaws, flaw{"expected string to match pattern " + signaturePattern.String(), "body.signature"})
	}
	return asked, flaws
}

func text(value json.RawMessage) (decoded string, isText bool) {
	isText = value[0] == '"' && json.Unmarshal(value, &decoded) == nil
	return decoded, isText
}

// isNumber reports whether an application id is a JSON number on the wire: plain digits that fit into 63 bits.
func isNumber(applicationID string) bool {
	number, err := strconv.ParseInt(applicationID, 10, 64)
	return err == nil && number >= 0 && strconv.FormatInt(number, 10) == applicationID
}

// object reads valid JSON, which must be an object with exactly the members of a request. Names are compared as they are:
// encoding/json ignores case, and takes the last of two members.
func object(body []byte) (map[string]json.RawMessage, []flaw) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	if start, _ := decoder.Token(); start != json.Delim('{') {
		return nil, []flaw{{"expected object", "body"}}
	}
	found, flaws := map[string]json.RawMessage{}, []flaw(nil)
	for decoder.More() {
		var value json.RawMessage
		name, _ := decoder.Token()
		_ = decoder.Decode(&value)
		if _, twice := found[name.(string)]; twice {
			flaws = append(flaws, flaw{"duplicate property", "body"})
		}
		found[name.(string)] = value
	}
	for _, name := range members {
		if _, there := found[name]; !there {
			flaws = append(flaws, flaw{"expected required property " + name, "body"})
		}
	}
	if len(flaws) == 0 && len(found) > len(members) {
		flaws = append(flaws, flaw{"unexpected property", "body"})
	}
	return found, flaws
}

// flaw is one thing that is wrong with a request. The service may echo the value; this never does.
type flaw struct {
	Message  string `json:"message"`
	Location string `json:"location"`
}

func problem(status int, detail string, flaws ...flaw) Response {
	title := http.StatusText(status)
	if title == "" {
		title = "Unknown"
	}
	return Response{Status: status, Body: compact(struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
		Errors []flaw `json:"errors,omitempty"`
	}{title, status, detail, flaws})}
}

func compact(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // only strings and numbers are written
	}
	return text
}

func (r Response) write(w http.ResponseWriter) {
	header := w.Header()
	switch {
	case !r.RetryAt.IsZero():
		header.Set("Retry-After", r.RetryAt.UTC().Format(http.TimeFormat))
	case r.RetryAfter > 0:
		header.Set("Retry-After", strconv.FormatInt(int64((r.RetryAfter+time.Second-1)/time.Second), 10))
	}
	if r.Status == http.StatusMethodNotAllowed {
		header.Set("Allow", http.MethodPost)
	}
	hasBody := r.Status != http.StatusNoContent && r.Status != http.StatusResetContent && r.Status != http.StatusNotModified
	if hasBody {
		header.Set("Content-Type", "application/problem+json")
		if r.Status == http.StatusOK {
			header.Set("Content-Type", "application/json")
		}
	}
	w.WriteHeader(r.Status)
	if hasBody {
		_, _ = w.Write(r.Body)
	}
}

// mint makes tokens with the claims of the documented sample. Their signature is for show.
type mint struct {
	application string
	fresh       bool
	lifetime    *time.Duration
	made        int
}

func (m *mint) token(user string) string {
	claims := fmt.Sprintf(`{"iss":%s,"sub":"%s"`, compact(m.application), user)
	if m.lifetime != nil {
		now := time.Now()
		claims += fmt.Sprintf(`,"iat":%d,"exp":%d`, now.Unix(), now.Add(*m.lifetime).Unix())
	}
	if m.fresh {
		m.made++
		claims += fmt.Sprintf(`,"jti":"%d"`, m.made)
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode([]byte(claims+"}"))
	hash := hmac.New(sha256.New, []byte("for show"))
	hash.Write([]byte(signed))
	return signed + "." + encode(hash.Sum(nil))
}
