>> {"jsonrpc":"2.0","id":1,"method":"eth_getUncleByBlockHashAndIndex","params":["0xdead000000000000000000000000000000000000000000000000000000000000","0x0"]}
<< {"jsonrpc":"2.0","id":1,"result":null}
