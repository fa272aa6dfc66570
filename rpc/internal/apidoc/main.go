// Command apidoc writes down what only the source of package rpc knows of its methods: their comments and the names of their parameters.
// The running program reads it to describe itself (rpc.discover).
//
//	go run ./rpc/internal/apidoc           writes rpc/apidoc.json
//	go run ./rpc/internal/apidoc -check    ends with status 1 if that file is not what it would write
//
// A type whose name ends in API is a receiver of methods; a struct with JSON tags is an argument or an answer. Whoever adds one has nothing to
// register here.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
)

// A Method is a method of a receiver.
type Method struct {
	Doc    string   `json:"doc"`
	Params []string `json:"params,omitempty"` // names, context left out; "" where there is none
}

// A Type is a struct.
type Type struct {
	Doc    string            `json:"doc,omitempty"`
	Fields map[string]string `json:"fields,omitempty"` // comments of fields that have one, by their Go names
}

// A Document is the content of the file.
type Document struct {
	Methods map[string]Method `json:"methods"` // by "receiver.Method"
	Types   map[string]Type   `json:"types"`   // by name
}

func main() {
	check := flag.Bool("check", false, "compare instead of writing")
	dir := flag.String("dir", "rpc", "folder of the package")
	flag.Parse()
	if err := run(*dir, *check); err != nil {
		fmt.Fprintln(os.Stderr, "apidoc:", err)
		os.Exit(1)
	}
}

func run(dir string, check bool) error {
	want, err := Extract(dir)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "apidoc.json")
	if !check {
		return os.WriteFile(file, want, 0o644)
	}
	have, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !bytes.Equal(have, want) {
		return errors.New(file + " is stale: go run ./rpc/internal/apidoc")
	}
	return nil
}

// Extract reads the Go files of a folder, tests left out, and returns the document.
func Extract(dir string) ([]byte, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	doc := Document{Methods: make(map[string]Method), Types: make(map[string]Type)}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				doc.addMethod(d)
			case *ast.GenDecl:
				doc.addTypes(d)
			}
		}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	err = enc.Encode(doc) // sorts the keys of maps
	return out.Bytes(), err
}

func (doc *Document) addMethod(f *ast.FuncDecl) {
	if f.Recv == nil || !f.Name.IsExported() {
		return
	}
	receiver := f.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	name, ok := receiver.(*ast.Ident)
	if !ok || !strings.HasSuffix(name.Name, "API") {
		return
	}
	m := Method{Doc: text(f.Doc)}
	for _, field := range f.Type.Params.List {
		if sel, ok := field.Type.(*ast.SelectorExpr); ok && sel.Sel.Name == "Context" {
			continue
		}
		if len(field.Names) == 0 {
			m.Params = append(m.Params, "")
		}
		for _, n := range field.Names {
			m.Params = append(m.Params, n.Name)
		}
	}
	doc.Methods[name.Name+"."+f.Name.Name] = m
}

func (doc *Document) addTypes(d *ast.GenDecl) {
	for _, spec := range d.Specs {
		t, ok := spec.(*ast.TypeSpec)
		if !ok {
			continue
		}
		s, ok := t.Type.(*ast.StructType)
		if !ok {
			continue
		}
		entry, tagged := Type{Doc: text(d.Doc), Fields: make(map[string]string)}, false
		for _, f := range s.Fields.List {
			tagged = tagged || (f.Tag != nil && strings.Contains(f.Tag.Value, "json:"))
			comment := text(f.Doc)
			if comment == "" {
				comment = text(f.Comment)
			}
			for _, n := range f.Names {
				if comment != "" {
					entry.Fields[n.Name] = comment
				}
			}
		}
		if tagged {
			doc.Types[t.Name.Name] = entry
		}
	}
}

// text joins a comment's lines; paragraphs stay apart.
func text(c *ast.CommentGroup) string {
	var paragraphs []string
	for _, p := range strings.Split(c.Text(), "\n\n") {
		if p = strings.Join(strings.Fields(p), " "); p != "" {
			paragraphs = append(paragraphs, p)
		}
	}
	return strings.Join(paragraphs, "\n\n")
}
