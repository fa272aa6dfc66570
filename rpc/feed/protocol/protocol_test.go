package protocol

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"
)

func TestCursorText(t *testing.T) {
	for text, c := range map[string]Cursor{
		"1-1337-42-3-9f86d081884c7d65":                         {"1337", Position{42, 3}, [8]byte{0x9f, 0x86, 0xd0, 0x81, 0x88, 0x4c, 0x7d, 0x65}},
		"1-1-0-0-0000000000000000":                             {"1", Position{}, [8]byte{}},
		"1-18446744073709551616-0-0-00000000000000ff":          {"18446744073709551616", Position{}, [8]byte{7: 0xff}},
		"1-7-18446744073709551615-4294967295-ffffffffffffffff": {"7", Position{math.MaxUint64, math.MaxUint32}, [8]byte{255, 255, 255, 255, 255, 255, 255, 255}},
	} {
		require.Equal(t, text, c.String())
		parsed, err := ParseCursor(text)
		require.NoError(t, err)
		require.Equal(t, c, parsed)
	}
	for _, text := range []string{
		"", "1", "----", "1-1337-42-3", "1-1337-42-3-9f86d081884c7d65-", "0-1337-42-3-9f86d081884c7d65", "1--42-3-9f86d081884c7d65", "1-x-42-3-9f86d081884c7d65",
		"1-1337-042-3-9f86d081884c7d65", "1-1337-+42-3-9f86d081884c7d65", "1-1337-42-4294967296-9f86d081884c7d65", "1-1337-18446744073709551616-3-9f86d081884c7d65",
		"1-1337-42-3-9f86d081884c7d6", "1-1337-42-3-9f86d081884c7d650", "1-1337-42-3-9F86d081884c7d65", "1-1337-42-3-9f86d081884c7d6g", " 1-1337-42-3-9f86d081884c7d65",
		"1-01-42-3-9f86d081884c7d65", "1-1337-4_2-3-9f86d081884c7d65", "1-" + strings.Repeat("9", 200) + "-42-3-9f86d081884c7d65",
	} {
		_, err := ParseCursor(text)
		var e *Error
		require.True(t, errors.As(err, &e), "%q", text)
		require.Equal(t, CodeInvalidCursor, e.Code)
		require.Less(t, len(e.Message), 400)
	}
}

// FuzzCursor: whatever parses is written in the one way that it is written.
func FuzzCursor(f *testing.F) {
	f.Add("1-1337-42-3-9f86d081884c7d65")
	f.Add("1-0-0-0-0000000000000000")
	f.Add("2-1337-42-3-9f86d081884c7d65")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCursor(text)
		if err == nil && c.String() != text {
			t.Errorf("%q is parsed and is %v", text, c)
		}
	})
}

// FuzzRequest: what decodes is well formed, and encodes to what decodes to the same.
func FuzzRequest(f *testing.F) {
	for _, text := range []string{
		`{"type":"subscribe","filters":[{"kind":"log","address":"0x0100000000000000000000000000000000000000","topics":[null,[],["0x0100000000000000000000000000000000000000000000000000000000000000"]],"from":[],"to":null}],"credit":5,"start":"0x1f"}`,
		`{"type":"subscribe","filters":[{"kind":"block"},{"kind":"receipt","from":["0x0100000000000000000000000000000000000000"]}],"credit":0,"cursor":"1-1337-42-3-9f86d081884c7d65"}`,
		`{"type":"credit","credit":1}`, `{"type":"subscribe","filters":[{"kind":"log","topics":[[null]]}]}`, `[]`, `null`, `{"filters":null}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := DecodeGrant(text); err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Errorf("%v has no code", err)
			}
		}
		q, err := DecodeRequest(text)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Errorf("%v has no code", err)
			}
			return
		}
		again, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		q2, err := DecodeRequest(again)
		if err != nil {
			t.Fatalf("%s becomes %s: %v", text, again, err)
		}
		third, _ := json.Marshal(q2)
		if string(again) != string(third) {
			t.Errorf("%s becomes %s becomes %s", text, again, third)
		}
		if len(q.Filters) == 0 || q.Cursor != "" && q.Start != "" {
			t.Errorf("%s passes", text)
		}
	})
}

func TestFilterJSON(t *testing.T) {
	var f Filter
	require.NoError(t, json.Unmarshal([]byte(`{"kind":"log","address":"0x0100000000000000000000000000000000000000","topics":[null,"0x`+strings.Repeat("0", 64)+`"]}`), &f))
	require.Equal(t, Filter{Kind: KindLog, Address: []common.Address{{1}}, Topics: [][]common.Hash{nil, {{}}}}, f)
	require.Equal(t, 2, f.Size())
}
