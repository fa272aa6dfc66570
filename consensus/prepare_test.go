package consensus

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPrepareEncoding(t *testing.T) {
	c := newChain()
	q := c.request(2)
	p := Prepare{Request: q, Signatures: []Signature{q.Sign(c.keys[0]), q.Sign(c.keys[2])}, At: 77}
	encoded := p.Encode()
	back, err := DecodePrepare(encoded)
	require.NoError(t, err)
	require.Equal(t, encoded, back.Encode())
	require.Equal(t, p.At, back.At)
	require.Equal(t, q.Hash(), back.Request.Hash())
	require.ElementsMatch(t, p.Signatures, back.Signatures)
	require.NoError(t, back.Request.Authorised(c.segment(), back.Signatures))

	turned := p
	turned.Signatures = []Signature{p.Signatures[1], p.Signatures[0]}
	require.Equal(t, encoded, turned.Encode(), "the order of the signatures says nothing")

	for name, bad := range map[string][]byte{
		"nothing":       nil,
		"version":       append([]byte{prepareVersion + 1}, encoded[1:]...),
		"bytes after":   append(slices.Clone(encoded), 0),
		"a key twice":   Prepare{Request: q, Signatures: []Signature{p.Signatures[0], p.Signatures[0]}}.Encode(),
		"no request":    (&writer{b: []byte{prepareVersion, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}).b,
		"a Seal's bits": c.seal(2).Encode(),
	} {
		_, err := DecodePrepare(bad)
		require.ErrorIs(t, err, ErrInvalid, name)
	}
	for n := range encoded {
		_, err := DecodePrepare(encoded[:n])
		require.ErrorIs(t, err, ErrInvalid, "cut off after %d bytes", n)
	}
}

func FuzzDecodePrepare(f *testing.F) {
	c := newChain()
	q := c.request(2)
	f.Add(Prepare{Request: q, Signatures: []Signature{q.Sign(c.keys[1])}, At: 1}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodePrepare(b)
		if err != nil {
			require.ErrorIs(t, err, ErrInvalid)
			return
		}
		require.Equal(t, b, p.Encode())
	})
}
