package batch

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func fill(n int, size int) [][]byte {
	txs := make([][]byte, n)
	for i := range txs {
		txs[i] = bytes.Repeat([]byte{byte(i) | 0x80}, size)
	}
	return txs
}

// The example of doc.go is the format's golden file.
func TestExample(t *testing.T) {
	txs := [][]byte{{0xaa, 0xbb}, {0x02, 0xcc}}
	want := unhex(t, "01c7c682aabb8202cc")
	if got := Encode(txs); !bytes.Equal(got, want) {
		t.Fatalf("Encode = %x, want %x", got, want)
	}
	got, err := Decode(want, Limits{})
	if err != nil || !slices.EqualFunc(got, txs, bytes.Equal) {
		t.Fatalf("Decode = %x, %v", got, err)
	}
}

// The sizes that a batch is filled by are the sizes that come out.
func TestSize(t *testing.T) {
	for _, length := range []int{2, 54, 55, 56, 57, 255, 256, 65535, 65536, 128 << 10} {
		for _, n := range []int{1, 2, 3} {
			if got, want := len(Encode(fill(n, length))), Size(n*ItemSize(length)); got != want {
				t.Errorf("%d transactions of %d bytes: %d bytes, Size says %d", n, length, got, want)
			}
		}
	}
	if got := Encode([][]byte{{0x05}}); !bytes.Equal(got, unhex(t, "01c2c105")) {
		t.Errorf("one byte: %x", got)
	}
}

func TestDecodeFaults(t *testing.T) {
	for _, tt := range []struct {
		name    string
		payload []byte
		limits  Limits
		want    error
	}{
		{"nothing", nil, Limits{}, ErrEmpty},
		{"version 0", unhex(t, "00c7c682aabb8202cc"), Limits{}, ErrVersion},
		{"version 2", unhex(t, "02c7c682aabb8202cc"), Limits{}, ErrVersion},
		{"version alone", unhex(t, "01"), Limits{}, ErrMalformed},
		{"no fields", unhex(t, "01c0"), Limits{}, ErrMalformed},
		{"no transactions", unhex(t, "01c1c0"), Limits{}, ErrEmpty},
		{"transaction of no bytes", unhex(t, "01c2c180"), Limits{}, ErrEmpty},
		{"transactions are a string", unhex(t, "01c382aabb"), Limits{}, ErrMalformed},
		{"transaction is a list", unhex(t, "01c3c2c105"), Limits{}, ErrMalformed},
		{"batch is a string", unhex(t, "0182aabb"), Limits{}, ErrMalformed},
		{"bytes after the batch", unhex(t, "01c7c682aabb8202cc00"), Limits{}, ErrMalformed},
		{"a second field", unhex(t, "01c8c682aabb8202cc80"), Limits{}, ErrMalformed},
		{"cut short", unhex(t, "01c7c682aabb8202"), Limits{}, ErrMalformed},
		{"list longer than its parent", unhex(t, "01c3c682aabb8202cc"), Limits{}, ErrMalformed},
		{"short string in long form", unhex(t, "01c6c5b803aabbcc"), Limits{}, ErrMalformed},
		{"one byte in long form", unhex(t, "01c3c28105"), Limits{}, ErrMalformed},
		{"length with leading zero", unhex(t, "01f80500c3c281aa"), Limits{}, ErrMalformed},
		{"length beyond the payload", unhex(t, "01ffffffffffffffffff"), Limits{}, ErrMalformed},
		{"more than the protocol's transactions", Encode(fill(MaxTransactions+1, 2)), Limits{}, ErrTooMany},
		{"more than the protocol's bytes", Encode(fill(5, 110<<10)), Limits{}, ErrTooLarge},
		{"more transactions than asked for", Encode(fill(3, 2)), Limits{Transactions: 2}, ErrTooMany},
		{"more bytes than asked for", Encode(fill(3, 2)), Limits{Bytes: 10}, ErrTooLarge},
	} {
		txs, err := Decode(tt.payload, tt.limits)
		if !errors.Is(err, tt.want) || txs != nil {
			t.Errorf("%s: %x, %v; want %v", tt.name, txs, err, tt.want)
		}
	}
	if _, err := Decode(Encode(fill(MaxTransactions, 300)), Limits{}); err != nil {
		t.Errorf("full batch: %v", err)
	}
}

// FuzzDecode checks invariants 1 to 3: no panic, one of the named faults, and one encoding only.
func FuzzDecode(f *testing.F) {
	f.Add(unhex(f, "01c7c682aabb8202cc"))
	f.Add(unhex(f, "01c2c105"))
	f.Add(unhex(f, "01f80500c3c281aa"))
	f.Add(Encode(fill(3, 60)))
	f.Add(Encode(fill(2, 300)))
	f.Fuzz(func(t *testing.T, payload []byte) {
		limits := Limits{Bytes: 1 << 12, Transactions: 20}
		txs, err := Decode(payload, limits)
		if err != nil {
			if !slices.ContainsFunc([]error{ErrVersion, ErrTooLarge, ErrTooMany, ErrEmpty, ErrMalformed}, func(e error) bool { return errors.Is(err, e) }) {
				t.Fatalf("unnamed fault %v", err)
			}
			return
		}
		if len(txs) == 0 || len(txs) > limits.Transactions || len(payload) > limits.Bytes {
			t.Fatalf("%d transactions in %d bytes pass the limits", len(txs), len(payload))
		}
		if again := Encode(txs); !bytes.Equal(again, payload) {
			t.Fatalf("%x decodes, but encodes as %x", payload, again)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	payload := Encode(fill(500, 110))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(payload, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
