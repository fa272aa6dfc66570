package genesis_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/params"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/contracts"
	"ledgerd/ledger/genesis"
)

func dev(t *testing.T) (*genesis.Genesis, []byte) {
	g := genesis.Dev(1337, []common.Address{{1}, {2}})
	file, err := g.JSON()
	require.NoError(t, err)
	return g, file
}

func TestDevIsValidAndRoundTrips(t *testing.T) {
	g, file := dev(t)
	require.NoError(t, g.Validate())
	parsed, err := genesis.Parse(file)
	require.NoError(t, err)
	again, err := parsed.JSON()
	require.NoError(t, err)
	require.Equal(t, string(file), string(again))
	require.Equal(t, g.ToBlock().Hash(), parsed.ToBlock().Hash())
}

// TestNetworkID checks invariant 1: spelling does not matter, content does.
func TestNetworkID(t *testing.T) {
	g, file := dev(t)
	want, err := g.NetworkID()
	require.NoError(t, err)

	var spaced bytes.Buffer
	require.NoError(t, json.Indent(&spaced, file, "  ", "\t"))
	parsed, err := genesis.Parse(spaced.Bytes())
	require.NoError(t, err)
	got, err := parsed.NetworkID()
	require.NoError(t, err)
	require.Equal(t, want, got)

	for name, change := range map[string]func(*genesis.Genesis){
		"chain id":    func(g *genesis.Genesis) { g.Config.ChainID.SetInt64(7) },
		"gas limit":   func(g *genesis.Genesis) { g.GasLimit++ },
		"balance":     func(g *genesis.Genesis) { delete(g.Alloc, common.Address{2}) },
		"window":      func(g *genesis.Genesis) { g.Ledgerd.DedupWindow++ },
		"permissions": func(g *genesis.Genesis) { g.Ledgerd.Permissions = &genesis.Permissions{} },
	} {
		other, _ := dev(t)
		change(other)
		got, err := other.NetworkID()
		require.NoError(t, err)
		require.NotEqual(t, want, got, name)
	}
}

// TestGethFile takes a file as `geth init` and Hardhat write it.
func TestGethFile(t *testing.T) {
	file := []byte(`{
	  "config": {"chainId": 4242, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0, "eip158Block": 0,
	    "byzantiumBlock": 0, "constantinopleBlock": 0, "petersburgBlock": 0, "istanbulBlock": 0, "berlinBlock": 0,
	    "londonBlock": 0, "mergeNetsplitBlock": 0, "shanghaiTime": 0, "cancunTime": 0, "pragueTime": 0, "osakaTime": 0,
	    "terminalTotalDifficulty": 0, "blobSchedule": {
	      "cancun": {"target": 3, "max": 6, "baseFeeUpdateFraction": 3338477},
	      "prague": {"target": 6, "max": 9, "baseFeeUpdateFraction": 5007716}}},
	  "difficulty": "0x0", "gasLimit": "0x8f0d180",
	  "alloc": {"f39fd6e51aad88f6f4ce6ab8827279cfffb92266": {"balance": "0xde0b6b3a7640000"}}
	}`)
	_, err := genesis.Parse(file)
	require.ErrorContains(t, err, "contract missing", "a chain without system contracts could not end a block")

	g, err := genesis.ParseForInit(file)
	require.NoError(t, err)
	require.Equal(t, uint64(0x8f0d180), g.GasLimit)
	require.Zero(t, g.BaseFee.Sign())
	require.Equal(t, genesis.EngineLocal, g.Ledgerd.Engine)
	require.NotEmpty(t, g.Alloc[params.BeaconRootsAddress].Code)
	require.NotEmpty(t, g.Alloc[contracts.PermissionsAddress].Code)
	require.Equal(t, "1000000000000000000", g.Alloc[common.HexToAddress("0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266")].Balance.String())

	completed, err := g.JSON()
	require.NoError(t, err)
	_, err = genesis.Parse(completed)
	require.NoError(t, err)
}

func TestCompleteKeepsBalances(t *testing.T) {
	_, file := dev(t)
	text := strings.Replace(string(file), `"alloc":{`, `"alloc":{"`+contracts.PermissionsAddress.Hex()[2:]+`x":{},`, 1)
	_, err := genesis.Parse([]byte(text))
	require.Error(t, err, "an address that is none")
}

// members sets the engine and its members, each written as id:letter of its key:peer address.
func members(engine string, list ...string) func(file map[string]any) {
	return func(file map[string]any) {
		all := []any{}
		for _, m := range list {
			parts := strings.SplitN(m, ":", 3)
			id, _ := strconv.Atoi(parts[0])
			all = append(all, map[string]any{"id": id, "nodeKey": strings.Repeat("0"+parts[1], 32*len(parts[1])), "peerAddress": parts[2]})
			if parts[1] == "" {
				delete(all[len(all)-1].(map[string]any), "nodeKey")
			}
		}
		section := file["ledgerd"].(map[string]any)
		section["engine"], section["members"] = engine, all
	}
}

// TestMembers takes a file with members to the spec of the first segment and back.
func TestMembers(t *testing.T) {
	_, data := dev(t)
	var file map[string]any
	require.NoError(t, json.Unmarshal(data, &file))
	members("raft", "1:a:10.0.0.1:9000", "7:b:[::1]:9001")(file)
	list := file["ledgerd"].(map[string]any)["members"].([]any)
	list[1].(map[string]any)["consensusKey"] = strings.Repeat("0c", 32)
	list[1].(map[string]any)["cometAddresses"] = []string{"h:1", "h:2"}
	changed, err := json.Marshal(file)
	require.NoError(t, err)
	g, err := genesis.Parse(changed)
	require.NoError(t, err)
	key := func(b byte) ed25519.PublicKey { return bytes.Repeat([]byte{b}, ed25519.PublicKeySize) }
	require.Equal(t, consensus.Spec{Engine: genesis.EngineRaft, Members: []consensus.Member{
		{ID: 1, NodeKey: key(10), PeerAddress: "10.0.0.1:9000"},
		{ID: 7, NodeKey: key(11), ConsensusKey: key(12), PeerAddress: "[::1]:9001", CometAddresses: [2]string{"h:1", "h:2"}},
	}}, g.Spec())

	canonical, err := g.JSON()
	require.NoError(t, err)
	again, err := genesis.Parse(canonical)
	require.NoError(t, err)
	require.Equal(t, g.Ledgerd, again.Ledgerd)
	want, err := g.NetworkID()
	require.NoError(t, err)
	again.Ledgerd.Members[0].PeerAddress = "10.0.0.2:9000"
	got, err := again.NetworkID()
	require.NoError(t, err)
	require.NotEqual(t, want, got, "who orders is part of what the network is")
}

// TestRefusals checks that every mistake is named.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(file map[string]any)
		want string
	}{
		{"unknown key", func(f map[string]any) { f["ledgerd"].(map[string]any)["enginee"] = "raft" }, `enginee`},
		{"no config", func(f map[string]any) { delete(f, "config") }, "config is missing"},
		{"low gas limit", func(f map[string]any) { f["gasLimit"] = "0x1000" }, "gasLimit"},
		{"proof of work", func(f map[string]any) { f["difficulty"] = "0x400" }, "difficulty"},
		{"extra data", func(f map[string]any) { f["extraData"] = "0x" + strings.Repeat("00", 33) }, "extraData"},
		{"deposit contract", func(f map[string]any) {
			f["config"].(map[string]any)["depositContractAddress"] = "0x00000000219ab540356cbb839cbe05303d7705fa"
		}, "deposit"},
		{"code at zero", func(f map[string]any) {
			f["alloc"].(map[string]any)["0000000000000000000000000000000000000000"] = map[string]any{"balance": "0x0", "code": "0x00"}
		}, "zero address"},
		{"missing system contract", func(f map[string]any) {
			delete(f["alloc"].(map[string]any), strings.ToLower(params.HistoryStorageAddress.Hex()[2:]))
		}, "contract missing"},
		{"changed system contract", func(f map[string]any) {
			f["alloc"].(map[string]any)[strings.ToLower(params.WithdrawalQueueAddress.Hex()[2:])] = map[string]any{"balance": "0x0", "code": "0xfe"}
		}, "unknown code"},
		{"empty account at 3", func(f map[string]any) {
			f["alloc"].(map[string]any)["0000000000000000000000000000000000000003"] = map[string]any{"balance": "0x0"}
		}, "1 wei"},
		{"small window", func(f map[string]any) { f["ledgerd"].(map[string]any)["dedupWindow"] = 3 }, "dedupWindow"},
		{"two members on local", members("local", "1:a:h:1", "2:b:h:2"), "ledgerd.members: 2, and the local engine orders alone"},
		{"raft without members", members("raft"), "ledgerd.members: none"},
		{"member 0", members("raft", "0:a:h:1"), "ledgerd.members[0].id: 0"},
		{"id twice", members("raft", "1:a:h:1", "1:b:h:2"), "ledgerd.members[1].id: 1"},
		{"no node key", members("raft", "1::h:1"), "ledgerd.members[0].nodeKey: missing"},
		{"node key twice", members("raft", "1:a:h:1", "2:a:h:2"), "ledgerd.members[1].nodeKey: 0a0a"},
		{"no peer address", members("raft", "1:a:h:1", "2:b:"), "ledgerd.members[1].peerAddress: missing"},
		{"peer address without port", members("raft", "1:a:h:1", "2:b:h"), `ledgerd.members[1].peerAddress: "h"`},
		{"peer address without host", members("raft", "1:a:h:1", "2:b::7"), `ledgerd.members[1].peerAddress: ":7"`},
		{"port 0", members("raft", "1:a:h:0"), `ledgerd.members[0].peerAddress: "h:0"`},
		{"peer address twice", members("raft", "1:a:h:1", "2:b:h:1"), "ledgerd.members[1].peerAddress: h:1 is another member's"},
		{"one CometBFT address", func(f map[string]any) {
			members("raft", "1:a:h:1")(f)
			f["ledgerd"].(map[string]any)["members"].([]any)[0].(map[string]any)["cometAddresses"] = []string{"h:2"}
		}, "cometAddresses: 1, want 2"},
		{"administrator twice", func(f map[string]any) {
			f["ledgerd"].(map[string]any)["administrators"] = []string{strings.Repeat("0a", 32), strings.Repeat("0a", 32)}
			f["ledgerd"].(map[string]any)["threshold"] = 1
		}, "twice"},
		{"strict on raft", func(f map[string]any) {
			f["ledgerd"].(map[string]any)["engine"] = "raft"
			f["ledgerd"].(map[string]any)["strictTimestamps"] = true
		}, "strictTimestamps"},
		{"threshold", func(f map[string]any) { f["ledgerd"].(map[string]any)["threshold"] = 2 }, "threshold"},
		{"no permission administrator", func(f map[string]any) {
			f["ledgerd"].(map[string]any)["permissions"] = map[string]any{"restrictSend": true}
		}, "permissions.administrators"},
		{"later fork", func(f map[string]any) { f["config"].(map[string]any)["amsterdamTime"] = 0 }, "config"},
		{"bad key", func(f map[string]any) { f["ledgerd"].(map[string]any)["administrators"] = []string{"zz"} }, "ed25519"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, data := dev(t)
			var file map[string]any
			require.NoError(t, json.Unmarshal(data, &file))
			c.edit(file)
			changed, err := json.Marshal(file)
			require.NoError(t, err)
			_, err = genesis.Parse(changed)
			require.ErrorContains(t, err, c.want)
		})
	}
	for _, junk := range []string{"", "{", "[]", "null", `{"config":3}`} {
		_, err := genesis.Parse([]byte(junk))
		require.Error(t, err, "%q", junk)
	}
}

func FuzzParse(f *testing.F) {
	file, err := genesis.Dev(1, nil).JSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Add([]byte(`{"config":{"chainId":1},"alloc":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := genesis.ParseForInit(data)
		if err != nil {
			return
		}
		if _, err := g.NetworkID(); err != nil {
			t.Fatal(err)
		}
	})
}
