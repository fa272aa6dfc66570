>> {"jsonrpc":"2.0","id":1,"method":"eth_getCode","params":["0x9140629d4bbdf8d0e98d586afe70e7017fb6950d","earliest"]}
<< {"jsonrpc":"2.0","id":1,"result":"0x"}
