package config

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"time"
)

// ByteSize is a number of bytes. In text it always has a unit: "512KiB", "5MiB", "1GiB" or "1024B".
type ByteSize int64

// byteUnits are tried in order, so that "KiB" is not taken for "B".
var byteUnits = []struct {
	suffix string
	size   int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// ParseByteSize is the inverse of String. Decimal units (MB) are refused rather than taken for binary ones.
func ParseByteSize(s string) (ByteSize, error) {
	for _, u := range byteUnits {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.size {
			break
		}
		return ByteSize(n * u.size), nil
	}
	return 0, fmt.Errorf("want a size such as \"512KiB\" or \"5MiB\", have %q", s)
}

// String writes the size in the largest unit that divides it.
func (b ByteSize) String() string {
	for _, u := range byteUnits {
		if b != 0 && int64(b)%u.size == 0 {
			return fmt.Sprintf("%d%s", int64(b)/u.size, u.suffix)
		}
	}
	return "0B"
}

// A PeerAddress is a node and where it can be reached.
type PeerAddress struct {
	Key     ed25519.PublicKey // node key
	Address string            // host:port
}

// String is the inverse of ParsePeerAddress.
func (p PeerAddress) String() string { return hex.EncodeToString(p.Key) + "@" + p.Address }

// ParseKey reads a public key as `ledgerd keys show` prints it, or with 0x before it.
func ParseKey(s string) (ed25519.PublicKey, error) {
	key, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%q is not a public key of %d hexadecimal digits", s, 2*ed25519.PublicKeySize)
	}
	return key, nil
}

// ParsePeerAddress reads KEY@HOST:PORT. The host is what other nodes dial: it is there, and the port is not 0.
func ParsePeerAddress(s string) (PeerAddress, error) {
	text, address, ok := strings.Cut(s, "@")
	if !ok {
		return PeerAddress{}, fmt.Errorf("%q is not a peer; write KEY@HOST:PORT", s)
	}
	key, err := ParseKey(text)
	if err != nil {
		return PeerAddress{}, err
	}
	if err := ValidDialAddress(address); err != nil {
		return PeerAddress{}, err
	}
	return PeerAddress{key, address}, nil
}

// ValidDialAddress says why nobody could connect to an address, or nil.
func ValidDialAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || host == "" || portErr != nil || n == 0 {
		return fmt.Errorf("%q is not an address to connect to; write HOST:PORT, such as \"10.0.0.1:18546\"", address)
	}
	return nil
}

// setValue stores a value that the TOML parser produced (string, int64, float64, bool, []any, time, map) in the
// field behind ptr. There is no conversion that a reader of the file would not expect: no number for a duration, no
// string for a number.
func setValue(ptr, v any) error {
	switch p := ptr.(type) {
	case *string:
		s, ok := v.(string)
		if !ok {
			return wanted("a string", v)
		}
		*p = s
	case *bool:
		b, ok := v.(bool)
		if !ok {
			return wanted("true or false", v)
		}
		*p = b
	case *int:
		n, ok := v.(int64)
		if !ok || n < math.MinInt32 || n > math.MaxInt32 {
			return wanted("a whole number", v)
		}
		*p = int(n)
	case *uint64:
		n, ok := v.(int64)
		if !ok || n < 0 {
			return wanted("a whole number, not negative", v)
		}
		*p = uint64(n)
	case *time.Duration:
		s, ok := v.(string)
		d, err := time.ParseDuration(s)
		if !ok || err != nil {
			return wanted("a duration such as \"500ms\", \"5s\" or \"1h30m\"", v)
		}
		*p = d
	case *ByteSize:
		s, ok := v.(string)
		b, err := ParseByteSize(s)
		if !ok || err != nil {
			return wanted("a size such as \"512KiB\" or \"5MiB\"", v)
		}
		*p = b
	case *[]string:
		list, ok := v.([]any)
		if !ok {
			return wanted("a list of strings", v)
		}
		out := make([]string, 0, len(list))
		for _, item := range list {
			s, ok := item.(string)
			if !ok {
				return wanted("a list of strings", v)
			}
			out = append(out, s)
		}
		*p = out
	default:
		panic(fmt.Sprintf("config: no way to set a %T", ptr))
	}
	return nil
}

// setText stores what an environment variable holds: the same values as in the file, without quotes, and lists with
// commas.
func setText(ptr any, text string) error {
	switch ptr.(type) {
	case *bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return wanted("true or false", text)
		}
		return setValue(ptr, b)
	case *int, *uint64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return wanted("a whole number", text)
		}
		return setValue(ptr, n)
	case *[]string:
		list := []any{}
		for s := range strings.SplitSeq(text, ",") {
			if s = strings.TrimSpace(s); s != "" {
				list = append(list, s)
			}
		}
		return setValue(ptr, list)
	}
	return setValue(ptr, text)
}

// wanted says what was expected and shows what is there instead.
func wanted(what string, have any) error {
	if s, ok := have.(string); ok {
		return fmt.Errorf("want %s, have %q", what, s)
	}
	return fmt.Errorf("want %s, have %v", what, have)
}

// literal writes the field behind ptr as TOML.
func literal(ptr any) string {
	switch p := ptr.(type) {
	case *string:
		return quote(*p)
	case *time.Duration:
		return quote(shortDuration(*p))
	case *ByteSize:
		return quote(p.String())
	case *bool:
		return fmt.Sprint(*p)
	case *int:
		return fmt.Sprint(*p)
	case *uint64:
		return fmt.Sprint(*p)
	case *[]string:
		quoted := make([]string, len(*p))
		for i, s := range *p {
			quoted[i] = quote(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	panic(fmt.Sprintf("config: no way to write a %T", ptr))
}

// quote writes a TOML basic string. strconv.Quote will not do: \a, \v and \x.. are not TOML.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// shortDuration drops the zero parts that time.Duration.String appends: "1m", not "1m0s".
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
