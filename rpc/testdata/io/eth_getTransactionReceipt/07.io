>> {"id":1,"jsonrpc":"2.0","method":"eth_getTransactionReceipt","params":["0x0900000000000000000000000000000000000000000000000000000000000000"]}
<< {"jsonrpc":"2.0","id":1,"result":null}
