package rpc

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
)

// FuzzRequest: whatever a client posts, the answer is JSON and no method panics. The methods that wait are left out.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"to":"0xe317700000000000000000000000000000000001","data":"0x01"},"latest",{},{"time":"0x1"}]}`,
		`{"jsonrpc":"2.0","id":1,"method":"eth_getLogs","params":[{"fromBlock":"0x0","toBlock":"latest","address":[],"topics":[null,["0x00"]]}]}`,
		`{"jsonrpc":"2.0","id":1,"method":"eth_feeHistory","params":["0xffffffffffffffff","latest",[0,1.5,100]]}`,
		`{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["0x1",true]}`,
		`{"jsonrpc":"2.0","id":1,"method":"eth_getStorageAt","params":["0xe317700000000000000000000000000000000001","0x","pending"]}`,
		`{"jsonrpc":"2.0","id":1,"method":"eth_sendTransaction","params":[{"from":"0x328809bc894f92807417d2dad6b7c998c1afdac6","data":"0x00"}]}`,
		`{"jsonrpc":"2.0","id":1,"method":"eth_signTypedData_v4","params":["0x328809bc894f92807417d2dad6b7c998c1afdac6","{}"]}`,
		`{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["0x02c0"]}`,
		`{"jsonrpc":"2.0","id":1,"method":"log_read","params":[3,18446744073709551615]}`,
		`[{"jsonrpc":"2.0","id":1,"method":"eth_chainId"},{"jsonrpc":"2.0","method":"eth_chainId"},null,1]`,
		`[[[[`, `{}`, `null`, ``,
	} {
		f.Add(seed)
	}
	chain := newFakeChain(f)
	chain.mine(alice.emit(0, common.Hash{1}), alice.transfer(1))
	server, err := New(chain, fakePool{chain}, fakeLog{chain}, Options{KeyStore: fakeKeys{alice}, CallGas: 100_000})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body string) {
		if strings.Contains(body, "Sync") {
			return
		}
		r := httptest.NewRequest("POST", "http://localhost/", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		server.Handler().ServeHTTP(w, r)
		answer := w.Body.String()
		if answer != "" && !json.Valid([]byte(answer)) {
			t.Errorf("%s\nanswer is not JSON: %s", body, answer)
		}
		if strings.Contains(answer, "method handler crashed") {
			t.Errorf("%s\npanic", body)
		}
	})
}
