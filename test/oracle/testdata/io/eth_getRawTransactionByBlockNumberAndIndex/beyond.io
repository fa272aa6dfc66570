>> {"jsonrpc":"2.0","id":1,"method":"eth_getRawTransactionByBlockNumberAndIndex","params":["0x9","0x63"]}
<< {"jsonrpc":"2.0","id":1,"result":"0x"}
