>> {"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":["0x9fbc26dded942b13318eda89513b51314a446b16",{"blockHash":"0xdead000000000000000000000000000000000000000000000000000000000000"}]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"header for hash not found"}}
