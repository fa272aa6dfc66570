package rpc

import (
	"bytes"
	"context"
	_ "embed"
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	gethmath "github.com/ethereum/go-ethereum/common/math"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/eth/filters"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
)

// This file is rpc.discover: an OpenRPC document of every method that is registered, made of what reflection tells of it and of the comments in the
// source, which apidoc.json holds. A method is in it because it is served; there is no list to keep.

//go:embed apidoc.json
var apidocFile []byte

// apidoc is what internal/apidoc has found in the source.
type apidoc struct {
	Methods map[string]struct {
		Doc    string   `json:"doc"`
		Params []string `json:"params"`
	} `json:"methods"`
	Types map[string]struct {
		Doc    string            `json:"doc"`
		Fields map[string]string `json:"fields"`
	} `json:"types"`
}

var readAPIDoc = sync.OnceValue(func() (doc apidoc) {
	if err := json.Unmarshal(apidocFile, &doc); err != nil {
		panic("rpc: apidoc.json: " + err.Error())
	}
	return doc
})

// schema is a JSON Schema, as far as it is made here.
type schema map[string]any

// openRPC is a document of the OpenRPC specification, 1.3.
type openRPC struct {
	OpenRPC    string            `json:"openrpc"`
	Info       openRPCInfo       `json:"info"`
	Methods    []openRPCMethod   `json:"methods"`
	Components openRPCComponents `json:"components"`
}

type openRPCInfo struct {
	Title       string `json:"title"`
	Version     string `json:"version"`
	Description string `json:"description"`
}

type openRPCMethod struct {
	Name        string            `json:"name"`
	Summary     string            `json:"summary"`
	Description string            `json:"description,omitempty"` // what the summary leaves out
	Tags        []openRPCTag      `json:"tags"`                  // the namespace
	Params      []openRPCArgument `json:"params"`
	Result      openRPCArgument   `json:"result"`
}

type openRPCTag struct {
	Name string `json:"name"`
}

type openRPCArgument struct {
	Name     string `json:"name"`
	Required bool   `json:"required,omitempty"`
	Schema   schema `json:"schema"`
}

type openRPCComponents struct {
	Schemas map[string]schema `json:"schemas"`
}

// discoverAPI adds to the rpc_ namespace, whose other method (modules) go-ethereum has.
type discoverAPI struct{ server *Server } // not embedded: a Server has exported methods

// Discover returns this document, which describes the methods that the node serves. It is also called rpc.discover, the name that OpenRPC gives it.
func (api *discoverAPI) Discover() *openRPC { return api.server.document() }

// document describes what is registered.
func (s *Server) document() *openRPC {
	d := &describer{doc: readAPIDoc(), schemas: make(map[string]schema), names: make(map[use]string)}
	out := &openRPC{
		OpenRPC: "1.3.2",
		Info: openRPCInfo{"ledgerd", s.opts.Version,
			"The JSON-RPC of a ledgerd node. What eth_, net_, web3_ and txpool_ methods do is specified in github.com/ethereum/execution-apis."},
	}
	subscriptions := make(map[string][]openRPCMethod)
	for _, r := range s.registered {
		t := reflect.TypeOf(r.receiver)
		for m := range t.Methods() {
			method, kind := d.method(r.namespace, t, m)
			switch kind {
			case isMethod:
				out.Methods = append(out.Methods, method)
			case isSubscription:
				subscriptions[r.namespace] = append(subscriptions[r.namespace], method)
			}
		}
	}
	for _, namespace := range slices.Sorted(maps.Keys(subscriptions)) {
		out.Methods = append(out.Methods, subscribeMethods(namespace, subscriptions[namespace])...)
	}
	out.Methods = append(out.Methods, openRPCMethod{
		Name: "rpc_modules", Summary: "Modules returns the namespaces that are served, with their versions.", Tags: []openRPCTag{{"rpc"}},
		Params: []openRPCArgument{}, Result: openRPCArgument{Name: "result", Schema: d.of(reflect.TypeFor[map[string]string]())},
	})
	slices.SortFunc(out.Methods, func(a, b openRPCMethod) int { return strings.Compare(a.Name, b.Name) })
	out.Components.Schemas = d.schemas
	return out
}

// subscribeMethods are the two methods behind which go-ethereum puts all subscriptions of a namespace.
func subscribeMethods(namespace string, kinds []openRPCMethod) []openRPCMethod {
	slices.SortFunc(kinds, func(a, b openRPCMethod) int { return strings.Compare(a.Name, b.Name) })
	var names []any
	var about []string
	for _, k := range kinds {
		_, name, _ := strings.Cut(k.Name, "_")
		names = append(names, name)
		line := name + ": " + k.Summary
		for _, p := range k.Params {
			line += " It takes " + p.Name + "."
		}
		about = append(about, line)
	}
	id := schema{"type": "string", "title": "subscription id"}
	tags := []openRPCTag{{namespace}}
	return []openRPCMethod{
		{
			Name: namespace + "_subscribe", Summary: "Begins a subscription on this websocket and returns its id, which its notifications carry.", Description: strings.Join(about, "\n\n"),
			Tags:   tags,
			Params: []openRPCArgument{{"kind", true, schema{"enum": names}}, {"argument", false, schema{}}},
			Result: openRPCArgument{Name: "result", Schema: id},
		},
		{
			Name: namespace + "_unsubscribe", Summary: "Ends a subscription.", Tags: tags,
			Params: []openRPCArgument{{"id", true, id}},
			Result: openRPCArgument{Name: "result", Schema: schema{"type": "boolean"}},
		},
	}
}

// What go-ethereum's server makes of a Go method.
type methodKind int

const (
	isNothing methodKind = iota
	isMethod
	isSubscription
)

var (
	contextType      = reflect.TypeFor[context.Context]()
	errorType        = reflect.TypeFor[error]()
	subscriptionType = reflect.TypeFor[*gethrpc.Subscription]()
)

// describer makes schemas of Go types. Structs become components, under their names.
type describer struct {
	doc     apidoc
	schemas map[string]schema
	names   map[use]string
	input   bool // what is described now is an argument: its fields may be left out
}

// use is a struct as an answer, or as an argument.
type use struct {
	t     reflect.Type
	input bool
}

func (d *describer) method(namespace string, receiver reflect.Type, m reflect.Method) (openRPCMethod, methodKind) {
	kind, in, out := signature(m.Type)
	if kind == isNothing {
		return openRPCMethod{}, isNothing
	}
	if receiver.Kind() == reflect.Pointer {
		receiver = receiver.Elem()
	}
	about := d.doc.Methods[receiver.Name()+"."+m.Name]
	summary, rest, _ := strings.Cut(upperFirst(strings.TrimPrefix(about.Doc, m.Name+" ")), ". ")
	form := openRPCMethod{
		Name: namespace + "_" + lowerFirst(m.Name), Summary: strings.TrimSuffix(summary, ".") + ".", Description: rest,
		Tags: []openRPCTag{{namespace}}, Params: []openRPCArgument{}, Result: openRPCArgument{Name: "result", Schema: schema{"type": "null"}},
	}
	d.input = true
	for i, t := range in {
		p := openRPCArgument{Name: fmt.Sprintf("param%d", i+1), Required: t.Kind() != reflect.Pointer}
		if i < len(about.Params) && about.Params[i] != "" {
			p.Name = about.Params[i]
		}
		if !p.Required { // null, or nothing at the end of the list, is the same
			t = t.Elem()
		}
		p.Schema = d.of(t)
		form.Params = append(form.Params, p)
	}
	d.input = false
	if out != nil {
		form.Result.Schema = d.of(out)
	}
	return form, kind
}

func upperFirst(s string) string {
	if s == "" {
		return s
	}
	r := []rune(s)
	r[0] = unicode.ToUpper(r[0])
	return string(r)
}

// signature applies go-ethereum's rules: the context is not a parameter, an error is not a result.
func signature(f reflect.Type) (kind methodKind, in []reflect.Type, out reflect.Type) {
	for i := 1; i < f.NumIn(); i++ { // 0 is the receiver
		if i == 1 && f.In(i) == contextType {
			continue
		}
		in = append(in, f.In(i))
	}
	switch results := f.NumOut(); {
	case results > 2 || (results == 2 && f.Out(1) != errorType):
		return isNothing, nil, nil
	case results == 2 && f.Out(0) == subscriptionType && f.NumIn() > 1 && f.In(1) == contextType:
		return isSubscription, in, nil
	case results > 0 && f.Out(0) != errorType:
		return isMethod, in, f.Out(0)
	default:
		return isMethod, in, nil
	}
}

// lowerFirst is what go-ethereum does to the name of a method.
func lowerFirst(name string) string {
	r := []rune(name)
	r[0] = unicode.ToLower(r[0])
	return string(r)
}

func pattern(title, expression string) schema {
	return schema{"title": title, "type": "string", "pattern": expression}
}

const quantityPattern = "^0x(0|[1-9a-fA-F][0-9a-fA-F]*)$"

var (
	quantity    = pattern("quantity", quantityPattern)
	hash        = pattern("32 bytes", "^0x[0-9a-f]{64}$")
	anyHash     = pattern("32 bytes", "^0x[0-9a-fA-F]{64}$")
	address     = pattern("address", "^0x[0-9a-fA-F]{40}$")
	data        = pattern("bytes", "^0x([0-9a-fA-F]{2})*$")
	blockTag    = schema{"title": "block tag", "enum": []any{"earliest", "latest", "safe", "finalized", "pending"}}
	blockNumber = schema{"title": "block number or tag", "anyOf": []any{quantity, blockTag}}
)

// wellKnown are the types whose JSON reflection does not tell.
var wellKnown = map[reflect.Type]schema{
	reflect.TypeFor[hexutil.Big]():             quantity,
	reflect.TypeFor[hexutil.Uint64]():          quantity,
	reflect.TypeFor[hexutil.Uint]():            quantity,
	reflect.TypeFor[hexutil.Bytes]():           data,
	reflect.TypeFor[common.Hash]():             hash,
	reflect.TypeFor[common.Address]():          address,
	reflect.TypeFor[types.Bloom]():             pattern("logs bloom", "^0x[0-9a-f]{512}$"),
	reflect.TypeFor[types.BlockNonce]():        pattern("8 bytes", "^0x[0-9a-f]{16}$"),
	reflect.TypeFor[gethmath.HexOrDecimal64](): {"title": "number", "anyOf": []any{quantity, schema{"type": "integer", "minimum": 0}}},
	reflect.TypeFor[gethrpc.ID]():              pattern("filter id", "^0x[0-9a-f]+$"),
	reflect.TypeFor[gethrpc.BlockNumber]():     blockNumber,
	reflect.TypeFor[gethrpc.BlockNumberOrHash](): {"title": "block (EIP-1898)", "anyOf": []any{
		quantity, blockTag, anyHash,
		schema{"type": "object", "properties": schema{"blockNumber": blockNumber, "blockHash": anyHash, "requireCanonical": schema{"type": "boolean"}}},
	}},
	reflect.TypeFor[filters.FilterCriteria](): {"title": "selection of logs", "type": "object", "properties": schema{
		"fromBlock": blockNumber, "toBlock": blockNumber, "blockHash": anyHash,
		"address": schema{"anyOf": []any{address, schema{"type": "array", "items": address}, schema{"type": "null"}}},
		"topics": schema{"type": "array", "maxItems": maxTopics, "items": schema{"anyOf": []any{
			schema{"type": "null"}, anyHash, schema{"type": "array", "items": schema{"anyOf": []any{anyHash, schema{"type": "null"}}}},
		}}},
	}},
	reflect.TypeFor[types.Log](): {"title": "log", "type": "object", "properties": schema{
		"address": address, "topics": schema{"type": "array", "items": hash, "maxItems": maxTopics}, "data": data,
		"blockNumber": quantity, "blockHash": hash, "blockTimestamp": quantity, "transactionHash": hash, "transactionIndex": quantity,
		"logIndex": quantity, "removed": schema{"type": "boolean"},
	}, "required": []any{"address", "topics", "data"}},
	reflect.TypeFor[types.Withdrawal](): {"title": "withdrawal", "type": "object", "properties": schema{
		"index": quantity, "validatorIndex": quantity, "address": address, "amount": quantity,
	}},
	reflect.TypeFor[types.SetCodeAuthorization](): {"title": "authorization (EIP-7702)", "type": "object", "properties": schema{
		"chainId": quantity, "address": address, "nonce": quantity, "yParity": quantity, "r": quantity, "s": quantity,
	}},
	reflect.TypeFor[typedData](): {"title": "EIP-712 data, or a string that holds it"},
}

// of returns the schema of a type: of what it encodes to and is decoded from.
func (d *describer) of(t reflect.Type) schema {
	if s := wellKnown[t]; s != nil {
		return s
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schema{"anyOf": []any{d.of(t.Elem()), schema{"type": "null"}}}
	case reflect.Interface:
		return schema{}
	case reflect.Struct:
		if !opaque(t) {
			return d.component(t)
		}
	}
	switch text, own := reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[json.Marshaler](); {
	case t.Implements(own) || reflect.PointerTo(t).Implements(own), t.Kind() == reflect.Struct, t == reflect.TypeFor[json.RawMessage]():
		return schema{"title": t.Name()} // its own business
	case t.Implements(text) || reflect.PointerTo(t).Implements(text):
		return schema{"title": t.Name(), "type": "string"}
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		list := schema{"type": "array", "items": d.of(t.Elem())}
		if t.Kind() == reflect.Slice { // nil
			return schema{"anyOf": []any{list, schema{"type": "null"}}}
		}
		return list
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": d.of(t.Elem())}
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.String:
		return schema{"type": "string"}
	case reflect.Float32, reflect.Float64:
		return schema{"type": "number"}
	default:
		return schema{"type": "integer"}
	}
}

// opaque says whether a struct encodes itself.
func opaque(t reflect.Type) bool {
	own := reflect.TypeFor[json.Marshaler]()
	return t.Implements(own) || reflect.PointerTo(t).Implements(own)
}

// component returns a reference to the schema of a struct.
func (d *describer) component(t reflect.Type) schema {
	name, known := d.names[use{t, d.input}]
	if !known {
		name = d.newName(t)
		d.names[use{t, d.input}] = name
		d.schemas[name] = nil // it may hold itself
		properties, required := make(schema), []any{}
		d.fields(t, properties, &required)
		s := schema{"type": "object", "properties": properties}
		if !d.input {
			s["required"] = required
		}
		if about := d.doc.Types[t.Name()].Doc; about != "" && t.PkgPath() == reflect.TypeFor[openRPC]().PkgPath() {
			s["description"] = about
		}
		d.schemas[name] = s
	}
	return schema{"$ref": "#/components/schemas/" + name}
}

var notInName = regexp.MustCompile(`[^A-Za-z0-9]+`)

// newName gives a struct the name that it has in Go, or with a number if another one has it.
func (d *describer) newName(t reflect.Type) string {
	short := regexp.MustCompile(`[a-zA-Z0-9.-]+/`).ReplaceAllString(t.Name(), "") // of type arguments
	base := notInName.ReplaceAllString(short, "_")
	base = upperFirst(strings.Trim(base, "_"))
	if base == "" {
		base = "Object"
	}
	if d.input {
		base += "Argument"
	}
	name := base
	for i := 2; ; i++ {
		if _, taken := d.schemas[name]; !taken {
			return name
		}
		name = fmt.Sprint(base, i)
	}
}

// fields collects what encoding/json would write, the fields of embedded structs as if they were its own, unless it has one of that name.
func (d *describer) fields(t reflect.Type, properties schema, required *[]any) {
	var embedded []reflect.Type
	defer func() {
		for _, e := range embedded {
			d.fields(e, properties, required)
		}
	}()
	comments := d.doc.Types[t.Name()].Fields
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch {
		case f.Anonymous && name == "" && inner.Kind() == reflect.Struct:
			embedded = append(embedded, inner)
			continue
		case !f.IsExported() || name == "-":
			continue
		case name == "":
			name = f.Name
		}
		if _, hidden := properties[name]; hidden {
			continue
		}
		s := d.of(f.Type)
		if c := comments[f.Name]; c != "" {
			s = maps.Clone(s)
			s["description"] = c
			if ref, ok := s["$ref"]; ok { // beside a reference nothing counts, in older tools
				delete(s, "$ref")
				s["allOf"] = []any{schema{"$ref": ref}}
			}
		}
		properties[name] = s
		if !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero") {
			*required = append(*required, name)
		}
	}
}

// OpenRPC calls its method rpc.discover, and go-ethereum's server knows only names with an underscore. So the name is changed in the request, where it
// is a method's: inside of a string the quotes around it would be escaped. The length stays.
var discoverName = regexp.MustCompile(`("method"\s*:\s*"rpc)\.(discover")`)

// maxDiscoverBytes is the longest request by HTTP in which rpc.discover is found.
const maxDiscoverBytes = 64 << 10

func renameDiscover(request []byte) []byte {
	if !bytes.Contains(request, []byte(`rpc.discover`)) {
		return request
	}
	return discoverName.ReplaceAll(request, []byte("${1}_${2}"))
}

// discoverable returns the body of a request with the method renamed.
func discoverable(r *http.Request) io.ReadCloser {
	if r.ContentLength < 0 || r.ContentLength > maxDiscoverBytes {
		return r.Body
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(body), failingReader{err}), r.Body}
	}
	return struct {
		io.Reader
		io.Closer
	}{bytes.NewReader(renameDiscover(body)), r.Body}
}

// failingReader returns an error that a read has had before.
type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }
