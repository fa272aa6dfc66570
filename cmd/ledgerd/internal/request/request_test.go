package request

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"ledgerd/cmd/ledgerd/internal/config"
	"ledgerd/consensus"
	"ledgerd/ledger/genesis"
)

// private is the key of whoever has a number.
func private(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func public(n byte) ed25519.PublicKey { return private(n).Public().(ed25519.PublicKey) }

func node(id uint64, key byte, address string) consensus.Member {
	return consensus.Member{ID: id, NodeKey: public(key), PeerAddress: address}
}

// chain has three members on raft, of which the third took the place of another one.
func chain() []consensus.Segment {
	admins := []ed25519.PublicKey{public(101), public(102)}
	return []consensus.Segment{
		{Epoch: 1, Base: 1, Spec: consensus.Spec{
			Engine: "raft", Members: []consensus.Member{node(1, 1, "a:1"), node(2, 2, "b:1"), node(3, 3, "c:1")}, Admins: admins, Threshold: 1,
		}},
		{Epoch: 2, Base: 10, Spec: consensus.Spec{
			Engine: "raft", Params: map[string]string{"tick": "1"},
			Members: []consensus.Member{node(1, 1, "a:1"), node(2, 2, "b:2"), node(5, 5, "e:1")}, Admins: admins, Threshold: 2,
			Ledger: []byte(`{"gasLimit":"0x8f0d180"}`),
		}},
	}
}

func faults(engine string) (consensus.FaultModel, error) {
	switch engine {
	case "raft", "local":
		return consensus.CrashFaults, nil
	case "comet":
		return consensus.ByzantineFaults, nil
	}
	return 0, errors.New("unknown engine")
}

func peerAt(key byte, address string) config.PeerAddress {
	return config.PeerAddress{Key: public(key), Address: address}
}

// TestApply is the table of what can be asked for: the words for what came of it, or the error.
func TestApply(t *testing.T) {
	fresh := genesis.Member{NodeKey: genesis.HexKey(public(7)), PeerAddress: "g:1"}
	for name, tc := range map[string]struct {
		change Change
		want   []string // About and the beginning of Text
		err    string
	}{
		"nothing":               {Change{}, []string{"no change"}, ""},
		"another engine":        {Change{Engine: "comet"}, []string{"engine: raft (2 of 3", "parameter out: tick=1"}, ""},
		"the same engine":       {Change{Engine: "raft"}, []string{"no change"}, ""},
		"engine with params":    {Change{Engine: "comet", Params: map[string]string{"x": "y"}}, []string{"engine", "parameter out: tick=1", "parameter in: x=y"}, ""},
		"a param":               {Change{Params: map[string]string{"tick": "2"}}, []string{"parameter: tick=1 -> 2"}, ""},
		"no param":              {Change{Params: map[string]string{"tick": ""}}, []string{"parameter out: tick=1"}, ""},
		"ids of any segment":    {Change{IDs: []uint64{2, 3}}, []string{"member out: 1 ", "member out: 5 ", "member in: 3 at c:1", "quorum: 2 of 3 -> 2 of 2"}, ""},
		"remove":                {Change{Remove: []uint64{1}}, []string{"member out: 1 ", "quorum"}, ""},
		"add":                   {Change{Add: []config.PeerAddress{peerAt(7, "g:1"), peerAt(8, "h:1")}}, []string{"member in: 6 at g:1", "member in: 7 at h:1", "quorum: 2 of 3 -> 3 of 5"}, ""},
		"add one of the past":   {Change{Add: []config.PeerAddress{peerAt(3, "c:1")}}, []string{"member in: 6 at c:1", "quorum"}, ""},
		"a wiped disk":          {Change{Remove: []uint64{2}, Add: []config.PeerAddress{peerAt(2, "b:2")}}, []string{"member out: 2 ", "member in: 6 at b:2"}, ""},
		"one alone":             {Change{Engine: "local", IDs: []uint64{5}}, []string{"engine: raft (2 of 3 members order; bears crash faults) -> local (1 of 1", "parameter out", "member out: 1 ", "member out: 2 "}, ""},
		"a list":                {Change{Members: []genesis.Member{fresh, {ID: 2, NodeKey: genesis.HexKey(public(2)), PeerAddress: "b:3"}}}, []string{"member out: 1 ", "member out: 5 ", "member in: 6 at g:1", "member: 2 at b:2", "quorum"}, ""},
		"a list with known key": {Change{Members: []genesis.Member{{NodeKey: genesis.HexKey(public(5)), PeerAddress: "e:1"}}}, []string{"member out: 1 ", "member out: 2 ", "quorum"}, ""},
		"a list with high id":   {Change{Members: []genesis.Member{{ID: 40, NodeKey: genesis.HexKey(public(9)), PeerAddress: "i:1"}, fresh}}, []string{"member out", "member out", "member out", "member in: 40 ", "member in: 41 ", "quorum"}, ""},
		"administrators":        {Change{Admins: []ed25519.PublicKey{public(102), public(103), public(104)}, Threshold: 3}, []string{"administrator out: " + hex.EncodeToString(public(101)), "administrator in", "administrator in", "threshold: 2 of 2 -> 3 of 3"}, ""},
		"ledger":                {Change{Ledger: []byte(`{"baseFee":"0x7"}`)}, []string{"base fee: 7 wei"}, ""},

		"unknown engine":      {Change{Engine: "paxos"}, nil, "unknown engine"},
		"unknown id":          {Change{IDs: []uint64{9}}, nil, "member 9: no segment has one"},
		"id twice":            {Change{IDs: []uint64{1, 1}}, nil, "member 1 has the id 1"},
		"id of another":       {Change{Members: []genesis.Member{{ID: 3, NodeKey: genesis.HexKey(public(7)), PeerAddress: "g:1"}}}, nil, "leave it out"},
		"remove a stranger":   {Change{Remove: []uint64{3}}, nil, "member 3 cannot be removed"},
		"add a member":        {Change{Add: []config.PeerAddress{peerAt(5, "e:1")}}, nil, "it is member 5"},
		"add twice":           {Change{Add: []config.PeerAddress{peerAt(7, "e:1"), peerAt(7, "e:1")}}, nil, "it is member 6"},
		"nobody":              {Change{Remove: []uint64{1, 2, 5}}, nil, "no members are left"},
		"several on local":    {Change{Engine: "local"}, nil, "orders alone"},
		"no address":          {Change{Members: []genesis.Member{{NodeKey: genesis.HexKey(public(7))}, fresh}}, nil, "member 6: \"\" is not an address"},
		"too few to sign":     {Change{Admins: []ed25519.PublicKey{public(103)}}, nil, "2 of 1 administrators can never sign"},
		"threshold too high":  {Change{Threshold: 3}, nil, "3 of 2 administrators"},
		"bad ledger":          {Change{Ledger: []byte(`{"gasLimit":"0x1"}`)}, nil, "bad ledger parameters"},
		"administrator twice": {Change{Admins: []ed25519.PublicKey{public(103), public(103)}}, nil, "is there twice"},
	} {
		t.Run(name, func(t *testing.T) {
			before := chain()
			spec, err := tc.change.Apply(before, faults)
			require.Equal(t, chain(), before, "the chain is not changed")
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			q := consensus.Request{Epoch: 3, Spec: spec}
			again, err := consensus.DecodeRequest(q.Encode())
			require.NoError(t, err)
			require.Equal(t, q, again, "the spec is as it comes out of the bytes")
			lines := Compare(before[1].Spec, q)[2:]
			require.Len(t, lines, len(tc.want), "%v", lines)
			for i, want := range tc.want {
				require.True(t, strings.HasPrefix(lines[i].String(), want), "%q, want %q", lines[i], want)
			}
		})
	}
	sealed := chain()
	sealed[1].Spec.Admins, sealed[1].Spec.Threshold = nil, 0
	_, err := Change{}.Apply(sealed, faults)
	require.ErrorContains(t, err, "no administrators")
}

func TestLedgerParameters(t *testing.T) {
	gas, coinbase := uint64(30_000_000), common.Address{1}
	require.Empty(t, LedgerParameters(nil, nil, nil))
	require.JSONEq(t, `{"gasLimit":"0x1c9c380"}`, string(LedgerParameters(&gas, nil, nil)))
	require.JSONEq(t, `{"gasLimit":"0x1c9c380","baseFee":"0x0","coinbase":"0x0100000000000000000000000000000000000000"}`,
		string(LedgerParameters(&gas, new(big.Int), &coinbase)))
}

func TestDecodeMembers(t *testing.T) {
	key := hex.EncodeToString(public(7))
	members, err := DecodeMembers([]byte(`[{"nodeKey":"` + key + `","peerAddress":"g:1","cometAddresses":["g:2","g:3"]}]`))
	require.NoError(t, err)
	require.Equal(t, []genesis.Member{{NodeKey: genesis.HexKey(public(7)), PeerAddress: "g:1", CometAddresses: []string{"g:2", "g:3"}}}, members)
	for text, want := range map[string]string{
		``:                                     "EOF",
		`[]`:                                   "names no member",
		`[{"peerAddress":"g:1"}]`:              "has no nodeKey",
		`[{"nodeKey":"` + key + `","port":1}]`: "port",
		`[{"nodeKey":"` + key + `"}] []`:       "more follows",
		`[{"nodeKey":"` + key + `","cometAddresses":["1","2","3"]}]`: "3 cometAddresses",
	} {
		_, err := DecodeMembers([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
}

// ask is a request with everything in it.
func ask(t *testing.T) consensus.Request {
	spec, err := Change{
		Engine: "comet", Params: map[string]string{"a": "1", "b": "<2>"}, Add: []config.PeerAddress{peerAt(7, "g:1")},
		Ledger: []byte(`{"gasLimit":"0x8f0d180"}`),
	}.Apply(chain(), faults)
	require.NoError(t, err)
	spec.Members[0].CometAddresses, spec.Members[0].ConsensusKey = [2]string{"a:2", "a:3"}, public(9)
	return consensus.Request{NetworkID: consensus.NetworkID{1, 2}, Epoch: 3, NotAfter: 100_123, Spec: spec}
}

// TestRequestFile: what is written is read back, however it is indented.
func TestRequestFile(t *testing.T) {
	for _, q := range []consensus.Request{ask(t), {Epoch: 2, Spec: consensus.Spec{Engine: "local", Ledger: []byte("no JSON")}}} {
		text := Encode(q)
		got, err := Decode(text)
		require.NoError(t, err)
		require.Equal(t, q, got)
		var compact bytes.Buffer
		require.NoError(t, json.Compact(&compact, text))
		got, err = Decode(compact.Bytes())
		require.NoError(t, err)
		require.Equal(t, q, got)
	}
}

// TestTampering is invariant 1: each change of a file that leaves its bytes is told, with where.
func TestTampering(t *testing.T) {
	text := string(Encode(ask(t)))
	for _, c := range []struct{ old, new, want string }{
		{`"epoch": 3`, `"epoch": 4`, `it says "epoch": 4 where the bytes that are signed say "epoch": 3`},
		{`"notAfter": 100123`, `"notAfter": 200123`, "notAfter"},
		{`"engine": "comet"`, `"engine": "raft"`, "engine"},
		{`"faults": "byzantine"`, `"faults": "crash"`, "faults"},
		{`"g:1"`, `"x:1"`, "x:1"},
		{`"threshold": 2`, `"threshold": 1`, "threshold"},
		{hex.EncodeToString(public(101)), hex.EncodeToString(public(66)), hex.EncodeToString(public(66))},
		{"0x8f0d180", "0x8f0d181", "gasLimit"},
		{`"a": "1"`, `"a": "2"`, `"a": "2"`},
		{`"epoch": 3`, `"epoch": 4, "epoch": 3`, `"epoch": 4`},
		{`"epoch": 3`, `"Epoch": 3`, `"Epoch": 3`},
		{`"epoch": 3,`, `"epoch": 3, "note": "harmless",`, "note"},
		{`"hash": "`, `"hash": "00`, "hash"},
		{fileFormat, "ledgerd request 9", "not a \"ledgerd request 1\""},
		{`"request": "`, `"request": "zz`, "not hexadecimal"},
		{`"request": "02`, `"request": "03`, "version 3"},
		{"\n}\n", "\n}\n{}", "not a"},
	} {
		changed := strings.Replace(text, c.old, c.new, 1)
		require.NotEqual(t, text, changed, c.old)
		_, err := Decode([]byte(changed))
		require.ErrorContains(t, err, c.want, "%s for %s", c.new, c.old)
	}
	_, err := Decode([]byte(strings.TrimSuffix(text, "}\n")))
	require.Error(t, err)
}

func TestSignatureFile(t *testing.T) {
	q := ask(t)
	s := q.Sign(private(101))
	text := string(EncodeSignature(q, s))
	got, err := DecodeSignature(q, []byte(text))
	require.NoError(t, err)
	require.Equal(t, s, got)

	other := q
	other.NotAfter++
	_, err = DecodeSignature(other, []byte(text))
	require.ErrorContains(t, err, "it signs request "+q.Hash().String())
	for _, c := range []struct{ old, new, want string }{
		{hex.EncodeToString(public(101)), hex.EncodeToString(public(102)), "not that of key " + hex.EncodeToString(public(102))},
		{`"signature": "`, `"signature": "00`, "not that of key"},
		{`"signature": "`, `"signature": "x`, "not that of key"},
		{signatureFormat, fileFormat, "not a"},
		{`"key"`, `"keys"`, "keys"},
	} {
		changed := strings.Replace(text, c.old, c.new, 1)
		require.NotEqual(t, text, changed)
		_, err := DecodeSignature(q, []byte(changed))
		require.ErrorContains(t, err, c.want)
	}
}

// TestDescribe: everything that is signed is in the words, and nothing in them can pretend to be another line.
func TestDescribe(t *testing.T) {
	q := ask(t)
	q.Spec.Params["b"] = "1\x1b[2K\radministrator: none"
	q.Spec.Members[1].PeerAddress = "b:2\nmember: 9"
	var all strings.Builder
	for _, l := range Describe(q) {
		require.NotContains(t, l.String(), "\n")
		require.NotContains(t, l.String(), "\x1b")
		all.WriteString(l.String() + "\n")
	}
	want := []string{
		q.Hash().String(), q.NetworkID.String(), "epoch 3", "lsn 100123", "comet (3 of 4 members order; bears byzantine faults)", "a=1",
		`b="1\x1b[2K\radministrator: none"`, `"b:2\nmember: 9"`, "1 at a:1", "5 at e:1", "6 at g:1", "consensus key " + hex.EncodeToString(public(9)), "a:2 and a:3",
		"2 of these sign", hex.EncodeToString(public(101)), hex.EncodeToString(public(102)), "gas limit: 150000000",
	}
	for _, m := range q.Spec.Members {
		want = append(want, hex.EncodeToString(m.NodeKey))
	}
	for _, w := range want {
		require.Contains(t, all.String(), w)
	}
	q.Spec.Admins, q.Spec.Threshold, q.Spec.Ledger = nil, 0, []byte("?")
	lines := Describe(q)
	require.Contains(t, lines[len(lines)-2].Text, "nothing can ever follow")
	require.Contains(t, lines[len(lines)-1].Text, "will not take")
}

func FuzzDecode(f *testing.F) {
	q := consensus.Request{Epoch: 2, Spec: consensus.Spec{Engine: "local", Ledger: []byte(`{"gasLimit":"0x8f0d180"}`)}}
	f.Add(Encode(q))
	f.Add([]byte(`{"format":"ledgerd request 1","request":"02"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		q, err := Decode(text)
		if err != nil {
			return
		}
		again, err := Decode(Encode(q))
		if err != nil || again.Hash() != q.Hash() {
			t.Fatalf("what was read is not read when it is written again: %v", err)
		}
	})
}

// TestRecoveryFile: it says what its bytes say, or is refused; a signature over it is over nothing else.
func TestRecoveryFile(t *testing.T) {
	seed := bytes.Repeat([]byte{7}, ed25519.SeedSize)
	key := ed25519.NewKeyFromSeed(seed)
	public := key.Public().(ed25519.PublicKey)
	r := consensus.Recovery{
		NetworkID: consensus.NetworkID{1}, Epoch: 3, Count: 1, Base: 77, Digest: consensus.Digest{2}, UnixMilli: 5,
		Spec: consensus.Spec{
			Engine: "raft", Members: []consensus.Member{{ID: 2, NodeKey: public, PeerAddress: "a:1"}}, Admins: []ed25519.PublicKey{public}, Threshold: 1,
		},
	}
	text := EncodeRecovery(r)
	require.True(t, IsRecovery(text))
	got, err := DecodeRecovery(text)
	require.NoError(t, err)
	require.Equal(t, r, got)
	for _, change := range []string{`"base": 77`, `"count": 1`, `"a:1"`, `"unixMilli": 5`} {
		changed := strings.Replace(string(text), change, strings.NewReplacer("77", "78", "1", "2", "5", "6").Replace(change), 1)
		require.NotEqual(t, string(text), changed)
		_, err := DecodeRecovery([]byte(changed))
		require.ErrorContains(t, err, "do not sign", change)
	}
	_, err = DecodeRecovery([]byte(`{}`))
	require.Error(t, err)

	sig := EncodeSignature(r, r.Sign(key))
	_, err = DecodeSignature(r, sig)
	require.NoError(t, err)
	other := r
	other.Count++
	_, err = DecodeSignature(other, sig)
	require.Error(t, err)
	_, err = DecodeSignature(consensus.Request{NetworkID: r.NetworkID, Epoch: 3, Spec: r.Spec}, sig)
	require.Error(t, err)
	require.Contains(t, fmt.Sprint(DescribeRecovery(r)), "epoch 2 after lsn 76")
}
