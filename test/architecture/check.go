package architecture

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A room is one part of the repository.
type room struct {
	// dir is its folder. A package belongs to the room with the longest dir above it.
	dir string
	// imports are the rooms that its code may import, besides itself.
	imports []string
	// tests are the rooms that its _test.go files may import, besides these.
	tests []string
	// testOnly says that nothing but tests (and other testOnly rooms) may import it.
	testOnly bool
	// foreign lists modules that may be imported here and nowhere else below consensus.
	foreign []string
}

const (
	local = "consensus/local"
	raft  = "consensus/raft"
	comet = "consensus/comet"
)

// rooms is the whole of the law; what is not granted is forbidden.
var rooms = []room{
	{dir: "cmd/ledgerd", imports: []string{"rpc", "ledger", "vm", "consensus", "contracts", "web", "testnet", local, raft, comet}},
	{dir: "rpc", imports: []string{"ledger", "vm", "consensus"}, tests: []string{"contracts", local}},
	{dir: "ledger", imports: []string{"vm", "consensus", "contracts"}, tests: []string{local, "consensus/view/viewtest"}},
	{dir: "vm", imports: []string{"contracts"}},
	{dir: "contracts"},
	{dir: "web"},
	{dir: "testnet", imports: []string{"ledger", "consensus", "contracts"}},

	{dir: "consensus", tests: []string{local, raft, comet, "consensus/logtest", "consensus/view/viewtest", "consensus/sim"}},
	{dir: local, imports: []string{"consensus"}, tests: []string{"consensus/logtest"}},
	{dir: raft, imports: []string{"consensus"}, tests: []string{"consensus/logtest", "consensus/sim", local}, foreign: []string{"go.etcd.io/raft"}},
	{dir: comet, imports: []string{"consensus"}, tests: []string{"consensus/logtest", "consensus/sim"}, foreign: []string{"github.com/cometbft"}},
	{dir: "consensus/logtest", imports: []string{"consensus"}, tests: []string{local}, testOnly: true},
	{dir: "consensus/view/viewtest", imports: []string{"consensus"}, tests: []string{local}, testOnly: true},
	{dir: "consensus/sim", imports: []string{"consensus", local, raft, comet}, tests: []string{"consensus/logtest"}, testOnly: true},

	{dir: "test", imports: []string{"rpc", "ledger", "vm", "consensus", "contracts", "web", "testnet", local, raft, comet, "consensus/logtest", "consensus/view/viewtest", "consensus/sim", "cmd/ledgerd"}, testOnly: true},
}

// topFolders are the folders that may stand at the top. bin is what make build writes.
var topFolders = []string{"bin", "cmd", "consensus", "contracts", "docs", "ledger", "rpc", "test", "testnet", "vm", "web"}

// consensusLibraries may each be imported by one engine only (its room's foreign); goEthereum by
// nothing below consensus.
var (
	consensusLibraries = []string{"go.etcd.io/raft", "go.etcd.io/etcd/raft", "github.com/hashicorp/raft", "github.com/cometbft", "github.com/tendermint"}
	goEthereum         = "github.com/ethereum/go-ethereum"
)

// A Violation is one import, or one folder, that breaks a rule.
type Violation struct {
	File string // relative to the root of the repository
	Line int    // 0 if it is about the whole file or folder
	Rule string
}

func (v Violation) String() string {
	if v.Line == 0 {
		return fmt.Sprintf("%s: %s", v.File, v.Rule)
	}
	return fmt.Sprintf("%s:%d: %s", v.File, v.Line, v.Rule)
}

// Check reports every breach of the rules in the Go files of repo, whose module path is module. Its
// error means that the files could not be read or parsed, and then the list is not complete.
func Check(repo fs.FS, module string) ([]Violation, error) {
	var found []Violation
	err := fs.WalkDir(repo, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != "." && ignored(d.Name()) {
				return fs.SkipDir
			}
			if name != "." && !strings.Contains(name, "/") && !slices.Contains(topFolders, name) {
				found = append(found, Violation{File: name, Rule: "not one of the folders that stand at the top: " + strings.Join(topFolders, ", ")})
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		here, err := checkFile(repo, module, name)
		found = append(found, here...)
		return err
	})
	return found, err
}

// ignored tells the folders that the go command does not look into either, and npm's.
func ignored(base string) bool {
	return base == "testdata" || base == "node_modules" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")
}

func checkFile(repo fs.FS, module, name string) ([]Violation, error) {
	from := roomOf(path.Dir(name))
	if from == nil {
		return []Violation{{File: name, Rule: "a Go file outside of every room"}}, nil
	}
	source, err := fs.ReadFile(repo, name)
	if err != nil {
		return nil, err
	}
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var found []Violation
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return found, fmt.Errorf("%s: import %s: %w", name, spec.Path.Value, err)
		}
		rule := ""
		if dir, ours := strings.CutPrefix(imported, module+"/"); ours {
			rule = insideRule(from, dir, strings.HasSuffix(name, "_test.go"))
		} else {
			rule = foreignRule(from, imported)
		}
		if rule != "" {
			found = append(found, Violation{File: name, Line: files.Position(spec.Pos()).Line, Rule: rule})
		}
	}
	return found, nil
}

// insideRule returns the rule that an import of our own package in dir breaks, or "".
func insideRule(from *room, dir string, test bool) string {
	to := roomOf(dir)
	switch {
	case to == nil:
		return fmt.Sprintf("imports %s, which is outside of every room", dir)
	case to == from:
		return ""
	case test && slices.Contains(from.tests, to.dir), slices.Contains(from.imports, to.dir):
		return ""
	case to.testOnly:
		return fmt.Sprintf("imports %s, which only tests may import", dir)
	case to.engine():
		return fmt.Sprintf("imports %s: only cmd/ledgerd and tests import an engine", dir)
	}
	granted := "no other room"
	if len(from.imports) > 0 {
		granted = "only " + strings.Join(from.imports, ", ")
	}
	return fmt.Sprintf("imports %s, but %s imports %s", dir, from.dir, granted)
}

// foreignRule returns the rule that an import of somebody else's package breaks, or "".
func foreignRule(from *room, imported string) string {
	if !within(from.dir, "consensus") {
		return ""
	}
	if within(imported, goEthereum) {
		return fmt.Sprintf("imports %s: consensus knows nothing of the EVM, it declares hooks that cmd/ledgerd wires", imported)
	}
	for _, library := range consensusLibraries {
		if within(imported, library) && !slices.Contains(from.foreign, library) {
			return fmt.Sprintf("imports %s: a consensus library stays in the engine that is made of it", imported)
		}
	}
	return ""
}

func (r *room) engine() bool { return r.dir == local || r.dir == raft || r.dir == comet }

// roomOf returns the room that the package in dir belongs to, nil if there is none.
func roomOf(dir string) *room {
	var found *room
	for i := range rooms {
		if within(dir, rooms[i].dir) && (found == nil || len(rooms[i].dir) > len(found.dir)) {
			found = &rooms[i]
		}
	}
	return found
}

// within tells whether p is dir or lies below it. The last element may carry a major version
// (go.etcd.io/raft/v3 lies below go.etcd.io/raft).
func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, dir+"/")
}
