package request

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ethereum/go-ethereum/common/hexutil"

	"ledgerd/consensus"
	"ledgerd/ledger/genesis"
)

// Names of the formats, with their versions.
const (
	fileFormat      = "ledgerd request 1"
	signatureFormat = "ledgerd signature 1"
)

// file is a request file. The order of its fields is that in the file.
type file struct {
	Format   string   `json:"format"`
	Hash     string   `json:"hash"` // of the request
	Network  string   `json:"network"`
	Epoch    uint64   `json:"epoch"`
	NotAfter uint64   `json:"notAfter"` // the last LSN at which it may come true
	Spec     specForm `json:"spec"`
	Request  string   `json:"request"` // all of it once more, as it is signed
}

type specForm struct {
	Engine         string            `json:"engine"`
	Faults         string            `json:"faults"`
	Params         map[string]string `json:"params,omitempty"`
	Members        []genesis.Member  `json:"members"`
	Administrators []genesis.HexKey  `json:"administrators"`
	Threshold      int               `json:"threshold"`
	Ledger         json.RawMessage   `json:"ledger,omitempty"` // an object; a string in hexadecimal if it is none
}

func newFile(q consensus.Request) file {
	return file{
		Format: fileFormat, Hash: q.Hash().String(), Network: q.NetworkID.String(), Epoch: uint64(q.Epoch), NotAfter: uint64(q.NotAfter), Spec: newSpec(q.Spec),
		Request: hex.EncodeToString(q.Encode()),
	}
}

func newSpec(s consensus.Spec) specForm {
	spec := specForm{
		Engine: s.Engine, Faults: s.Faults.String(), Params: s.Params, Threshold: s.Threshold, Ledger: ledgerForm(s.Ledger),
		Members: []genesis.Member{}, Administrators: []genesis.HexKey{},
	}
	for _, m := range s.Members {
		form := genesis.Member{ID: m.ID, NodeKey: genesis.HexKey(m.NodeKey), ConsensusKey: genesis.HexKey(m.ConsensusKey), PeerAddress: m.PeerAddress}
		if m.CometAddresses != [2]string{} {
			form.CometAddresses = m.CometAddresses[:]
		}
		spec.Members = append(spec.Members, form)
	}
	for _, k := range s.Admins {
		spec.Administrators = append(spec.Administrators, genesis.HexKey(k))
	}
	return spec
}

// ledgerForm shows the ledger's parameters as the object that they usually are.
func ledgerForm(raw []byte) json.RawMessage {
	if len(raw) == 0 || json.Valid(raw) {
		return raw
	}
	text, _ := json.Marshal(hexutil.Encode(raw)) // a string always encodes
	return text
}

// Encode returns a request as the content of a file.
func Encode(q consensus.Request) []byte { return mustIndent(newFile(q)) }

func mustIndent(v any) []byte {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("request: %v", err)) // there is nothing in it that does not encode
	}
	return append(text, '\n')
}

// Decode reads a request file. It may be indented otherwise than Encode does, and no more: an error tells the first line in which it
// does not say what its bytes do (invariant 1).
func Decode(text []byte) (consensus.Request, error) {
	var f struct {
		Format  string `json:"format"`
		Request string `json:"request"`
	}
	if err := json.Unmarshal(text, &f); err != nil || f.Format != fileFormat {
		return consensus.Request{}, fmt.Errorf("not a %q", fileFormat)
	}
	raw, err := hex.DecodeString(f.Request)
	if err != nil {
		return consensus.Request{}, fmt.Errorf("its bytes are not hexadecimal: %w", err)
	}
	q, err := consensus.DecodeRequest(raw)
	if err != nil {
		return consensus.Request{}, err
	}
	return q, saysTheSame(text, Encode(q))
}

// saysTheSame compares the text of a file, however it is indented, with what its bytes make of it (invariant 1).
func saysTheSame(text, encoded []byte) error {
	var have bytes.Buffer
	if err := json.Indent(&have, text, "", "  "); err != nil {
		return err
	}
	said, meant := strings.Split(strings.TrimSpace(have.String()), "\n"), strings.Split(strings.TrimSpace(string(encoded)), "\n")
	for i := range max(len(said), len(meant)) {
		if a, b := line(said, i), line(meant, i); a != b {
			return fmt.Errorf("it says %s where the bytes that are signed say %s; do not sign", a, b)
		}
	}
	return nil
}

func line(lines []string, i int) string {
	if i >= len(lines) {
		return "nothing"
	}
	return strings.TrimSuffix(strings.TrimSpace(lines[i]), ",")
}

// signatureFile is an administrator's signature over a request or a recovery.
type signatureFile struct {
	Format    string         `json:"format"`
	Request   string         `json:"request"` // its hash
	Key       genesis.HexKey `json:"key"`
	Signature string         `json:"signature"`
}

// Signable is what administrators sign: a consensus.Request or a consensus.Recovery.
type Signable interface {
	Hash() consensus.Digest
	SigningMessage() []byte
	Sign(ed25519.PrivateKey) consensus.Signature
}

// EncodeSignature returns a signature as the content of a file.
func EncodeSignature(q Signable, s consensus.Signature) []byte {
	return mustIndent(signatureFile{
		Format: signatureFormat, Request: q.Hash().String(), Key: genesis.HexKey(s.Key), Signature: hex.EncodeToString(s.Bytes[:]),
	})
}

// DecodeSignature reads what EncodeSignature wrote. It is an error if the signature is over something else, or not the key's.
func DecodeSignature(q Signable, text []byte) (consensus.Signature, error) {
	var f signatureFile
	if err := decodeStrictly(text, &f); err != nil {
		return consensus.Signature{}, err
	}
	raw, err := hex.DecodeString(f.Signature)
	s := consensus.Signature{Key: ed25519.PublicKey(f.Key)}
	switch {
	case f.Format != signatureFormat:
		return consensus.Signature{}, fmt.Errorf("not a %q", signatureFormat)
	case f.Request != q.Hash().String():
		return consensus.Signature{}, fmt.Errorf("it signs request %s, this is %v", f.Request, q.Hash())
	case err != nil || len(raw) != ed25519.SignatureSize || len(s.Key) != ed25519.PublicKeySize || !ed25519.Verify(s.Key, q.SigningMessage(), raw):
		return consensus.Signature{}, fmt.Errorf("the signature is not that of key %x", []byte(f.Key))
	}
	copy(s.Bytes[:], raw)
	return s, nil
}

// decodeStrictly decodes one JSON value without unknown keys.
func decodeStrictly(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more follows after the JSON value")
	}
	return nil
}
