package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Load reads a config.toml, lays the environment over it and validates the result. getenv may be nil. The error
// joins one *Error per problem, or is the error of reading the file. Validation runs after a failed parse too: a field
// whose value could not be parsed still holds its default, so that it adds only the problems of other keys.
func Load(path string, getenv func(string) string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := Default()
	if err := errors.Join(c.parse(data), c.override(getenv), c.Validate()); err != nil {
		return nil, inFile(path, err)
	}
	return c, nil
}

// Parse is Load of bytes, without an environment.
func Parse(data []byte) (*Config, error) {
	c := Default()
	if err := errors.Join(c.parse(data), c.Validate()); err != nil {
		return nil, err
	}
	return c, nil
}

// inFile puts the file's name in front of a list of problems, one a line when there are several.
func inFile(path string, err error) error {
	if strings.Contains(err.Error(), "\n") {
		return &fileError{path + ":\n  " + strings.ReplaceAll(err.Error(), "\n", "\n  "), err}
	}
	return &fileError{path + ": " + err.Error(), err}
}

type fileError struct {
	text string
	err  error
}

func (e *fileError) Error() string { return e.text }
func (e *fileError) Unwrap() error { return e.err }

// parse overwrites in c what data sets, and goes on after a problem so that all are found.
func (c *Config) parse(data []byte) error {
	var file map[string]any
	if _, err := toml.Decode(string(data), &file); err != nil {
		var perr toml.ParseError
		if errors.As(err, &perr) {
			return &Error{Line: perr.Position.Line, Reason: "not TOML: " + perr.Message}
		}
		return &Error{Reason: "not TOML: " + err.Error()}
	}
	lines := keyLines(data)
	var errs []error
	bad := func(name, reason string) {
		errs = append(errs, &Error{Key: name, Line: lines[name], Reason: reason})
	}
	table := c.keys()
	for _, section := range sortedKeys(file) {
		values, isTable := file[section].(map[string]any)
		known := slices.ContainsFunc(table, func(k key) bool { return k.section() == section })
		switch {
		case !known && isTable:
			bad(section, "unknown section"+suggest(section, sectionNames()))
			continue
		case !known:
			bad(section, "unknown key; every key belongs to a section, such as [rpc]")
			continue
		case !isTable:
			bad(section, "is a section, not a key")
			continue
		}
		for _, leaf := range sortedKeys(values) {
			name := section + "." + leaf
			i := slices.IndexFunc(table, func(k key) bool { return k.name == name })
			if i < 0 {
				bad(name, "unknown key"+suggest(name, keyNames(table)))
				continue
			}
			if err := setValue(table[i].ptr, values[leaf]); err != nil {
				bad(name, err.Error())
			}
		}
	}
	slices.SortStableFunc(errs, func(a, b error) int { return lineOf(a) - lineOf(b) })
	return errors.Join(errs...)
}

func lineOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Line
	}
	return 0
}

// override lays LEDGERD_SECTION_KEY variables over c. Other variables with that prefix are left alone: schedulers
// invent them (a Kubernetes service named ledgerd makes LEDGERD_PORT), so they cannot be called typos.
func (c *Config) override(getenv func(string) string) error {
	if getenv == nil {
		return nil
	}
	var errs []error
	for _, k := range c.keys() {
		text := getenv(k.env())
		if text == "" {
			continue
		}
		if err := setText(k.ptr, text); err != nil {
			errs = append(errs, &Error{Key: k.env(), Reason: err.Error()})
		}
	}
	return errors.Join(errs...)
}

// TOML writes c as a commented config.toml that Parse reads back to an equal Config. A key that holds its default is
// written as a comment, so that the file shows what was decided here, and a later version's better default is taken
// up where nothing was.
func (c *Config) TOML() []byte {
	var b bytes.Buffer
	b.WriteString("# Settings of one ledgerd node. What the whole network agrees on is in genesis.json and in the log.\n")
	b.WriteString("# A line that is commented out shows a default. An unknown key is an error. The environment overrides the\n")
	b.WriteString("# file: LEDGERD_RPC_LISTEN is rpc.listen.\n")
	table, defaults := c.keys(), Default().keys()
	for _, s := range sections {
		fmt.Fprintf(&b, "\n# %s\n[%s]\n", s.doc, s.name)
		for i, k := range table {
			if k.section() != s.name {
				continue
			}
			off := ""
			if literal(k.ptr) == literal(defaults[i].ptr) {
				off = "# "
			}
			fmt.Fprintf(&b, "\n# %s\n%s%s = %s\n", k.doc, off, k.leaf(), literal(k.ptr))
		}
	}
	return b.Bytes()
}

// keyLines finds the line of each key for messages. It reads TOML as people write it ([section], then key = value);
// a key in an inline table or behind a dotted name simply has no line.
func keyLines(data []byte) map[string]int {
	lines := make(map[string]int)
	section := ""
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimSpace(line)
		if inner, ok := strings.CutPrefix(line, "["); ok {
			name, _, _ := strings.Cut(inner, "]")
			section = unquoteKey(name)
			lines[section] = n
			continue
		}
		name, _, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		name = unquoteKey(name)
		if section != "" {
			name = section + "." + name
		}
		if lines[name] == 0 {
			lines[name] = n
		}
	}
	return lines
}

// unquoteKey strips the space and the quotes that TOML allows around a key.
func unquoteKey(s string) string { return strings.Trim(strings.TrimSpace(s), `"'`) }

// suggest finds the one name that a misspelt one may have meant.
func suggest(name string, names []string) string {
	best, distance := "", 4
	for _, n := range names {
		if d := editDistance(name, n); d < distance {
			best, distance = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}

// editDistance is Levenshtein's, over one rolling row.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			substitute := diagonal
			if a[i-1] != b[j-1] {
				substitute++
			}
			diagonal = row[j]
			row[j] = min(substitute, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

func sectionNames() []string {
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	return names
}

func keyNames(table []key) []string {
	var names []string
	for _, k := range table {
		names = append(names, k.name)
	}
	return names
}

func sortedKeys(m map[string]any) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
