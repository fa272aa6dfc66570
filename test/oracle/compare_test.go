package oracle

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("rewrite", false, "write the recorded exchanges again")

// request is one question to both nodes.
type request struct {
	name   string // of the recorded exchange; "": it is compared and not recorded
	about  string // the comment in the recorded exchange
	method string
	params []any
}

func (r request) body(t testing.TB) []byte {
	t.Helper()
	params := r.params
	if params == nil {
		params = []any{}
	}
	b, err := json.Marshal(struct {
		Version string `json:"jsonrpc"`
		ID      int    `json:"id"`
		Method  string `json:"method"`
		Params  []any  `json:"params"`
	}{"2.0", 1, r.method, params})
	require.NoError(t, err)
	return b
}

// ask returns an answer as it is on the wire.
func ask(t testing.TB, url string, body []byte) []byte {
	t.Helper()
	answer, err := http.Post(url, "application/json", bytes.NewReader(body))
	require.NoError(t, err)
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.StatusCode, "%s", b)
	return bytes.TrimSpace(b)
}

// decode keeps numbers as they are.
func decode(t testing.TB, b []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	require.NoError(t, d.Decode(&v), "%s", b)
	return v
}

// difference is one place where two answers differ. Elements of lists are all "[]".
type difference struct {
	path       string
	ours, geth any
}

// absent is what a side has that has nothing.
type absent struct{}

func (absent) String() string { return "(absent)" }

func compare(at string, ours, geth any, found *[]difference) {
	switch o := ours.(type) {
	case map[string]any:
		g, ok := geth.(map[string]any)
		if !ok {
			break
		}
		keys := maps.Clone(o)
		maps.Copy(keys, g)
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			ov, in := o[key]
			if !in {
				ov = absent{}
			}
			gv, in := g[key]
			if !in {
				gv = absent{}
			}
			compare(at+"."+key, ov, gv, found)
		}
		return
	case []any:
		g, ok := geth.([]any)
		if !ok || len(o) != len(g) {
			break
		}
		for i := range o {
			compare(at+"[]", o[i], g[i], found)
		}
		return
	}
	if !reflect.DeepEqual(ours, geth) {
		*found = append(*found, difference{strings.TrimPrefix(at, "."), ours, geth})
	}
}

// intended is a line of testdata/differences.txt: METHOD NAME PATH, globs all three, and a reason.
type intended struct {
	method, name, path, reason string
	used                       bool
}

func readIntended(t testing.TB) (all []*intended) {
	for _, line := range lines(t, "testdata/differences.txt") {
		where, reason, ok := strings.Cut(line, " | ")
		fields := strings.Fields(where)
		require.True(t, ok && len(fields) == 3 && len(reason) > 10, "want METHOD NAME PATH | reason: %s", line)
		all = append(all, &intended{method: fields[0], name: fields[1], path: fields[2], reason: reason})
	}
	return all
}

func (i *intended) covers(r request, d difference) bool {
	match := func(pattern, s string) bool {
		ok, err := path.Match(pattern, s)
		return err == nil && ok
	}
	return match(i.method, r.method) && match(i.name, r.name+"-") && match(strings.ReplaceAll(i.path, "[]", "@"), strings.ReplaceAll(d.path, "[]", "@"))
}

// TestAgainstGeth asks both nodes everything.
func TestAgainstGeth(t *testing.T) {
	c := makeChain()
	ours, geth := startLedgerd(t, c.genesis, c.blocks), startGeth(t, c.genesis, c.blocks)
	exceptions := readIntended(t)
	asked, names := 0, make(map[string]bool)
	for _, r := range requests(c) {
		asked++
		body := r.body(t)
		answer, theirs := ask(t, ours, body), ask(t, geth, body)
		var found []difference
		compare("", decode(t, answer), decode(t, theirs), &found)
		for _, d := range found {
			covered := false
			for _, e := range exceptions {
				if e.covers(r, d) {
					e.used, covered = true, true
				}
			}
			if !covered {
				t.Errorf("%s %s\n  at %s\n  ours %v\n  geth %v", r.name, body, d.path, d.ours, d.geth)
			}
		}
		if r.name != "" {
			file := filepath.Join("testdata", "io", r.method, r.name+".io")
			require.False(t, names[file], "two exchanges of that name: %s", file)
			names[file] = true
			record(t, file, r.about, body, answer)
		}
	}
	for _, e := range exceptions {
		if !e.used {
			t.Errorf("not a difference any more: %s %s %s", e.method, e.name, e.path)
		}
	}
	noOthers(t, names)
	t.Logf("%d requests, %d of them recorded, %d intended differences", asked, len(names), len(exceptions))
}

// record compares an exchange with the recorded one, or records it.
func record(t *testing.T, file, about string, body, answer []byte) {
	t.Helper()
	text := fmt.Sprintf(">> %s\n<< %s\n", body, answer)
	if about != "" {
		text = "// " + about + "\n" + text
	}
	if *rewrite {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		return
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "go test ./test/oracle -rewrite records it")
	if text != string(want) {
		t.Errorf("%s is another exchange now (-rewrite records it):\n%s", file, text)
	}
}

// noOthers finds recorded exchanges that nobody asks for any more, and with -rewrite removes them.
func noOthers(t *testing.T, names map[string]bool) {
	t.Helper()
	files, err := filepath.Glob("testdata/io/*/*.io")
	require.NoError(t, err)
	for _, file := range files {
		switch {
		case names[file]:
		case *rewrite:
			require.NoError(t, os.Remove(file))
		default:
			t.Errorf("%s is of no request", file)
		}
	}
}
