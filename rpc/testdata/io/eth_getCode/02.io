>> {"id":1,"jsonrpc":"2.0","method":"eth_getCode","params":["0x576c4d4867694de2aef160fb6e03145a5332285c","latest"]}
<< {"jsonrpc":"2.0","id":1,"result":"0x"}
