package testnet

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestManifests reads every manifest of this folder.
func TestManifests(t *testing.T) {
	files, err := filepath.Glob("*.toml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		_, err := Load(file)
		require.NoError(t, err)
	}
}

func TestEmptyManifestIsTheDefault(t *testing.T) {
	m, err := Parse(nil)
	require.NoError(t, err)
	require.Equal(t, Default(), m)
	require.Equal(t, 18545+30+PortPeer, m.Port(3, PortPeer))
}

func TestParse(t *testing.T) {
	m, err := Parse([]byte("nodes = 2\nengine = \"local\"\npermissioned = false\n[[fault]]\ndo = \"pause\"\nnode = \"1\"\nfor = \"1500ms\""))
	require.NoError(t, err)
	want := Default()
	want.Nodes, want.Engine, want.Permissioned = 2, "local", false
	want.Faults = []Fault{{Do: Pause, Node: "1", For: 1500 * time.Millisecond}}
	require.Equal(t, want, m)
	require.Equal(t, "pause 1 for 1.5s", m.Faults[0].String())
}

// TestHosts: with hosts a node has an address of its own, and without the shared loopback.
func TestHosts(t *testing.T) {
	m := Default()
	require.Equal(t, "127.0.0.1:18576", m.Address(3, PortPeer))
	m, err := Parse([]byte("observers = 1\nhosts = \"198.18.0.0/24\"\n[[fault]]\ndo=\"cut\"\nnode=\"observer\"\nfor=\"1s\""))
	require.NoError(t, err)
	require.Equal(t, "198.18.0.5:18586", m.Address(4, PortPeer))
	require.True(t, m.Faults[0].Lines())
	require.False(t, Fault{Do: Kill}.Lines())
}

// TestRefusals: every mistake is named, and several at once.
func TestRefusals(t *testing.T) {
	for text, want := range map[string][]string{
		"nodes = ":                               {"manifest"},
		"node = 3":                               {"unknown key node"},
		"[[fault]]\nwhen = 1":                    {"unknown key fault.when", "fault 1: do", "fault 1: node"},
		"nodes = 0\naccounts = 0":                {"nodes: 0", "accounts: 0"},
		"observers = -1":                         {"observers: -1"},
		"observers = 9000":                       {"observers: 9000", "base_port: 18545, and the last port 108584"},
		"nodes = 101":                            {"nodes: 101"},
		"engine = \"\"":                          {"engine: missing"},
		"chain_id = 0":                           {"chain_id: 0"},
		"chain_id = 9007199254740992":            {"chain_id: 9007199254740992"},
		"base_port = 80":                         {"base_port: 80"},
		"base_port = 65500":                      {"base_port: 65500, and the last port 65539"},
		"[[fault]]\ndo=\"kill\"\nnode=\"4\"":     {`fault 1: node: "4"`},
		"hosts = \"198.18.0.0\"":                 {"hosts"},
		"hosts = \"198.18.0.1/24\"":              {"hosts: 198.18.0.1/24"},
		"hosts = \"fd00::/64\"":                  {"hosts: fd00::/64"},
		"[[fault]]\ndo=\"cut\"\nnode=\"leader\"": {`fault 1: do: "cut" needs hosts`},
		"hosts = \"198.18.0.0/24\"\n[[fault]]\ndo=\"mute\"\nnode=\"all\"":        {`node: "all" leaves nobody`},
		"hosts = \"198.18.0.0/24\"\n[[fault]]\ndo=\"deafen\"\nnode=\"observer\"": {`node: "observer", and observers is 0`},
		"observers = 1\n[[fault]]\ndo=\"kill\"\nnode=\"5\"":                      {`fault 1: node: "5"`, "below 5"},
		"[[fault]]\ndo=\"explode\"\nnode=\"all\"\nfor=\"2m\"":                    {`fault 1: do: "explode"`, "for: 2m0s"},
	} {
		_, err := Parse([]byte(text))
		require.Error(t, err, text)
		for _, w := range want {
			require.ErrorContains(t, err, w)
		}
	}
	_, err := Load("none.toml")
	require.Error(t, err)
}
