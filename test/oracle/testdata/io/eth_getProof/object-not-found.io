>> {"jsonrpc":"2.0","id":1,"method":"eth_getProof","params":["0x9140629d4bbdf8d0e98d586afe70e7017fb6950d",["0x0"],{"blockHash":"0xdead000000000000000000000000000000000000000000000000000000000000"}]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"header for hash not found"}}
