package spikeauth

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func source(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func header(t *testing.T) string { return source(t, "../../include/spike_auth.h") }

// matches maps the first group of every match to the second.
func matches(text, pattern string) map[string]string {
	found := map[string]string{}
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		found[match[1]] = match[2]
	}
	return found
}

// constants returns the typed constants of a file by name.
func constants(t *testing.T, path, typeName string) map[string]string {
	return matches(source(t, path), `\t(`+typeName+`\w+) +`+typeName+` += (\d+)`)
}

var initialisms = strings.NewReplacer("Id", "ID", "Url", "URL", "Tls", "TLS", "Ok", "OK")

// goName converts "INVALID_USER_ID" to "InvalidUserID".
func goName(name string) string {
	var words strings.Builder
	for _, word := range strings.Split(strings.ToLower(name), "_") {
		words.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return regexp.MustCompile(`(Id|Url|Tls|Ok)($|[A-Z])`).ReplaceAllStringFunc(words.String(), initialisms.Replace)
}

func TestStatusesMatchTheHeader(t *testing.T) {
	want := map[string]string{}
	for name, number := range matches(header(t), `SPIKE_AUTH_STATUS_(\w+) = (\d+),`) {
		want["Status"+goName(name)] = number
		value, _ := strconv.Atoi(number)
		if got := Status(value).String(); got != name {
			t.Errorf("%d is %s in the header, not %s", value, name, got)
		}
	}
	if got := constants(t, "status.go", "Status"); len(want) < 30 || !maps.Equal(got, want) {
		t.Errorf("header %v\nGo %v", want, got)
	}
}

func TestTLSRootsMatchTheHeader(t *testing.T) {
	want := map[string]string{}
	for name, number := range matches(header(t), `#define SPIKE_AUTH_TLS_ROOTS_(\w+) (\d+)`) {
		want["TLSRoots"+goName(name)] = number
	}
	if got := constants(t, "options.go", "TLSRoots"); len(want) != 3 || !maps.Equal(got, want) {
		t.Errorf("header %v, Go %v", want, got)
	}
}

func TestSizesMatchTheHeader(t *testing.T) {
	sizes := matches(header(t), `#define SPIKE_AUTH_(\w+_SIZE) (\d+)`)
	for name, here := range map[string]int{
		"SIGNATURE_SIZE": signatureSize, "AUTHORIZATION_SIZE": authorizationSize, "REPORT_SIZE": reportSize,
	} {
		if sizes[name] != strconv.Itoa(here) {
			t.Errorf("%s is %s in the header, not %d", name, sizes[name], here)
		}
	}
	if len(bearer) != authorizationSize-8193 || sizes["TOKEN_SIZE"] != "8193" {
		t.Errorf("%q and a token are not %d long", bearer, authorizationSize)
	}
}

func TestTheLongestTimeoutMatchesTheHeader(t *testing.T) {
	before, _, _ := strings.Cut(header(t), "spike_auth_call_set_timeout_ms(struct")
	comment := before[strings.LastIndex(before, "/**"):]
	want := maxTimeout.Milliseconds()
	if !strings.Contains(comment, fmt.Sprintf(" %d %03d;", want/1000, want%1000)) {
		t.Errorf("%d is not in %s", want, comment)
	}
}

// notCalled lists the functions that the binding does not need.
var notCalled = []string{
	"spike_auth_authorization_size",     // the macro is used
	"spike_auth_call_get_authorization", // built from the token
	"spike_auth_client_clear",
	"spike_auth_client_get_authorization", // built from the token
	"spike_auth_signature_size",
	"spike_auth_status_name",
	"spike_auth_token_size",
	"spike_auth_version",
}

func TestEveryFunctionIsCalledOrListed(t *testing.T) {
	declared := slices.Sorted(maps.Keys(matches(header(t), `(?m)^(?:[\w ]+[ *])(spike_auth_\w+)(\()`)))
	native := source(t, "native.go")
	called := slices.Sorted(maps.Keys(matches(native, `\bC\.(spike_auth_\w+)(\()`)))
	called = slices.DeleteFunc(called, func(name string) bool { return name == "spike_auth_status_t" })
	if want := slices.Sorted(slices.Values(slices.Concat(called, notCalled))); len(declared) < 40 || !slices.Equal(declared, want) {
		t.Errorf("declared: %v\ncalled or listed: %v", declared, want)
	}
	for name := range matches(native, `#cgo (?:noescape|nocallback) (\w+)()`) {
		if !slices.Contains(called, name) {
			t.Errorf("%s is not called", name)
		}
	}
}

func TestStatsMatchTheHeader(t *testing.T) {
	body := regexp.MustCompile(`(?s)typedef struct spike_auth_stats \{(.*?)\} spike_auth_stats;`).FindStringSubmatch(header(t))
	var want []string
	for _, field := range regexp.MustCompile(`uint64_t (\w+);`).FindAllStringSubmatch(body[1], -1) {
		want = append(want, goName(field[1]))
	}
	want = slices.DeleteFunc(want, func(name string) bool { return name == "Forks" }) // Go programs do not fork
	var got []string
	for i := range reflect.TypeFor[Stats]().NumField() {
		got = append(got, reflect.TypeFor[Stats]().Field(i).Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("header %v, Go %v", want, got)
	}
}

func TestTheModuleHasNoDependency(t *testing.T) {
	if got := source(t, "go.mod"); got != "module github.com/spike-auth/spike-auth/bindings/go\n\ngo 1.24\n" {
		t.Errorf("%q", got)
	}
}
