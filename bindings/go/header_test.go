package spikeauth

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
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

// matches is the first two groups of every match.
func matches(text, pattern string) map[string]string {
	found := map[string]string{}
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		found[match[1]] = match[2]
	}
	return found
}

// constants is the typed constants of a file by name.
func constants(t *testing.T, path, typeName string) map[string]int64 {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int64{}
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || types.ExprString(orNone(spec.Type)) != typeName {
			return true
		}
		for i, name := range spec.Names {
			literal := spec.Values[i].(*ast.BasicLit)
			value, _ := constant.Int64Val(constant.MakeFromLiteral(literal.Value, literal.Kind, 0))
			found[name.Name] = value
		}
		return true
	})
	return found
}

func orNone(expr ast.Expr) ast.Expr {
	if expr == nil {
		return ast.NewIdent("")
	}
	return expr
}

// initialisms are written in capitals in Go.
var initialisms = strings.NewReplacer("Id", "ID", "Url", "URL", "Tls", "TLS", "Ok", "OK")

// goName makes "InvalidUserID" of "INVALID_USER_ID".
func goName(name string) string {
	var words strings.Builder
	for _, word := range strings.Split(strings.ToLower(name), "_") {
		words.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return regexp.MustCompile(`(Id|Url|Tls|Ok)($|[A-Z])`).ReplaceAllStringFunc(words.String(), initialisms.Replace)
}

func TestStatusesAreTheHeaders(t *testing.T) {
	want := map[string]int64{}
	for name, number := range matches(header(t), `SPIKE_AUTH_STATUS_(\w+) = (\d+),`) {
		value, _ := strconv.ParseInt(number, 10, 32)
		want["Status"+goName(name)] = value
		if got := Status(value).String(); got != name {
			t.Errorf("%d is %s, and here %s", value, name, got)
		}
	}
	if got := constants(t, "status.go", "Status"); len(want) < 30 || !maps.Equal(got, want) {
		t.Errorf("in the header %v\nand here %v", want, got)
	}
}

func TestTLSRootsAreTheHeaders(t *testing.T) {
	want := map[string]int64{}
	for name, number := range matches(header(t), `#define SPIKE_AUTH_TLS_ROOTS_(\w+) (\d+)`) {
		value, _ := strconv.ParseInt(number, 10, 32)
		want["TLSRoots"+goName(name)] = value
	}
	if got := constants(t, "options.go", "TLSRoots"); len(want) != 3 || !maps.Equal(got, want) {
		t.Errorf("in the header %v, and here %v", want, got)
	}
}

func TestSizesAreTheHeaders(t *testing.T) {
	sizes := matches(header(t), `#define SPIKE_AUTH_(\w+_SIZE) (\d+)`)
	for name, here := range map[string]int{"SIGNATURE_SIZE": signatureSize, "AUTHORIZATION_SIZE": authorizationSize} {
		if sizes[name] != strconv.Itoa(here) {
			t.Errorf("%s is %s, and here %d", name, sizes[name], here)
		}
	}
	if len(bearer) != authorizationSize-8193 || sizes["TOKEN_SIZE"] != "8193" {
		t.Errorf("a token and %q do not make %d", bearer, authorizationSize)
	}
}

func TestDefaultsAreTheHeaders(t *testing.T) {
	// From the comment before a setter: white space and asterisks are of no account there.
	text := strings.Join(strings.FieldsFunc(header(t), func(r rune) bool { return strings.ContainsRune(" \n*", r) }), " ")
	for _, row := range []struct {
		before string
		number int64
	}{
		{"Sets the deadline of one call, counted from its beginning and holding for all that it does. The default is 10 000 ms", defaultTimeout.Milliseconds() - 10000},
		{"milliseconds, 1 to 600 000; 0 for the default. There is no", maxTimeout.Milliseconds() - 600000},
		{"Sets how often an exchange is tried, the first time included. The default is 3.", defaultMaxAttempts - 3},
		{"served, inside their own deadlines. The default is 32.", defaultMaxConcurrency - 32},
	} {
		if !strings.Contains(text, row.before) || row.number != 0 {
			t.Errorf("no longer so: %s (%d)", row.before, row.number)
		}
	}
	if defaultTimeout != 10*time.Second {
		t.Error("the default deadline is another")
	}
}

// notCalled is what the binding has no use for.
var notCalled = []string{
	"spike_auth_authorization_size", // the macro is seen
	"spike_auth_client_clear",
	"spike_auth_client_get_authorization", // made of the token
	"spike_auth_config_set_cache_max_bytes",
	"spike_auth_signature_size",
	"spike_auth_status_name",
	"spike_auth_token_size",
	"spike_auth_version",
}

func TestEveryFunctionIsCalledOrLeftOut(t *testing.T) {
	declared := slices.Sorted(maps.Keys(matches(header(t), `(?m)^(?:[\w ]+[ *])(spike_auth_\w+)(\()`)))
	native := source(t, "native.go")
	called := slices.Sorted(maps.Keys(matches(native, `\bC\.(spike_auth_\w+)(\()`)))
	called = slices.DeleteFunc(called, func(name string) bool { return name == "spike_auth_status_t" })
	if want := slices.Sorted(slices.Values(slices.Concat(called, notCalled))); len(declared) < 40 || !slices.Equal(declared, want) {
		t.Errorf("declared: %v\ncalled or left out: %v", declared, want)
	}
	// What is given a pointer of Go's, but for the setters, must not make it escape, and none calls back.
	for name := range matches(native, `#cgo (?:noescape|nocallback) (\w+)()`) {
		if !slices.Contains(called, name) {
			t.Errorf("%s is not called", name)
		}
	}
}

func TestStatsAreTheHeaders(t *testing.T) {
	body := regexp.MustCompile(`(?s)typedef struct spike_auth_stats \{(.*?)\} spike_auth_stats;`).FindStringSubmatch(header(t))
	var want []string
	for _, field := range regexp.MustCompile(`uint64_t (\w+);`).FindAllStringSubmatch(body[1], -1) {
		want = append(want, goName(field[1]))
	}
	want = slices.DeleteFunc(want, func(name string) bool { return name == "Forks" }) // a Go program does not fork
	var got []string
	for i := range reflect.TypeFor[Stats]().NumField() {
		got = append(got, reflect.TypeFor[Stats]().Field(i).Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("in the header %v, and here %v", want, got)
	}
}

func TestTheModuleIsNamedInOnePlace(t *testing.T) {
	if !strings.HasPrefix(source(t, "go.mod"), "module github.com/spike-auth/spike-auth/bindings/go\n\ngo 1.24\n") {
		t.Error("go.mod is another")
	}
	if strings.Contains(source(t, "go.mod"), "require") {
		t.Error("there is a dependency")
	}
}
