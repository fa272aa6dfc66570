>> {"jsonrpc":"2.0","id":1,"method":"eth_createAccessList","params":[{"gas":"0x186a0","input":"0x01","to":"0x9140629d4bbdf8d0e98d586afe70e7017fb6950d"},"latest"]}
<< {"jsonrpc":"2.0","id":1,"result":{"accessList":[],"error":"out of gas","gasUsed":"0x186a0"}}
