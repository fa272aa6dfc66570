>> {"jsonrpc":"2.0","id":1,"method":"eth_getStorageAt","params":["0x4716ab38a1859ade5eb5f03defa988f9cfc206d4","0x0","latest"]}
<< {"jsonrpc":"2.0","id":1,"result":"0x0000000000000000000000000000000000000000000000000000000000000000"}
