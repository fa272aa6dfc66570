>> {"jsonrpc":"2.0","id":1,"method":"eth_getHeaderByHash","params":["0xdead000000000000000000000000000000000000000000000000000000000000"]}
<< {"jsonrpc":"2.0","id":1,"result":null}
