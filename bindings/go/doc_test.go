package spikeauth_test

import (
	"go/ast"
	"go/doc"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// documentation is what pkg.go.dev shows: of all files, also those of other builds.
func documentation(t *testing.T) *doc.Package {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasPrefix(name, "nocgo") { // declares again what native.go declares
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	pkg, err := doc.NewFromFiles(set, files, "github.com/spike-auth/spike-auth/bindings/go")
	if err != nil {
		t.Fatal(err)
	}
	return pkg
}

// eachComment visits what the package exports, with its name, or with none for a constant or variable.
func eachComment(pkg *doc.Package, visit func(name, text string)) {
	funcs := func(list []*doc.Func) {
		for _, each := range list {
			visit(each.Name, each.Doc)
		}
	}
	values := func(list []*doc.Value) {
		for _, group := range list {
			for _, spec := range group.Decl.Specs {
				value := spec.(*ast.ValueSpec)
				visit("", group.Doc+value.Doc.Text()+value.Comment.Text())
			}
		}
	}
	visit("Package spikeauth", pkg.Doc)
	values(pkg.Consts)
	values(pkg.Vars)
	funcs(pkg.Funcs)
	for _, each := range pkg.Types {
		visit(each.Name, each.Doc)
		values(each.Consts)
		values(each.Vars)
		funcs(each.Funcs)
		funcs(each.Methods)
	}
}

func TestEveryExportedNameHasAComment(t *testing.T) {
	comments := 0
	eachComment(documentation(t), func(name, text string) {
		comments++
		first := strings.TrimPrefix(strings.TrimPrefix(text, "A "), "An ")
		if text == "" || !strings.HasPrefix(first, name) {
			t.Errorf("%q has the comment %.60q", name, text)
		}
	})
	if comments < 80 {
		t.Errorf("only %d comments", comments)
	}
}

// The parser of comments leaves a link in the text if it leads nowhere.
func TestEveryLinkInACommentLeadsSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\[\*?[A-Za-z][\w./]*\]`)
	pkg := documentation(t)
	links := 0
	eachComment(pkg, func(name, text string) {
		links += len(link.FindAllString(text, -1))
		for _, block := range pkg.Parser().Parse(text).Content {
			paragraph, isParagraph := block.(*comment.Paragraph)
			if !isParagraph {
				continue
			}
			for _, part := range paragraph.Text {
				if plain, isPlain := part.(comment.Plain); isPlain && link.MatchString(string(plain)) {
					t.Errorf("%s: %q", name, link.FindString(string(plain)))
				}
			}
		}
	})
	if links < 50 {
		t.Errorf("only %d links", links)
	}
}

// Without an output an example is compiled and not run.
func TestEveryExampleRuns(t *testing.T) {
	pkg := documentation(t)
	examples := pkg.Examples
	for _, each := range pkg.Funcs {
		examples = append(examples, each.Examples...)
	}
	for _, each := range pkg.Types {
		examples = append(examples, each.Examples...)
		for _, function := range append(each.Funcs, each.Methods...) {
			examples = append(examples, function.Examples...)
		}
	}
	for _, example := range examples {
		if example.Output == "" {
			t.Errorf("Example%s has no output", example.Name)
		}
	}
	if len(examples) < 13 {
		t.Errorf("only %d examples", len(examples))
	}
}
